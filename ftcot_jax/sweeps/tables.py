"""The report's tables, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from ftcot_jax.sweeps.results import ArmResult, TrialResult


def arm_table(arms: Sequence[ArmResult]) -> str:
    """Markdown: a row an arm, accuracy in per cent with its 95% interval, and what it was trained on."""
    lines = [
        "| method | accuracy % | 95% interval | each seed | training texts | questions covered | steps | epochs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        seeds = " ".join(f"{100 * accuracy:.1f}" for accuracy in arm.by_seed)
        covered, questions = arm.mean("selection", "covered"), arm.mean("selection", "questions")
        lines.append(
            f"| {arm.arm} | {100 * arm.accuracy:.1f} | {100 * arm.interval.low:.1f} - {100 * arm.interval.high:.1f} "
            f"| {seeds} | {arm.mean('selection', 'kept'):.0f} | {100 * covered / questions:.0f}% "
            f"| {arm.mean('training', 'steps'):.0f} | {arm.mean('training', 'epochs'):.1f} |"
        )
    return "\n".join(lines) + "\n"


def time_table(results: Sequence[TrialResult]) -> str:
    """Markdown: where the wall time of each trial's training went, in per cent, and how much the devices were used.

    Trials that shared a pool each saw all of its time while they were in a slot.
    """
    parts = list(results[0].training["spent"])
    head = ["trial", "training s", *(f"{part} %" for part in parts), "MFU %"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in results:
        total, mfu = sum(row.training["spent"].values()), row.training["mfu"]
        shares = [f"{100 * row.training['spent'][part] / total:.1f}" for part in parts]
        cells = [row.name, f"{total:.1f}", *shares, "" if mfu is None else f"{100 * mfu:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def trial_csv(results: Sequence[TrialResult]) -> str:
    """CSV: a row a trial, accuracies in [0, 1]."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        [
            "trial",
            "arm",
            "diversity",
            "accuracy",
            "low95",
            "high95",
            "correct",
            "questions",
            "accuracy_before",
            "records",
            "steps",
            "epochs",
            "loss_first",
            "loss_last",
            "examples_per_second",
            "train_seconds",
            "chosen_by",
            "epoch_reported",
            "mfu",
            *(f"{part}_seconds" for part in results[0].training["spent"]),
        ]
    )
    for row in results:
        before = None if row.before is None else row.before["accuracy"]
        scores, training = row.scores, row.training
        learned = ("records", "steps", "epochs", "loss_first", "loss_last", "examples_per_second", "seconds")
        asked = [scores["accuracy"], *scores["interval_95"], scores["correct"], scores["questions"], before]
        writer.writerow(
            [
                *(row.name, row.arm, row.diversity, *asked, *(training[name] for name in learned)),
                *(row.chosen_by, row.epoch, training["mfu"], *training["spent"].values()),
            ]
        )
    return out.getvalue()
