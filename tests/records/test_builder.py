"""Token records survive the disk in order and exactly; damaged files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from etils import epath

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.records.builder import read_records, write_records
from ftcot_jax.records.table import RecordTable
from ftcot_jax.records.tokenize import RecordSettings, tokenize_pairs

PAIRS = [Pair(n // 2, n % 2, "ab" * (n % 5 + 1), "c" * (n % 7 + 1), n % 3 == 0) for n in range(100)]


def encode(texts: list[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def test_round_trip_keeps_order_and_every_field(tmp_path: Path) -> None:
    made = tokenize_pairs(PAIRS, encode, eos_id=7, context_length=64, settings=RecordSettings())
    assert made.too_long == 0
    write_records(epath.Path(tmp_path / "records"), made.pairs)
    table = read_records(epath.Path(tmp_path / "records"))
    assert len(table) == len(PAIRS)
    for number, pair in enumerate(PAIRS):
        expected = [*map(ord, pair.prompt), *map(ord, pair.label), 7]
        assert list(table.record(number)) == expected
        assert table.prompt_lengths[number] == len(pair.prompt)
        assert table.sample_index[number] == pair.sample_index
        assert table.completion_index[number] == pair.completion_index
        assert table.correct[number] == pair.correct


def test_joined_tables_hold_the_records_of_both() -> None:
    made = tokenize_pairs(PAIRS, encode, eos_id=7, context_length=64, settings=RecordSettings()).pairs
    rows = [
        {
            name: getattr(pair, name)
            for name in ("input_ids", "label_ids", "sample_index", "completion_index", "correct")
        }
        for pair in made
    ]
    joined = RecordTable.join([RecordTable.from_rows(rows[:30]), RecordTable.from_rows(rows[30:])])
    whole = RecordTable.from_rows(rows)
    for number in range(len(whole)):
        np.testing.assert_array_equal(joined.record(number), whole.record(number))


def test_too_long_is_an_error_or_counted() -> None:
    with pytest.raises(FtcotError, match=r"question 1, completion 1 has \d+ tokens and the limit is 12"):
        tokenize_pairs(PAIRS, encode, eos_id=7, context_length=12, settings=RecordSettings())
    with pytest.raises(FtcotError, match=r"question 0 has 4 tokens and the student's limit is 3"):
        tokenize_pairs(PAIRS[1:], encode, eos_id=7, context_length=3, settings=RecordSettings())
    dropping = tokenize_pairs(PAIRS, encode, 7, 12, RecordSettings(too_long="drop"))
    fits = [pair for pair in PAIRS if len(pair.prompt) + len(pair.label) + 1 <= 12]
    assert len(dropping.pairs) == len(fits)
    assert dropping.too_long == len(PAIRS) - len(fits) > 0


def test_damaged_and_missing_records_are_named(tmp_path: Path) -> None:
    made = tokenize_pairs(PAIRS, encode, eos_id=7, context_length=64, settings=RecordSettings())
    folder = epath.Path(tmp_path / "records")
    write_records(folder, made.pairs)
    file = next(tmp_path.rglob("*.array_record*"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(FtcotError, match="records: cannot read the token records"):
        read_records(folder)
    with pytest.raises(FtcotError, match="nowhere: cannot read the token records"):
        read_records(epath.Path(tmp_path / "nowhere"))
