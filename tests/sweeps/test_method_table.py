"""The paper's form of table, in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re

import pytest

from ftcot_jax.sweeps.conditions import Condition
from ftcot_jax.sweeps.cost import Cost
from ftcot_jax.sweeps.cost_table import cost_table
from ftcot_jax.sweeps.method_table import method_tables
from ftcot_jax.sweeps.results import TrialResult, arms
from ftcot_jax.sweeps.table import Table
from tests.sweeps.cases import condition, grid, trial


def planned(results: list[TrialResult]) -> list[Condition]:
    return [row.condition for row in results]


def test_rows_are_methods_and_sizes_and_columns_datasets() -> None:
    results = grid(tasks=("svamp", "multiarith"), degrees=(1, 8), seeds=2)
    (table,) = method_tables(arms(results), planned(results))
    assert table.head == ["method", "student", "size", "MultiArith", "SVAMP"]
    own = [row[:3] for row in table.rows[:12]]
    sizes = [("gpt2", "124M"), ("gpt2-medium", "355M"), ("gpt2-large", "774M")]
    methods = ["Zero-shot", "Fine-tune", "Fine-tune-CoT", "Diverse reasoning"]
    assert own == [[method, *size] for method in methods for size in sizes]
    grouped = {(arm.condition.task, arm.condition.student, arm.condition.method): arm for arm in arms(results)}
    arm = grouped["svamp", "gpt2-medium", "Diverse reasoning"]
    interval = f"({100 * arm.interval.low:.1f}–{100 * arm.interval.high:.1f})"
    assert table.rows[10][4] == f"{100 * arm.accuracy:.1f} {interval}"
    assert table.rows[12] == ["paper: Zero-shot", "gpt2", "124M", "2.2", "1.0"]
    assert table.rows[-1] == ["paper: Diverse reasoning", "gpt2-large", "774M", "17.8", "10.3"]
    assert table.quiet == frozenset(range(12, 24))
    assert "best of 20 epochs on the test set" in table.notes[1]


def test_one_dataset_of_ones_own_has_no_rows_of_the_paper() -> None:
    results = [trial("a", 1, [1, 0], condition=condition(task="weekday_tracking", parameters=153_000))]
    (table,) = method_tables(arms(results), planned(results))
    assert table.head[3:] == ["weekday_tracking"]
    assert [row[:3] for row in table.rows] == [["Fine-tune-CoT", "gpt2", "153k"]]


def test_a_table_a_family() -> None:
    mine = trial("mine", 1, [1, 0], condition=condition(student="qwen", family="Llama", parameters=None))
    results = [*grid(students=("gpt2",), degrees=(1,), seeds=1), mine]
    tables = method_tables(arms(results), planned(results))
    assert [table.name for table in tables] == ["methods_gpt_2", "methods_llama"]
    assert tables[1].rows == [["Fine-tune-CoT", "qwen", "", "50.0 (9.5–90.5)", "-"]]


def test_d_tells_rows_apart_only_where_a_dataset_has_several() -> None:
    """The paper's Diverse reasoning is one row: D = 64 on two datasets, 8 on the others."""
    diverse = {"method": "Diverse reasoning"}
    results = [
        trial("a", 1, [1, 0], condition=condition(task="multiarith", diversity=64, **diverse)),
        trial("b", 1, [1, 0], condition=condition(task="coin_flip", diversity=8, **diverse)),
    ]
    (table,) = method_tables(arms(results), planned(results))
    assert [row[0] for row in table.rows if not row[0].startswith("paper")] == ["Diverse reasoning"]
    results.append(trial("c", 1, [1, 0], condition=condition(task="coin_flip", diversity=64, **diverse)))
    (table,) = method_tables(arms(results), planned(results))
    own = [row for row in table.rows if not row[0].startswith("paper")]
    assert [row[0] for row in own] == ["Diverse reasoning, D=8", "Diverse reasoning, D=64"]
    assert [row[3] == "-" for row in own] == [True, False]


def test_what_is_not_finished_is_marked() -> None:
    results = grid(students=("gpt2",), degrees=(1, 8), seeds=3, baselines=False)
    finished = [row for row in results if row.condition.task == "multiarith" and "D=1" in row.arm][:2]
    (table,) = method_tables(arms(finished), planned(results))
    assert table.rows[0][3].endswith("*")
    assert table.rows[0][4] == "…"
    assert table.rows[1][3:] == ["…", "…"]
    assert table.notes[1] == "With an asterisk: not all of its seeds are finished."
    assert table.notes[2] == "…: not finished yet."


HOSTILE = r"50% & $x_1$ {a}\b ~ ^ # | <b> [1] *"


def test_latex_is_escaped() -> None:
    table = Table("t", "All of 100%", [HOSTILE, "n"], [[HOSTILE, "**1.0**"], ["[x]", "…"]], quiet=frozenset({1}))
    lines = table.latex().splitlines()
    assert lines[2:4] == [r"\begin{tabular}{lr}", r"\toprule"]
    escaped = (
        r"50\% \& \$x\_1\$ \{a\}\textbackslash{}b \textasciitilde{} \textasciicircum{} \# \textbar{} "
        r"\textless{}b\textgreater{} {[}1] {*}"
    )
    assert lines[4:9] == [
        rf"{escaped} & n \\",
        r"\midrule",
        rf"{escaped} & \textbf{{1.0}} \\",
        r"\midrule",
        r"{[}x] & \ldots{} \\",
    ]
    assert r"\caption{All of 100\%}" in lines
    text = "\n".join(lines)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert not re.search(r"(?<!\\)[%#$]", text)


def test_csv_and_markdown_hold_the_same_cells() -> None:
    table = Table("t", "T", [HOSTILE, "n"], [["a\nb", "**1.0**"], ["c", "2"]], notes=["N."], quiet=frozenset({1}))
    assert list(csv.reader(io.StringIO(table.csv()))) == [[HOSTILE, "n"], ["a\nb", "1.0"], ["c", "2"]]
    assert table.markdown().splitlines()[2:] == ["| a b | **1.0** |", "| *c* | *2* |", "", "N."]


def test_costs_for_a_point_of_accuracy() -> None:
    right = [1, 1, 0, 0]
    results = [trial("a", seed, right, cost=Cost(2.0, False, 3600.0 * seed, 1800.0, 4.0)) for seed in (1, 2)] + [
        trial("b", 1, [0] * 4, cost=Cost(None, False, 10.0, 2.0, None))
    ]
    table = cost_table(arms(results))
    assert table is not None
    # Two seeds: 1.5 and 2.5 hours at 4 dollars, two dollars of the teacher; 50 points.
    assert table.rows[0] == ["a", "50.0", "2.00", "8.00", "10.00", "0.2", "5400.0", "1800.0", "144.00"]
    assert table.rows[1] == ["b", "0.0", "-", "-", "-", "-", "10.0", "2.0", "-"]
    assert cost_table(arms([trial("c", 1, right)])) is None


@pytest.mark.parametrize(("cost", "note"), [(Cost(0.1, True, 1.0, 1.0), "imported"), (Cost(None), "teacher.price")])
def test_what_costs_rest_on_is_said(cost: Cost, note: str) -> None:
    table = cost_table(arms([trial("a", 1, [1, 0], cost=cost), trial("b", 1, [1], cost=Cost(None, False, 1.0, 1.0))]))
    assert table is not None
    assert any(note in text for text in table.notes)
    assert any("--price" in text for text in table.notes)
