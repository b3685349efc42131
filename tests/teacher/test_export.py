"""Completions out of a ledger, whole or in part, as JSON and as Parquet."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ftcot_jax.errors import UsageError
from ftcot_jax.teacher.completion import Completion, read_completions, write_completions
from ftcot_jax.teacher.export import export
from ftcot_jax.teacher.sampler import Purchases
from tests.teacher.asking import QUESTIONS, ask, teacher
from tests.teacher.fault_server import FaultServer, status

METADATA = {"base_model": "teacher", "dataset_key": "numbers", "epoch": None}


def test_json_and_parquet_hold_the_same(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        sampled = ask(server, tmp_path / "ledger")
    assert export(tmp_path / "c.json", METADATA, sampled.completions) == 24
    assert export(tmp_path / "c.parquet", METADATA, sampled.completions) == 24
    back = read_completions(tmp_path / "c.json")
    assert back.metadata == METADATA
    assert back.completions == list(sampled.completions)
    table = pq.read_table(tmp_path / "c.parquet")
    rows = table.to_pylist()
    assert {row.pop("extra") for row in rows} == {None}
    assert [Completion(**row) for row in rows] == back.completions
    assert table.schema.metadata[b"base_model"] == b"teacher"
    assert {file.suffix for file in tmp_path.iterdir()} <= {".json", ".parquet", ""}


def test_parquet_keeps_what_else_a_row_holds(tmp_path: Path) -> None:
    row = Completion(1, 0, "q", "a", None, None, None, "p", "c", None, extra={"score": 0.5, "who": "ü"})
    assert export(tmp_path / "c.parquet", {}, [row]) == 1
    (back,) = pq.read_table(tmp_path / "c.parquet").to_pylist()
    assert json.loads(back["extra"]) == row.extra
    assert (back["sample_index"], back["reasoning_prompt"]) == (1, None)


def test_a_ledger_half_full_gives_what_is_finished(tmp_path: Path) -> None:
    async def not_three(request, body):  # type: ignore[no-untyped-def]
        return await status(400, "no")(request, body) if "is 3?" in body["prompt"] else None

    with FaultServer(always=not_three).serving() as server:
        ask(server, tmp_path / "ledger")
        purchases = Purchases(teacher(server, diversity=6), QUESTIONS, tmp_path / "ledger")
    assert export(tmp_path / "c.json", METADATA, purchases) == len(purchases) == 20
    assert next(iter(purchases)) in purchases


def test_no_completions_and_no_such_kind(tmp_path: Path) -> None:
    assert export(tmp_path / "c.json", METADATA, []) == 0
    assert read_completions(tmp_path / "c.json").completions == []
    with pytest.raises(UsageError, match=r"c\.csv: completions are exported as \.json or \.parquet"):
        export(tmp_path / "c.csv", METADATA, [])


def test_rows_of_a_question_must_stand_together(tmp_path: Path) -> None:
    rows = [Completion(index, 0, "q", "a", None, None, None, "p", "c", None) for index in (1, 2, 1)]
    with pytest.raises(ValueError, match="completions of question 1 are not next to each other"):
        write_completions(tmp_path / "c.json", METADATA, rows)
    assert not (tmp_path / "c.json").exists()
