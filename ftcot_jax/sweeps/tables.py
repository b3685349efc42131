"""The report's tables of arms and trials, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from ftcot_jax.sweeps.results import ArmResult, TrialResult
from ftcot_jax.training.clock import PARTS

_WRITING = ("contains_answer", "correct_format", "complete")
_TRAINING = ("records", "steps", "epochs", "loss_first", "loss_last", "examples_per_second", "seconds")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar or line break in a cell is defused."""
    first, *rest = (f"| {' | '.join(_cell(cell) for cell in line)} |" for line in (head, *rows))
    return "\n".join([first, "|" + "---|" * len(head), *rest]) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def arm_table(arms: Sequence[ArmResult]) -> str:
    """Markdown: a row an arm, accuracy in per cent with its 95% interval, and what it was trained on."""
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
    return markdown(head, rows)


def writing_table(arms: Sequence[ArmResult]) -> str:
    """Markdown: how each arm's answers were written; shares of its texts in per cent, means over seeds."""
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
    return markdown(head, rows)


def epoch_table(arms: Sequence[ArmResult]) -> str | None:
    """Markdown: accuracy in per cent at every epoch scored, mean over seeds; None where there was one score at most."""
    curves = {arm.arm: epoch_curve(arm) for arm in arms}
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    if len(epochs) < 2:
        return None
    rows = [
        [name, *(_percent(curve[epoch]) if epoch in curve else "-" for epoch in epochs)]
        for name, curve in curves.items()
        if curve
    ]
    return markdown(["epoch", *(f"{epoch:g}" for epoch in epochs)], rows)


def epoch_curve(arm: ArmResult) -> dict[float, float]:
    """Accuracy by epoch, mean over the seeds scored there."""
    found: dict[float, list[float]] = {}
    for trial in arm.trials:
        for epoch, accuracy in trial.looks:
            found.setdefault(epoch, []).append(accuracy)
    return {epoch: sum(values) / len(values) for epoch, values in sorted(found.items())}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _number(value: float | None, decimals: int = 0) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def time_table(results: Sequence[TrialResult]) -> str:
    """Markdown: where the wall time of each trained trial went, in per cent, and how much the devices were used.

    Trials that shared a pool each saw all of its time while they were in a slot.
    """
    rows = []
    for row in results:
        training = row.training
        assert training is not None
        total, mfu = sum(training["spent"].values()), training["mfu"]
        shares = [f"{100 * training['spent'][part] / total:.1f}" for part in PARTS]
        rows.append([row.name, f"{total:.1f}", *shares, "" if mfu is None else f"{100 * mfu:.2f}"])
    return markdown(["trial", "training s", *(f"{part} %" for part in PARTS), "MFU %"], rows)


def trial_csv(results: Sequence[TrialResult]) -> str:
    """CSV: a row a trial, accuracies in [0, 1]."""
    out = io.StringIO()
    writer = csv.writer(out)
    asked = ["accuracy", "low95", "high95", "correct", "questions", "accuracy_before"]
    learned = [*_TRAINING[:-1], "train_seconds"]
    last = ["chosen_by", "epoch_reported", "samples", *_WRITING, "mfu", *(f"{part}_seconds" for part in PARTS)]
    writer.writerow(["trial", "arm", "diversity", *asked, *learned, *last])
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
    return [row.name, row.arm, row.diversity, *asked, *learned, *last, *used]
