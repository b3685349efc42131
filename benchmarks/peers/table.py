"""The peers' figures as Markdown, from their JSON: `python -m benchmarks.peers.table FILE ...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.blocks import spread


def table(figures: dict[str, Any]) -> str:
    """Every part of the JSON that is there, as text and one table each.

    Args:
      figures: as `python -m benchmarks.peers`, `benchmarks.train_step` or `benchmarks.cell` wrote them.
    """
    parts = [write(figures[name]) for name, write in _PARTS.items() if name in figures]
    if figures.get("left_out"):
        parts.append("Left out: " + "; ".join(figures["left_out"]) + ".")
    return "\n\n".join(parts) + "\n"


def training_table(training: dict[str, Any]) -> str:
    """Training, one row a program."""
    programs = training["programs"]
    lines = [
        f"Training on {training['task']}: {training['records']} records, longest {training['longest']} and "
        f"{training['mean_length']:.0f} tokens on average, {training['batch']} a step, loss on labels, dropout "
        f"{'on' if training['dropout'] else 'off'}. {training['blocks']} turns of {training['steps_a_block']} steps "
        "each, a turn's first step not counted; middle of the turns, and their range.",
        "",
        "| program | examples/s | real tokens/s | s a step | peak memory, GB | ours is faster by | first loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in programs.items():
        cells = [
            f"{name}: {row['does']}",
            spread(row["examples_per_second"]),
            spread(row["tokens_per_second"], 0),
            f"{row['step_seconds']:.2f}",
            f"{row['peak_bytes'] / 1e9:.1f}",
            "" if name == "ours" else spread(row["ours_faster"]),
            f"{row['first_loss']:.5f}{_beside_ours(row, programs['ours'])}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "; ".join(f"{name}: {row['program']}" for name, row in programs.items()) + "."]
    return "\n".join(lines)


def _beside_ours(row: dict[str, Any], ours: dict[str, Any]) -> str:
    """How far a first loss is from ours, where both are of the same records."""
    if row is ours:
        return ""
    return f" ({row['first_loss'] - ours['first_loss']:+.1e})" if row["same_steps"] else " of other records"


def writing_table(writing: dict[str, Any]) -> str:
    """Generation, one row a program."""
    lines = [
        f"Writing: {writing['prompts']} prompts, {writing['tokens']} tokens to write, texts as long as the published "
        f"ones; {writing['turns']} turns after a first that is not counted; middle and range.",
        "",
        "| program | prompts/s | tokens/s | peak memory, GB | ours is faster by | texts equal to ours |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in writing["programs"].items():
        prompts = spread([writing["prompts"] / seconds for seconds in row["seconds"]])
        tokens = spread([writing["tokens"] / seconds for seconds in row["seconds"]], 0)
        ours = name == "ours"
        lines.append(
            f"| {name}: {row['does']} | {prompts} | {tokens} | {row['peak_bytes'] / 1e9:.1f} "
            f"| {'' if ours else spread(row['ours_faster'])} "
            f"| {'' if ours else row['equal_texts']} |"
        )
    lines += ["", "; ".join(f"{name}: {row['program']}" for name, row in writing["programs"].items()) + "."]
    return "\n".join(lines)


def cell_table(cell: dict[str, Any]) -> str:
    """A whole paper cell: what was measured, and what it comes to."""
    theirs, ours = cell["programs"]["reference"], cell["programs"]["ours"]
    lines = [
        f"One cell of the paper on {cell['task']}: measured are {cell['epochs']} epochs of {cell['steps_an_epoch']} of "
        f"{cell['epoch_steps']} steps and {cell['questions']} of {cell['test_questions']} questions, one program after "
        "the other; whole epochs, and twenty of them, are reckoned from seconds a step and a question.",
        "",
        "| seconds | reference | ours | ours is faster by |",
        "|---|---|---|---|",
    ]
    for name, label in CELL_ROWS.items():
        one, other = theirs[name], ours[name]
        ratio = "" if name == "start_seconds" else f"{one / other:.2f}"
        lines.append(f"| {label} | {one:.3g} | {other:.3g} | {ratio} |")
    losses = f"{theirs['first_loss']:.5f} and {ours['first_loss']:.5f}"
    lines += ["", f"reference: {theirs['program']}; ours: {ours['program']}. The first step's losses are {losses}."]
    return "\n".join(lines)


CELL_ROWS = {
    "start_seconds": "start-up, compilation and first calls",
    "measured_train_seconds": "training, measured",
    "measured_evaluate_seconds": "evaluation, measured",
    "seconds": "the whole process, measured",
    "step_seconds": "a step",
    "question_seconds": "a question",
    "epoch_train_seconds": "training, a whole epoch",
    "epoch_evaluate_seconds": "evaluation, a whole epoch",
    "epoch_seconds": "a whole epoch",
    "twenty_epochs_seconds": "twenty epochs with start-up, extrapolated",
}

_PARTS = {"training": training_table, "writing": writing_table, "cell": cell_table}

if __name__ == "__main__":
    for file in sys.argv[1:]:
        print(table(json.loads(Path(file).read_text(encoding="utf-8"))))
