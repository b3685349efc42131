"""The road from completions to batches is measured: every text counted once, figures that agree, errors in one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from ftcot_jax.bench.machine import Machine
from ftcot_jax.bench.record_road import Road, Wanted
from ftcot_jax.bench.records import FEEDS, GATHER, ON_THE_ROAD, READ_ARRAYS, bench_records
from ftcot_jax.bench_commands import bench_app
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.records.tokenize import RecordSettings
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import Completion, write_completions
from ftcot_jax.training.settings import BatchSettings

_WORDS = [f"w{number}" for number in range(8)]
_SCRATCH = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 1, "n_positions": 128}


@pytest.fixture(scope="module")
def wanted() -> Wanted:
    """A small student of a few words; two records a step."""
    words = [*_WORDS, "###", "-->", *map(str, range(10))]
    student = load_student(StudentSettings(scratch=_SCRATCH), words)
    return Wanted(student, get_template("ft_cot_token"), batch=BatchSettings(examples=2))


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Five questions, two completions each, of which one is wrong; rationales of one to ten words."""
    rows = [
        Completion(
            q,
            c,
            " ".join(_WORDS[: q + 1]),
            str(q),
            "p",
            " ".join(["w1"] * (2 * q + c + 1)),
            None,
            "p",
            f"{answer}",
            "stop",
        )
        for q in range(5)
        for c, answer in ((0, q), (1, 9 if q == 2 else q))
    ]
    write_completions(tmp_path / "own.json", {"dataset_key": "multiarith", "prediction_template": "zs_cot"}, rows)
    return str(tmp_path / "own.json")


@pytest.fixture(autouse=True)
def one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "measure", classmethod(lambda cls, dtype: cls("one", dtype, 1e9, 1e9)))


def test_every_copy_is_a_completion_of_its_question(file: str, wanted: Wanted, tmp_path: Path) -> None:
    road = Road([file, file], 3, wanted, tmp_path / "records")
    for stage in (road.read_completions, road.judge, road.pair, road.tokenize):
        stage()
    table = road.table
    assert len(table) == 2 * 3 * 10
    names = set(zip(table.sample_index.tolist(), table.completion_index.tolist(), strict=True))
    assert names == {(question, number) for question in range(10) for number in range(6)}
    assert int((~table.correct).sum()) == 2 * 3
    # Question q has q + 1 words and "###"; its label a rationale, "-->", the answer and the end token.
    by_hand = sum(3 * ((q + 2) + (2 * q + c + 1) + 3) for q in range(5) for c in range(2))
    assert len(table.tokens) == 2 * by_hand


def test_figures_agree_with_each_other_and_with_the_file(file: str, wanted: Wanted, tmp_path: Path) -> None:
    said: list[str] = []
    figures = bench_records([file], wanted, **_given(tmp_path), say=said.append)
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    rows = {row["stage"]: row for row in figures["rows"]}
    assert said[-1].count("\n") == 1 + len(rows)
    for name, row in rows.items():
        assert f"| {name} | {_cell(row['texts/s'])} |" in said[-1]
    assert (figures["texts"], figures["right"], figures["trained_records"], figures["steps"]) == (10, 9, 9, 5)
    assert sum(rows[name]["share of time"]["median"] for name in ON_THE_ROAD) == pytest.approx(1)
    tokens_a_text = rows["tokenize"]["tokens/s"]["median"] / rows["tokenize"]["texts/s"]["median"]
    assert tokens_a_text == pytest.approx(figures["tokens"] / 10)
    for name in FEEDS:
        assert rows[name]["batches/s"]["median"] == pytest.approx(rows[name]["texts/s"]["median"] * 5 / 9)
        need = rows[name]["batches/s"]["median"] / rows[name]["times a step's need"]["median"]
        assert need == pytest.approx(1e9 / figures["step_flop"])
    assert rows[GATHER]["of its limit"]["median"] == pytest.approx(
        rows[GATHER]["texts/s"]["median"] / rows[READ_ARRAYS]["texts/s"]["median"]
    )
    assert not list(tmp_path.glob("tmp*"))


