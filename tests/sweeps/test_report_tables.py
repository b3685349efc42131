"""The report's tables: trained, untrained and sampled arms side by side, and every pair of arms compared."""

from __future__ import annotations

import csv
import io

import pytest

from ftcot_jax.evaluation.paired import mcnemar
from ftcot_jax.sweeps.paired_table import paired_table, paired_tables
from ftcot_jax.sweeps.results import ArmResult, arms
from ftcot_jax.sweeps.table import markdown
from ftcot_jax.sweeps.tables import arm_table, epoch_table, trial_csv, writing_table
from tests.sweeps.cases import grid, trial

BOTH = [1] * 2
RESULTS = [
    trial("zero | shot", 1, [0] * 10, trained=False),
    trial("CoT", 1, [1] * 8 + [0] * 2),
    trial("CoT", 2, [1] * 6 + [0] * 4),
]


def cells(table: str, row: int) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[row + 2].strip("|").replace("\\|", "/").split("|")]


def paired(grouped: list[ArmResult]) -> str:
    table = paired_table(grouped)
    assert table is not None
    return table.markdown()


def test_untrained_arms_have_no_training() -> None:
    table = arm_table(arms(RESULTS)).markdown()
    assert cells(table, 0) == ["zero / shot", "0.0", "0.0 - 27.8", "0.0", "-", "-", "-", "-"]
    row = cells(table, 1)
    assert (row[0], row[1], row[3:]) == ("CoT", "70.0", ["80.0 60.0", "30", "75%", "10", "2.0"])


def test_how_answers_were_written() -> None:
    table = writing_table(arms(RESULTS)).markdown()
    assert cells(table, 1) == ["CoT", "100.0", "50.0", "0.0", "1"]
    passed = {"pass_at": {"1": 0.5, "2": 0.75}, "majority_accuracy": 0.6, "no_majority": 3}
    sampled = [*RESULTS, trial("drawn", 1, BOTH, samples=2, scores=passed)]
    table = writing_table(arms(sampled)).markdown()
    assert table.splitlines()[0].endswith("| samples | pass@2 % | majority % | no majority |")
    assert cells(table, 1)[5:] == ["1", "-", "-", "-"]
    assert cells(table, 2)[5:] == ["2", "75.0", "60.0", "3"]
    assert arms(sampled)[2].rights == {"0": [1, 0], "1": [1, 0]}


def test_epochs() -> None:
    looks = [(1.0, 0.2), (2.0, 0.4)]
    grouped = arms([trial("a", 1, BOTH, looks=looks), trial("a", 2, BOTH, looks=[(1.0, 0.4), (2.0, 0.4), (3.0, 0.6)])])
    table = epoch_table(grouped)
    assert table is not None
    assert cells(table.markdown(), 0) == ["a", "30.0", "40.0", "60.0"]
    assert table.head == ["epoch", "1", "2", "3"]
    assert epoch_table(arms(RESULTS)) is None
    ends = [trial("a", seed, BOTH, looks=[(1.0 + seed, 0.2)]) for seed in (1, 2)]
    assert epoch_table(arms(ends)) is None  # two seeds that end at different epochs are no curve


def test_every_pair_is_compared_on_the_same_questions() -> None:
    table = paired(arms([trial("a", 1, [1] * 9 + [0]), trial("b", 1, [0] * 9 + [1])]))
    assert cells(table, 0) == ["b", f"**-80.0 ({mcnemar(1, 9):.3f})**"]
    assert "McNemar's exact test on the questions both were asked. Two-sided" in table
    table = paired(arms(RESULTS))
    assert cells(table, 0)[1].startswith("**+70.0 (")
    assert "a question counts once, by the difference of its shares" in table
    assert paired_table(arms(RESULTS[1:])) is None


def test_weak_differences_are_not_bold_once_many_are_compared() -> None:
    # One pair at p = 0.031 stands alone, and not among ten pairs.
    first, other = [1] * 6 + [0] * 20, [0] * 26
    alone = paired(arms([trial("a", 1, first), trial("b", 1, other)]))
    assert "**-23.1 (0.031)**" in alone
    many = paired(arms([trial("a", 1, first), *(trial(name, 1, other) for name in "bcde")]))
    assert "-23.1 (0.031)" in many
    assert "**-23.1" not in many
    assert "Holm's adjustment for 10 pairs" in many


def test_datasets_are_compared_apart_and_many_arms_with_the_first() -> None:
    tables = paired_tables(arms(grid(degrees=(1, 2), seeds=1)))
    assert [table.title for table in tables] == ["Paired tests: MultiArith", "Paired tests: SVAMP"]
    assert [len(table.rows) for table in tables] == [11, 11]
    assert "Holm's adjustment for 66 pairs" in tables[0].notes[0]
    (many,) = paired_tables(arms(grid(tasks=("svamp",), seeds=1)))
    assert [len(many.head), len(many.rows)] == [2, 26]
    assert "Holm's adjustment for 26 pairs" in many.notes[0]
    assert "Of 27 arms each is compared with the first only" in many.notes[0]


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
