"""The paper's figures as data: complete, and cell by cell as they were noted."""

from __future__ import annotations

import collections
import re
import tomllib
from pathlib import Path

import pytest

from ftcot_jax.errors import UsageError
from ftcot_jax.sweeps.published import PublishedFigure, published_figures

DATASETS = [
    "single_eq",
    "addsub",
    "multiarith",
    "gsm8k",
    "aqua",
    "svamp",
    "date_understanding",
    "tracking_shuffled_objects",
    "last_letter_concatenation",
    "coin_flip",
    "commonsense_qa",
    "strategy_qa",
]
FOUR = {
    "MultiArith": "multiarith",
    "SVAMP": "svamp",
    "Date": "date_understanding",
    "Last": "last_letter_concatenation",
}
STUDENTS = {
    "6a": {"0.3B": "ada", "1.3B": "babbage", "6.7B": "curie"},
    "6b": {"60M": "t5-small", "220M": "t5-base", "700M": "t5-large"},
    "6c": {"60M": "flan-t5-small", "220M": "flan-t5-base", "700M": "flan-t5-large"},
    "6d": {"124M": "gpt2", "355M": "gpt2-medium", "774M": "gpt2-large"},
}
METHODS = {
    "Random": "random",
    "Teacher": "teacher",
    "Zero-shot": "zs",
    "Zero-shot-CoT": "zs_cot",
    "Few-shot-CoT": "fs_cot",
    "Fine-tune": "ft",
    "Fine-tune-CoT": "ft_cot",
    "Diverse reasoning": "ft_cot_diverse",
}
DEGREES = (1, 2, 4, 8, 16, 32, 64)
SUMS = {
    "4": 360.67, "6": 381.44, "6a": 6377.79, "6b": 4433.8, "6c": 5460.01, "6d": 3217.27, "6e": 2742.0, "6f": 3412.08,
    "6g": 1215.06, "6h": 1115.85
}  # fmt: skip


def _one(**wanted: object) -> PublishedFigure:
    (row,) = published_figures(**wanted)
    return row


def _section(paper: str, name: str) -> str:
    found = re.search(rf"^### {name}\. .*?(?=^### )", paper, re.S | re.M)
    assert found
    return found[0]