def test_padding_is_counted_by_hand(file: str, wanted: Wanted, tmp_path: Path) -> None:
    road = Road([file], 1, dataclasses.replace(wanted, batch=BatchSettings(examples=9)), tmp_path / "records")
    for stage in (road.read_completions, road.judge, road.pair, road.tokenize, road.plan):
        stage()
    lengths = road.table.lengths[road.table.correct]
    by_hand = 1 - lengths.sum() / (len(lengths) * lengths.max())
    padding = road.padding()
    assert padding["padded to the longest of the set"] == pytest.approx(by_hand)
    assert padding["padded to the longest of the batch"] == pytest.approx(by_hand)  # one batch holds all
    shape = road.planner.batch(np.flatnonzero(road.table.correct))[1]
    assert padding["packed"] == pytest.approx(1 - lengths.sum() / (shape.rows * shape.length))
    assert padding["packed"] < by_hand


def test_what_is_too_long_is_counted(file: str, wanted: Wanted, tmp_path: Path) -> None:
    short = dataclasses.replace(wanted, records=RecordSettings(max_length=14, too_long="drop"))
    figures = bench_records([file], short, **_given(tmp_path), say=lambda line: None)
    assert figures["too_long"] == 10 - figures["records"] == 4
    none = dataclasses.replace(wanted, records=RecordSettings(max_length=3, too_long="drop"))
    with pytest.raises(FtcotError, match=r"none of 10 completions of .*own.json is right and short enough \(10 too"):
        bench_records([file], none, **_given(tmp_path), say=lambda line: None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"folder": "nowhere"}, "--folder nowhere: there is no such folder"),
        ({"json_file": "nowhere/x"}, "--json nowhere/x: its folder is not there"),
        ({"copies": 513}, "2 completions a question; 1024 are the most, copies included"),
    ],
)
def test_wrong_use_is_one_line(change: dict[str, Any], said: str, file: str, wanted: Wanted, tmp_path: Path) -> None:
    with pytest.raises(FtcotError, match=said):
        bench_records([file], wanted, **_given(tmp_path) | change, say=lambda line: None)


def test_a_file_that_does_not_say_its_task_is_one_line(wanted: Wanted, tmp_path: Path) -> None:
    write_completions(tmp_path / "x.json", {}, [])
    with pytest.raises(FtcotError, match=r"x.json: metadata has no dataset_key"):
        bench_records([str(tmp_path / "x.json")], wanted, **_given(tmp_path), say=lambda line: None)
    write_completions(tmp_path / "x.json", {"dataset_key": "multiarith"}, [])
    with pytest.raises(FtcotError, match=r"x.json holds no completions"):
        bench_records([str(tmp_path / "x.json")], wanted, **_given(tmp_path), say=lambda line: None)


def test_the_command_takes_a_recipe(file: str, wanted: Wanted, tmp_path: Path) -> None:
    wanted.student.tokenizer.save_pretrained(tmp_path / "tokenizer")
    recipe = {
        "name": "r",
        "task": {"key": "multiarith"},
        "teacher": {"import": file},
        "student": {"scratch": _SCRATCH, "tokenizer": str(tmp_path / "tokenizer")},
        "train": {"batch": {"examples": 3}, "steps": 1},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    words = ["records", file, "--repeats", "1", "--folder", str(tmp_path), "--json", str(tmp_path / "f.json")]
    done = CliRunner().invoke(bench_app, [*words, "--recipe", str(tmp_path / "r.yaml")], catch_exceptions=False)
    assert done.exit_code == 0
    assert json.loads((tmp_path / "f.json").read_text())["steps"] == 3  # nine right ones, three a step
    with pytest.raises(UsageError, match="give --tokenizer or --recipe, one of the two"):
        CliRunner().invoke(bench_app, words, catch_exceptions=False)


def _given(folder: Path) -> dict[str, Any]:
    return {"copies": 1, "repeats": 1, "folder": str(folder), "json_file": str(folder / "figures.json")}


def _cell(spread: dict[str, float]) -> str:
    from ftcot_jax.bench.table import Spread

    return str(Spread(**spread))
