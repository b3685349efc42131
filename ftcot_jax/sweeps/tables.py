"""The report's tables of arms and trials."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from ftcot_jax.sweeps.results import ArmResult, TrialResult
from ftcot_jax.sweeps.table import Table
from ftcot_jax.training.clock import PARTS

_WRITING = ("contains_answer", "correct_format", "complete")
_TRAINING = ("records", "steps", "epochs", "loss_first", "loss_last", "examples_per_second", "seconds")
_CONDITION = ("task", "method", "student", "family", "parameters", "teacher", "subset", "train_questions")


def arm_table(arms: Sequence[ArmResult]) -> Table:
    """A row an arm, accuracy in per cent with its 95% interval, and what it was trained on."""
    head = [
        "method",
        "accuracy %",
        "95% interval",
        "each seed",
        "training texts",
        "questions covered",
        "steps",
        "epochs",
    ]
    rows = []
    for arm in arms:
        covered, questions = arm.mean("selection", "covered"), arm.mean("selection", "questions")
        rows.append(
            [
                arm.arm,
                _percent(arm.accuracy),
                f"{_percent(arm.interval.low)} - {_percent(arm.interval.high)}",
                " ".join(_percent(accuracy) for accuracy in arm.by_seed),
                _number(arm.mean("selection", "kept")),
                "-" if covered is None or not questions else f"{100 * covered / questions:.0f}%",
                _number(arm.mean("training", "steps")),
                _number(arm.mean("training", "epochs"), 1),
            ]
        )
    return Table("arms", "Accuracy", head, rows)


def writing_table(arms: Sequence[ArmResult]) -> Table:
    """How each arm's answers were written; shares of its texts in per cent, means over seeds."""
    samples = max(arm.trials[0].samples for arm in arms)
    degrees = sorted({int(k) for arm in arms for k in arm.trials[0].scores.get("pass_at", {}) if int(k) > 1})
    head = ["method", "contains answer %", "right format %", "complete %", "prompt too long"]
    head += ["samples", *(f"pass@{k} %" for k in degrees), "majority %", "no majority"] if samples > 1 else []
    rows = []
    for arm in arms:
        texts = arm.mean("scores", "texts") or 1
        row = [arm.arm]
        row += [_percent((arm.mean("scores", name) or 0) / texts) for name in _WRITING]
        lost = [arm.mean("scores", name) for name in ("prompt_too_long", "refused")]
        row.append(_number(sum(value for value in lost if value is not None)))
        if samples > 1:
            passed = [[trial.scores.get("pass_at", {}).get(str(k)) for trial in arm.trials] for k in degrees]
            row += [str(arm.trials[0].samples)]
            row += ["-" if None in values else _percent(sum(values) / len(values)) for values in passed]
            row += [_percent(arm.mean("scores", "majority_accuracy")), _number(arm.mean("scores", "no_majority"))]
        rows.append(row)
    return Table("writing", "How the answers were written", head, rows)


def epoch_table(arms: Sequence[ArmResult]) -> Table | None:
    """Accuracy in per cent at every epoch scored, mean over seeds; None where no trial has two scores."""
    curves = {arm.arm: epoch_curve(arm) for arm in arms}
    if not any(curves.values()):
        return None
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    rows = [
        [name, *(_percent(curve[epoch]) if epoch in curve else "-" for epoch in epochs)]
        for name, curve in curves.items()
        if curve
    ]
    asked = " (validation questions)" if any(arm.trials[0].chosen_by == "best_on_validation" for arm in arms) else ""
    return Table("epochs", f"Accuracy % by epoch{asked}", ["epoch", *(f"{epoch:g}" for epoch in epochs)], rows)