def _cells(section: str) -> list[list[str]]:
    lines = [line for line in section.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


@pytest.fixture(scope="module")
def paper(shared: Path) -> str:
    return (shared / "PAPER.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", ["6a", "6b", "6c", "6d"])
def test_main_tables_are_those_of_the_notes(paper: str, table: str) -> None:
    head, *rows = _cells(_section(paper, table))
    assert len(head) == 14
    compared, figures = 0, published_figures(table=table)
    for method, size, *values in rows:
        student = STUDENTS[table].get(size.removesuffix(" (old)"))
        for dataset, value in zip(DATASETS, values, strict=True):
            same = [f for f in figures if (f.method, f.student, f.dataset) == (METHODS[method], student, dataset)]
            assert [f"{figure.value:.2f}" for figure in same] == ([] if value == "-" else [value])
            compared += value != "-"
    assert compared == len(figures) > 160


def test_points_over_d_are_those_of_the_notes(paper: str) -> None:
    section, compared = _section(paper, "6e"), 0
    short = {"Flan": "flan-t5", "GPT-2": "gpt2", "S": "", "M": "-medium", "L": "-large"}
    for name, *cells in _cells(section)[1:]:
        first, _, rest = name.partition(" ")
        student = "gpt2" + short[rest] if first == "GPT-2" else first.lower().replace("flan-", "flan-t5-")
        for dataset, values in zip(("multiarith", "svamp"), cells, strict=True):
            for degree, value in zip(DEGREES, values.split(), strict=True):
                row = _one(
                    table="6e",
                    dataset=dataset,
                    student=student,
                    diversity=degree,
                    max_tokens=1024,
                    method="ft_cot_diverse",
                )
                assert f"{row.value:.2f}" == value.lstrip("~")
                assert (row.kind == "approximate") == value.startswith("~")
                compared += 1
    for student, values in re.findall(r"(ada|babbage|curie) ((?:\d+\.\d\d ?){6})[;.]", section):
        for degree, value in zip(DEGREES, values.split(), strict=False):
            row = _one(table="6e", student=student, diversity=degree, max_tokens=128)
            assert (f"{row.value:.2f}", row.kind) == (value, "exact")
            assert row.method == ("ft_cot" if degree == 1 else "ft_cot_diverse")
            compared += 1
    assert compared == len(published_figures(table="6e")) == 12 * 2 * 7 + 3 * 6


def test_points_over_training_questions_are_those_of_the_notes(paper: str) -> None:
    rows, compared = _cells(_section(paper, "6f")), 0
    for name, *cells in rows[1:5]:
        dataset, full = FOUR[name.split()[0]], int(re.sub(r"\D", "", name))
        for method, values in zip(("ft", "ft_cot", "ft_cot_diverse"), cells, strict=False):
            for n, value in zip((8, 32, 128, full), values.split(" / "), strict=True):
                tokens = 128 if method == "ft" else 1024
                wanted = {
                    "table": "6f",
                    "dataset": dataset,
                    "method": method,
                    "train_questions": n,
                    "max_tokens": tokens,
                }
                assert f"{_one(student='curie', **wanted).value:.2f}".rstrip("0") == value.lstrip("~").rstrip("0")
                compared += 1
        assert _one(table="6f", dataset=dataset, method="fs_cot").value == float(cells[3])
        compared += 1
    for n, *cells in rows[6:]:
        for dataset, values in zip(DATASETS, cells, strict=True):
            for student, value in zip(("ada", "babbage", "curie"), values.split("/"), strict=True):
                wanted = {
                    "table": "6f",
                    "dataset": dataset,
                    "train_questions": int(n),
                    "max_tokens": 128,
                    "diversity": 1,
                }
                found = published_figures(student=student, source="oldEval#9", **wanted)
                assert [row.value for row in found] == ([] if value == "-" else [float(value)])
                compared += value != "-"
    section = _section(paper, "6f")
    for n, values in re.findall(r"n=(\d+): ((?:\d+\.\d\d ?){6})[;.]", section):
        for degree, value in zip(DEGREES, values.split(), strict=False):
            wanted = {"table": "6f", "diversity": degree, "train_questions": int(n), "source": "oldEval#38"}
            assert _one(**wanted).value == float(value)
            compared += 1
    assert compared == len(published_figures(table="6f"))


def test_teachers_and_their_students_are_those_of_the_notes(paper: str) -> None:
    compared = 0
    for teacher, *cells in _cells(_section(paper, "6g"))[1:]:
        for dataset, cell in zip(FOUR.values(), cells, strict=True):
            own, _, student = cell.partition(" -> ")
            row = _one(table="6g", teacher=teacher, dataset=dataset, method="teacher")
            assert row.value == float(own.lstrip("~"))
            assert (row.kind == "approximate") == own.startswith("~")
            found = published_figures(table="6g", teacher=teacher, dataset=dataset, method="ft_cot")
            assert [figure.value for figure in found] == ([] if "none" in student else [float(student)])
            compared += 1 + len(found)
    assert compared == len(published_figures(table="6g")) == 31


def test_answer_lengths_and_baselines_are_those_of_the_notes(paper: str) -> None:
    section = _section(paper, "6h")
    for student in ("ada", "babbage", "curie"):
        (line,) = re.findall(rf"{student}: (.*?)\. ", section)
        pairs = re.findall(r"([\d.]+)->([\d.]+)", line)
        for dataset, pair in zip(("gsm8k", "aqua", "commonsense_qa", "strategy_qa"), pairs, strict=True):
            for tokens, value in zip((128, 1024), pair, strict=True):
                assert _one(table="6h", student=student, dataset=dataset, max_tokens=tokens).value == float(value)
    measured = [row.value for row in published_figures(table="6h", method="teacher")]
    for value in measured:
        assert re.search(rf"\b{value}\b", section), value
    assert len(measured) == 9
    assert len(published_figures(table="6h")) == 3 * 4 * 2 + 9
    for method, line in (
        ("answer_distribution", "Answer-distribution baseline"),
        ("majority", "Majority train answer"),
    ):
        text = next(text for text in paper.splitlines() if text.startswith(line))
        for row in published_figures(table="6", method=method):
            assert f" {row.value:.2f}" in text


def test_counts_sums_and_known_cells() -> None:
    counts = collections.Counter(row.table for row in published_figures())
    assert counts == {
        "4": 25, "6": 21, "6a": 228, "6b": 168, "6c": 168, "6d": 168, "6e": 186, "6f": 177, "6g": 31, "6h": 33
    }  # fmt: skip
    sums = {table: round(sum(row.value for row in published_figures(table=table)), 2) for table in sorted(counts)}
    assert sums == SUMS
    curie = _one(table="6a", student="curie", dataset="date_understanding", method="ft_cot_diverse")
    assert (curie.value, curie.diversity, curie.train_questions, curie.size) == (83.78, 8, 258, "6.7B")
    assert _one(table="6a", student="curie", dataset="svamp", method="ft_cot_diverse").diversity == 64
    assert _one(table="6c", student="flan-t5-large", dataset="commonsense_qa", method="zs").value == 84.03
    assert not published_figures(table="6a", dataset="gsm8k", method="ft_cot_diverse")
    assert not published_figures(table="6g", dataset="last_letter_concatenation", teacher="davinci", method="ft_cot")


def test_digitised_points_that_a_table_prints_agree_with_it() -> None:
    printed = {
        (row.dataset, row.student, row.diversity): row.value
        for row in published_figures(table=["6a", "6b", "6c", "6d"], method="ft_cot_diverse")
    }
    checked = 0
    for row in published_figures(table="6e", max_tokens=1024, diversity=64):
        assert abs(printed[row.dataset, row.student, 64] - row.value) < 0.006
        assert row.kind == "exact"
        checked += 1
    assert checked == 24


def test_every_figure_is_one_of_its_kind_and_a_share() -> None:
    keys = [
        tuple(value for name, value in vars(row).items() if name not in ("value", "kind", "source"))
        for row in published_figures()
    ]
    twice = [key for key, count in collections.Counter(keys).items() if count > 1]
    assert not [key for key in twice if key[0] != "6f"], "6f alone holds points that two notebooks give"
    assert all(0 <= row.value <= 100 for row in published_figures())
    assert all(
        (row.diversity is None) == (row.method not in ("ft_cot", "ft_cot_diverse")) for row in published_figures()
    )


def test_an_unknown_field_names_its_neighbour() -> None:
    with pytest.raises(UsageError, match=r"no field is called 'datset'.*dataset"):
        published_figures(datset="svamp")


def test_the_figures_are_in_the_wheel() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
    assert "**/*.csv" in project["tool"]["setuptools"]["package-data"]["ftcot_jax"]
