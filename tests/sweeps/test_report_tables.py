"""The report's tables: trained, untrained and sampled arms side by side, and every pair of arms compared."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.evaluation.paired import mcnemar
from ftcot_jax.sweeps.paired_table import paired_table
from ftcot_jax.sweeps.plots import plot_accuracy_over_epochs
from ftcot_jax.sweeps.results import TrialResult, arms
from ftcot_jax.sweeps.tables import arm_table, epoch_table, markdown, trial_csv, writing_table

TRAINING = {"records": 30, "steps": 10, "epochs": 2.0, "loss_first": 2.0, "loss_last": 1.0}


def trial(arm: str, seed: int, outcomes: list[int], trained: bool = True, **more: Any) -> TrialResult:
    samples = more.pop("samples", 1)
    texts = len(outcomes) * samples
    scores = {
        "questions": len(outcomes),
        "samples": samples,
        "texts": texts,
        "correct": sum(outcomes),
        "accuracy": sum(outcomes) / texts,
        "interval_95": [0.0, 1.0],
        "contains_answer": texts,
        "correct_format": texts // 2,
        "complete": 0,
        "prompt_too_long": 1,
        "seconds": 1.0,
    } | more.pop("scores", {})
    training = TRAINING | {"examples_per_second": None, "seconds": 3.0}
    kept = {"kept": 30, "covered": 15, "questions": 20}
    given = {"diversity": 4, "per_question": None, "has_rationale": True, "before": None, "chosen_by": "last"}
    return TrialResult(
        name=f"{arm}, seed={seed}",
        arm=arm,
        asked=[str(number) for number in range(len(outcomes))],
        outcomes=outcomes,
        training=training if trained else None,
        scores=scores,
        selection=kept if trained else None,
        epoch=2.0,
        looks=more.pop("looks", []),
        **given | more,
    )


BOTH = [1] * 2
RESULTS = [
    trial("zero | shot", 1, [0] * 10, trained=False),
    trial("CoT", 1, [1] * 8 + [0] * 2),
    trial("CoT", 2, [1] * 6 + [0] * 4),
]


def cells(table: str, row: int) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[row + 2].strip("|").replace("\\|", "/").split("|")]


def test_untrained_arms_have_no_training() -> None:
    table = arm_table(arms(RESULTS))
    assert cells(table, 0) == ["zero / shot", "0.0", "0.0 - 27.8", "0.0", "-", "-", "-", "-"]
    row = cells(table, 1)
    assert (row[0], row[1], row[3:]) == ("CoT", "70.0", ["80.0 60.0", "30", "75%", "10", "2.0"])


def test_how_answers_were_written() -> None:
    table = writing_table(arms(RESULTS))
    assert cells(table, 1) == ["CoT", "100.0", "50.0", "0.0", "1"]
    passed = {"pass_at": {"1": 0.5, "2": 0.75}, "majority_accuracy": 0.6, "no_majority": 3}
    sampled = [*RESULTS, trial("drawn", 1, BOTH, samples=2, scores=passed)]
    table = writing_table(arms(sampled))
    assert table.splitlines()[0].endswith("| samples | pass@2 % | majority % | no majority |")
    assert cells(table, 1)[5:] == ["1", "-", "-", "-"]
    assert cells(table, 2)[5:] == ["2", "75.0", "60.0", "3"]
    assert arms(sampled)[2].rights == {"0": [1, 0], "1": [1, 0]}


def test_epochs(tmp_path: Path) -> None:
    looks = [(1.0, 0.2), (2.0, 0.4)]
    grouped = arms([trial("a", 1, BOTH, looks=looks), trial("a", 2, BOTH, looks=[(1.0, 0.4), (2.0, 0.4), (3.0, 0.6)])])
    table = epoch_table(grouped)
    assert table is not None
    assert cells(table, 0) == ["a", "30.0", "40.0", "60.0"]
    assert table.startswith("| epoch | 1 | 2 | 3 |")
    assert plot_accuracy_over_epochs(grouped, "t", tmp_path / "epochs")
    assert (tmp_path / "epochs.svg").stat().st_size > 1000
    assert epoch_table(arms(RESULTS)) is None
    assert not plot_accuracy_over_epochs(arms(RESULTS), "t", tmp_path / "none")


def test_every_pair_is_compared_on_the_same_questions() -> None:
    table = paired_table(arms([trial("a", 1, [1] * 9 + [0]), trial("b", 1, [0] * 9 + [1])]))
    assert table is not None
    assert cells(table, 0) == ["b", f"**-80.0 ({mcnemar(1, 9):.3f})**"]
    assert "McNemar's exact test on the questions both were asked. Two-sided" in table
    table = paired_table(arms(RESULTS))
    assert table is not None
    assert cells(table, 0)[1].startswith("**+70.0 (")
    assert "a question counts once, by the difference of its shares" in table
    assert paired_table(arms(RESULTS[1:])) is None


def test_weak_differences_are_not_bold_once_many_are_compared() -> None:
    # One pair at p = 0.031 stands alone, and not among ten pairs.
    first, other = [1] * 6 + [0] * 20, [0] * 26
    alone = paired_table(arms([trial("a", 1, first), trial("b", 1, other)]))
    assert alone is not None
    assert "**-23.1 (0.031)**" in alone
    many = paired_table(arms([trial("a", 1, first), *(trial(name, 1, other) for name in "bcde")]))
    assert many is not None
    assert "-23.1 (0.031)" in many
    assert "**-23.1" not in many
    assert "Holm's adjustment for 10 pairs" in many


def test_csv_has_a_row_a_trial() -> None:
    rows = list(csv.DictReader(io.StringIO(trial_csv(RESULTS))))
    assert [row["trial"] for row in rows] == [result.name for result in RESULTS]
    assert (rows[0]["steps"], rows[1]["steps"], rows[1]["correct"]) == ("", "10", "8")
    assert rows[1]["train_seconds"] == "3.0"
    assert rows[0]["correct_format"] == "5"


@pytest.mark.parametrize("text", ["a | b", "a\nb", "| --- |"])
def test_no_cell_breaks_its_table(text: str) -> None:
    lines = markdown([text, "b"], [[text, "2"]]).splitlines()
    assert len(lines) == 3
    assert {line.replace("\\|", "").count("|") for line in lines} == {3}
