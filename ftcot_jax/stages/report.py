"""The report: tables and plots from finished artefacts alone, also while a sweep is still running."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftcot_jax.artifacts import write_atomically
from ftcot_jax.config import Recipe
from ftcot_jax.errors import FtcotError
from ftcot_jax.stages.evaluate import find_scores, read_outcomes, selected_step
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.trials import Job, find_student
from ftcot_jax.sweeps.plots import plot_accuracy_over_diversity
from ftcot_jax.sweeps.results import TrialResult, arms
from ftcot_jax.sweeps.tables import arm_table, time_table, trial_csv


def report(place: Place, recipe: Recipe, jobs: Sequence[Job]) -> str:
    """Writes ``report/`` in the run's folder and returns its Markdown.

    Raises:
      FtcotError: no trial is finished yet.
    """
    with place.timed("report"):
        results = [result for job in jobs if (result := _result(place, job)) is not None]
        if not results:
            raise FtcotError(f"{place.folder}: none of the {len(jobs)} trials is finished; run `ftcot run` first")
        folder = Path(place.folder / "report")
        folder.mkdir(parents=True, exist_ok=True)
        grouped = arms(results)
        missing = len(jobs) - len(results)
        data = place.task(jobs[0].spec.recipe)
        questions = results[0].scores["questions"]
        seeds = max(len(arm.trials) for arm in grouped)
        title = f"{recipe.name}: {data.task.key}, {questions} held-out questions, {seeds} seed{'s' * (seeds > 1)}"
        title += _selection_label(results)
        drawn = plot_accuracy_over_diversity(grouped, title, folder / "accuracy_over_diversity")
        unfinished = f"\n{missing} of {len(jobs)} trials are not finished yet.\n" if missing else ""
        text = f"# {title}\n{unfinished}\n{arm_table(grouped)}\n{_training_lines(results)}\n{time_table(results)}"
        if drawn:
            text += "\n![accuracy over D](accuracy_over_diversity.svg)\n"
        write_atomically(place.folder / "report" / "report.md", text)
        write_atomically(place.folder / "report" / "trials.csv", trial_csv(results))
        rows = [dataclasses.asdict(result) for result in results]
        write_atomically(place.folder / "report" / "trials.json", json.dumps(rows, indent=1))
        return text


def _result(place: Place, job: Job) -> TrialResult | None:
    trained, step = find_student(place, job), selected_step(place, job)
    scores = None if step is None else find_scores(place, job, step)
    if trained is None or step is None or scores is None:
        return None
    before = find_scores(place, job, 0)
    select, template = job.spec.recipe.select, place.template(job.spec.recipe)
    return TrialResult(
        name=job.spec.name,
        arm=job.spec.arm,
        diversity=select.diversity if template.has_rationale else None,
        per_question=select.per_question,
        has_rationale=template.has_rationale,
        outcomes=read_outcomes(scores),
        training=trained.manifest["summary"],
        scores=scores.manifest["summary"],
        before=None if before is None else before.manifest["summary"],
        selection=dataclasses.asdict(job.records.selection.report),
        chosen_by=job.spec.recipe.evaluate.selection,
        epoch=round(job.data.epochs_at(step), 3),
    )


def _selection_label(results: Sequence[TrialResult]) -> str:
    """How epochs were chosen, where it was not simply the last."""
    rules = {row.chosen_by for row in results} - {"last"}
    words = {
        "best_on_test": "best epoch chosen ON THE TEST SET, as in the paper: optimistic",
        "best_on_validation": "best epoch chosen on validation questions",
    }
    return "".join(f" ({words[rule]})" for rule in sorted(rules))


def _training_lines(results: Sequence[TrialResult]) -> str:
    """A line a trial: loss, speed, accuracy before and after."""
    head = ("trial", "loss, first to last 5%", "accuracy % before -> after", "examples/s", "rows filled %")
    lines = [
        "| " + " | ".join([*head, "waiting for input %", "training s", "scoring s"]) + " |",
        "|" + "---|" * (len(head) + 3),
    ]
    for row in results:
        training: dict[str, Any] = row.training
        before = "" if row.before is None else f"{100 * row.before['accuracy']:.1f} -> "
        speed = training["examples_per_second"]
        losses = f"{training['loss_first']:.3f} -> {training['loss_last']:.3f}"
        accuracy = f"{before}{100 * row.scores['accuracy']:.1f}"
        shares = [f"{100 * training[name]:.1f}" for name in ("packing_efficiency", "input_wait_share")]
        seconds = [f"{part['seconds']:.1f}" for part in (training, row.scores)]
        cells = [row.name, losses, accuracy, "" if speed is None else f"{speed:.1f}", *shares, *seconds]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