def epoch_curve(arm: ArmResult) -> dict[float, float]:
    """Accuracy by epoch, mean over the seeds scored there; empty where each was scored at its end only."""
    found: dict[float, list[float]] = {}
    for trial in arm.trials if any(len(trial.looks) > 1 for trial in arm.trials) else ():
        for epoch, accuracy in trial.looks:
            found.setdefault(epoch, []).append(accuracy)
    return {epoch: sum(values) / len(values) for epoch, values in sorted(found.items())}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _number(value: float | None, decimals: int = 0) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def training_table(results: Sequence[TrialResult]) -> Table | None:
    """A row a trained trial: loss, speed, accuracy before and after; None where none was trained."""
    head = ["trial", "loss, first to last 5%", "accuracy % before -> after", "examples/s", "rows filled %"]
    head += ["waiting for input %", "training s", "scoring s"]
    rows = []
    for row in results:
        training = row.training
        if training is None:
            continue
        before = "" if row.before is None else f"{100 * row.before['accuracy']:.1f} -> "
        speed = training["examples_per_second"]
        losses = f"{training['loss_first']:.3f} -> {training['loss_last']:.3f}"
        accuracy = f"{before}{100 * row.scores['accuracy']:.1f}"
        shares = [f"{100 * training[name]:.1f}" for name in ("packing_efficiency", "input_wait_share")]
        seconds = [f"{part['seconds']:.1f}" for part in (training, row.scores)]
        rows.append([row.name, losses, accuracy, "" if speed is None else f"{speed:.1f}", *shares, *seconds])
    return Table("training", "Training", head, rows, notes=_stopped(results)) if rows else None


def _stopped(results: Sequence[TrialResult]) -> list[str]:
    """A note on each trial that was stopped early; none if none was."""
    found = [(row, row.training) for row in results if row.training is not None and row.training.get("stopped_early")]
    notes = [
        f"{row.name}: stopped early at epoch {training['epochs']:g}, its best epoch {row.epoch:g} is reported"
        for row, training in found
    ]
    return [*notes, "Means by epoch are of the trials that were still in training."] if notes else []


def time_table(results: Sequence[TrialResult]) -> Table | None:
    """Where the wall time of each trained trial went, in per cent, and how much the devices were used.

    Trials that shared a pool each saw all of its time while they were in a slot. None where none was trained.
    """
    rows = []
    for row in results:
        training = row.training
        if training is None:
            continue
        total, mfu = sum(training["spent"].values()), training["mfu"]
        shares = [f"{100 * training['spent'][part] / total:.1f}" for part in PARTS]
        rows.append([row.name, f"{total:.1f}", *shares, "" if mfu is None else f"{100 * mfu:.2f}"])
    head = ["trial", "training s", *(f"{part} %" for part in PARTS), "MFU %"]
    return Table("time", "Where the training time went", head, rows) if rows else None


def trial_csv(results: Sequence[TrialResult]) -> str:
    """CSV: a row a trial, accuracies in [0, 1]."""
    out = io.StringIO()
    writer = csv.writer(out)
    asked = ["accuracy", "low95", "high95", "correct", "questions", "accuracy_before"]
    learned = [*_TRAINING[:-1], "train_seconds"]
    last = ["chosen_by", "epoch_reported", "samples", *_WRITING, "mfu", *(f"{part}_seconds" for part in PARTS)]
    named = [*_CONDITION, "teacher_dollars", "train_chip_seconds", "score_chip_seconds", "dollars"]
    writer.writerow(["trial", "arm", "diversity", *asked, *learned, *last, *named])
    for row in results:
        writer.writerow(_values(row))
    return out.getvalue()


def _values(row: TrialResult) -> list[Any]:
    scores, training = row.scores, row.training or {}
    before = None if row.before is None else row.before["accuracy"]
    asked = [scores["accuracy"], *scores["interval_95"], scores["correct"], scores["questions"], before]
    learned = [training.get(name) for name in _TRAINING]
    last = [row.chosen_by, row.epoch, row.samples, *(scores[name] for name in _WRITING)]
    used = [training.get("mfu"), *(training.get("spent", {}).get(part) for part in PARTS)]
    cost = row.cost
    named = [getattr(row.condition, name) for name in _CONDITION]
    named += [cost.teacher_dollars, cost.train_chip_seconds, cost.score_chip_seconds, cost.dollars]
    return [row.name, row.arm, row.condition.diversity, *asked, *learned, *last, *used, *named]
