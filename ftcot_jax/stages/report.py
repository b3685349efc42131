"""The report: tables and plots from finished artefacts alone, also while a sweep is still running."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from ftcot_jax.artifacts import Artifact, write_atomically
from ftcot_jax.config import Recipe, TrialRecipe
from ftcot_jax.errors import FtcotError
from ftcot_jax.evaluation.asking import Part
from ftcot_jax.evaluation.score_teacher import score_teacher
from ftcot_jax.stages.api_student import ApiJob, find_api_scores
from ftcot_jax.stages.data import COMPLETIONS, collect_completions
from ftcot_jax.stages.evaluate import PREDICTIONS, find_scores, read_outcomes, selected_step
from ftcot_jax.stages.grid import Grid
from ftcot_jax.stages.place import Place, digest
from ftcot_jax.stages.trials import Job, find_student
from ftcot_jax.sweeps.paired_table import paired_table
from ftcot_jax.sweeps.plots import plot_accuracy_over_diversity, plot_accuracy_over_epochs
from ftcot_jax.sweeps.results import TrialResult, arms
from ftcot_jax.sweeps.tables import arm_table, epoch_table, markdown, time_table, trial_csv, writing_table
from ftcot_jax.tasks.templates import Template, get_template
from ftcot_jax.teacher.completion import read_completions


def report(place: Place, recipe: Recipe, specs: Sequence[TrialRecipe], grid: Grid) -> str:
    """Writes ``report/`` in the run's folder and returns its Markdown.

    Raises:
      FtcotError: no trial is finished yet.
    """
    with place.timed("report"):
        found = [_result(place, job) for job in grid.jobs] + [_api_result(place, job) for job in grid.api_jobs]
        order = {spec.name: number for number, spec in enumerate(specs)}
        results = sorted((row for row in found if row is not None), key=lambda row: order[row.name])
        if not results:
            raise FtcotError(f"{place.folder}: none of the {len(grid)} trials is finished; run `ftcot run` first")
        name = f"{recipe.name}: {place.task(specs[0].recipe).task.key}"
        with place.writing("report") as folder:
            text = _write(name, results, len(grid) - len(results), _teacher_table(place, grid), folder)
            write_atomically(epath.Path(folder / "report.md"), text)
            write_atomically(epath.Path(folder / "trials.csv"), trial_csv(results))
            rows = [dataclasses.asdict(result) for result in results]
            write_atomically(epath.Path(folder / "trials.json"), json.dumps(rows, indent=1))
        return text


def _write(name: str, results: Sequence[TrialResult], missing: int, teachers: str, folder: Path) -> str:
    grouped = arms(results)
    questions = results[0].scores["questions"]
    seeds = max(len(arm.trials) for arm in grouped)
    title = f"{name}, {questions} held-out questions, {seeds} seed{'s' * (seeds > 1)}"
    title += _selection_label(results)
    parts = [f"# {title}\n"]
    if missing:
        parts.append(f"{missing} of {missing + len(results)} trials are not finished yet.\n")
    parts.append(arm_table(grouped))
    if teachers:
        parts.append(f"## The teacher\n\n{teachers}")
    if plot_accuracy_over_diversity(grouped, title, folder / "accuracy_over_diversity"):
        parts.append("![accuracy over D](accuracy_over_diversity.svg)\n")
    if (compared := paired_table(grouped)) is not None:
        parts.append(f"## Paired tests\n\n{compared}")
    parts.append(f"## How the answers were written\n\n{writing_table(grouped)}")
    if (epochs := epoch_table(grouped)) is not None:
        validated = any(row.chosen_by == "best_on_validation" for row in results)
        parts.append(f"## Accuracy % by epoch{' (validation questions)' * validated}\n\n{epochs}")
        if plot_accuracy_over_epochs(grouped, title, folder / "accuracy_over_epochs"):
            parts.append("![accuracy over epochs](accuracy_over_epochs.svg)\n")
    trained = [row for row in results if row.training is not None]
    if trained:
        parts.append(f"## Training\n\n{_training_table(trained)}")
        if stopped := _stopped(trained):
            parts.append(stopped)
        parts.append(f"## Where the training time went\n\n{time_table(trained)}")
    return "\n".join(parts)


def _result(place: Place, job: Job) -> TrialResult | None:
    trained, step = find_student(place, job), selected_step(place, job)
    scores = None if step is None else find_scores(place, job, step)
    if step is None or scores is None or (trained is None and job.trains):
        return None
    before = find_scores(place, job, 0) if job.trains else None
    result = _scored(job.spec, place.template(job.spec.recipe), scores)
    if not job.trains:
        return result
    return dataclasses.replace(
        result,
        training=None if trained is None else trained.manifest["summary"],
        before=None if before is None else before.manifest["summary"],
        selection=dataclasses.asdict(job.records.selection.report),
        chosen_by=job.spec.recipe.evaluate.selection,
        epoch=round(job.epochs_at(step), 3),
        looks=_looks(place, job),
    )


def _api_result(place: Place, job: ApiJob) -> TrialResult | None:
    scores = find_api_scores(place, job)
    if scores is None:
        return None
    return dataclasses.replace(_scored(job.spec, job.asking.template, scores), selection=job.selection)


def _scored(spec: TrialRecipe, template: Template, scores: Artifact) -> TrialResult:
    """What is known of any scored student, however it came about."""
    select = spec.recipe.select
    return TrialResult(
        name=spec.name,
        arm=spec.arm,
        diversity=select.diversity if template.has_rationale else None,
        per_question=select.per_question,
        has_rationale=template.has_rationale,
        asked=_asked(scores),
        outcomes=read_outcomes(scores),
        training=None,
        scores=scores.manifest["summary"],
        before=None,
        selection=None,
        chosen_by="last",
        epoch=0.0,
        looks=[],
    )


def _asked(scores: Artifact) -> list[str]:
    """A digest of each question asked, in order; the same in trials whose split or seed gives it another index."""
    rows = read_completions(scores.on_disk(PREDICTIONS)).completions
    return list({row.sample_index: digest(row.question, row.answer) for row in rows}.values())


def _looks(place: Place, job: Job) -> list[tuple[float, float]]:
    """Accuracy after each epoch scored, on the questions that epochs are chosen by."""
    part: Part = "validation" if job.spec.recipe.evaluate.selection == "best_on_validation" else "test"
    found = []
    for step in sorted({*job.looks, job.steps}):
        scores = find_scores(place, job, step, part)
        if scores is not None:
            found.append((round(job.epochs_at(step), 2), float(scores.manifest["summary"]["accuracy"])))
    return found


def _teacher_table(place: Place, grid: Grid) -> str:
    """What the teachers of these trials get right, test questions first; empty where no trial has one."""
    rows: dict[str, list[list[str]]] = {}
    for recipe in (spec.recipe for spec in grid.specs):
        if recipe.teacher is None or not get_template(recipe.template).has_rationale:
            continue
        source = collect_completions(place, recipe)
        if source.address in rows:
            continue
        file = read_completions(source.on_disk(COMPLETIONS))
        template = file.metadata.get("prediction_template") or "zs_cot"
        prefix = get_template(template).answer_prefix
        rows[source.address] = [
            [
                f"{file.metadata.get('base_model') or recipe.teacher.model_name} ({template})",
                score.part,
                str(score.questions),
                str(score.completions),
                f"{100 * score.accuracy:.1f}",
                "-" if score.interval is None else f"{100 * score.interval.low:.1f} - {100 * score.interval.high:.1f}",
            ]
            for score in score_teacher(place.task(recipe), file.completions, prefix, recipe.scoring)
        ]
    head = ["teacher", "split", "questions", "completions", "accuracy %", "95% interval"]
    lines = [line for found in rows.values() for line in found]
    return markdown(head, lines) if lines else ""


def _selection_label(results: Sequence[TrialResult]) -> str:
    """How epochs were chosen, where it was not simply the last."""
    rules = {row.chosen_by for row in results} - {"last"}
    words = {
        "best_on_test": "best epoch chosen ON THE TEST SET, as in the paper: optimistic",
        "best_on_validation": "best epoch chosen on validation questions",
    }
    return "".join(f" ({words[rule]})" for rule in sorted(rules))


def _stopped(results: Sequence[TrialResult]) -> str:
    """A line for each trial that was stopped early; empty if none was."""
    found = [(row, row.training) for row in results if row.training is not None and row.training.get("stopped_early")]
    lines = [
        f"- {row.name}: stopped early at epoch {training['epochs']:g}, its best epoch {row.epoch:g} is reported"
        for row, training in found
    ]
    note = "Means by epoch are of the trials that were still in training.\n"
    return "\n".join([*lines, "", note]) if lines else ""


def _training_table(results: Sequence[TrialResult]) -> str:
    """A row a trained trial: loss, speed, accuracy before and after."""
    head = ["trial", "loss, first to last 5%", "accuracy % before -> after", "examples/s", "rows filled %"]
    head += ["waiting for input %", "training s", "scoring s"]
    rows = []
    for row in results:
        training = row.training
        assert training is not None
        before = "" if row.before is None else f"{100 * row.before['accuracy']:.1f} -> "
        speed = training["examples_per_second"]
        losses = f"{training['loss_first']:.3f} -> {training['loss_last']:.3f}"
        accuracy = f"{before}{100 * row.scores['accuracy']:.1f}"
        shares = [f"{100 * training[name]:.1f}" for name in ("packing_efficiency", "input_wait_share")]
        seconds = [f"{part['seconds']:.1f}" for part in (training, row.scores)]
        rows.append([row.name, losses, accuracy, "" if speed is None else f"{speed:.1f}", *shares, *seconds])
    return markdown(head, rows)
