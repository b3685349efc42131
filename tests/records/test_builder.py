"""Token records survive the disk in order and exactly; damaged files are named."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.records import builder, manifest
from ftcot_jax.records.builder import read_dataset, read_records, write_records
from ftcot_jax.records.manifest import Made, read_manifest, record_files
from ftcot_jax.records.table import RecordTable
from ftcot_jax.records.tokenize import PAIRS as PAIRS_HELD
from ftcot_jax.records.tokenize import RecordSettings, tokenize_pairs

MADE = Made(tokenizer="t", template={"name": "t"})
PAIRS = [Pair(n // 2, n % 2, "ab" * (n % 5 + 1), "c" * (n % 7 + 1), n % 3 == 0) for n in range(100)]


def encode(texts: list[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def write(folder: Path) -> epath.Path:
    made = tokenize_pairs(PAIRS, encode, eos_id=7, context_length=64, settings=RecordSettings())
    assert made.too_long == 0
    write_records(epath.Path(folder / "records"), made.table, MADE)
    return epath.Path(folder / "records")


def test_round_trip_keeps_order_and_every_field(tmp_path: Path) -> None:
    folder = write(tmp_path)
    for table in (read_records(folder), read_dataset(folder)):
        check_records(table)


def check_records(table: RecordTable) -> None:
    assert len(table) == len(PAIRS)
    for number, pair in enumerate(PAIRS):
        expected = [*map(ord, pair.prompt), *map(ord, pair.label), 7]
        assert list(table.record(number)) == expected
        assert table.prompt_lengths[number] == len(pair.prompt)
        assert table.sample_index[number] == pair.sample_index
        assert table.completion_index[number] == pair.completion_index
        assert table.correct[number] == pair.correct


def test_tokens_are_mapped_and_not_read(tmp_path: Path) -> None:
    table = read_records(write(tmp_path))
    assert isinstance(table.tokens, np.memmap)
    assert isinstance(RecordTable.join([table]).tokens, np.memmap)
    assert not isinstance(table.lengths, np.memmap)


def test_joined_tables_hold_the_records_of_both() -> None:
    whole = tokenize_pairs(PAIRS, encode, eos_id=7, context_length=64, settings=RecordSettings()).table
    joined = RecordTable.join([whole.only(np.arange(30)), whole.only(np.arange(30, len(whole)))])
    for number in range(len(whole)):
        np.testing.assert_array_equal(joined.record(number), whole.record(number))


def test_too_long_is_an_error_or_counted() -> None:
    with pytest.raises(FtcotError, match=r"question 1, completion 1 has \d+ tokens and the limit is 12"):
        tokenize_pairs(PAIRS, encode, eos_id=7, context_length=12, settings=RecordSettings())
    with pytest.raises(FtcotError, match=r"question 0 has 4 tokens and the student's limit is 3"):
        tokenize_pairs(PAIRS[1:], encode, eos_id=7, context_length=3, settings=RecordSettings())
    dropping = tokenize_pairs(PAIRS, encode, 7, 12, RecordSettings(too_long="drop"))
    fits = [pair for pair in PAIRS if len(pair.prompt) + len(pair.label) + 1 <= 12]
    assert len(dropping.table) == len(fits)
    assert dropping.too_long == len(PAIRS) - len(fits) > 0


def test_pairs_and_records_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_BYTES", 1 << 12)
    write(tmp_path / "first")  # TFDS reads some megabytes of its own
    count = 2 * PAIRS_HELD
    pairs = (Pair(n, 0, str(n), "l" * 9, True, "r" * 2000) for n in range(count))
    tracemalloc.start()
    made = tokenize_pairs(pairs, encode, eos_id=7, context_length=99, settings=RecordSettings())
    tokenizing = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    write_records(epath.Path(tmp_path / "records"), made.table, MADE)
    writing = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    table = sum(array.nbytes for array in vars(made.table).values())
    assert len(made.table) == count
    assert tokenizing < table + PAIRS_HELD * 3000  # a pair has 2.3 KB
    assert writing < 50 * count  # of records TFDS would hold some 200 bytes each


def test_many_files_keep_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "_TOKENS_A_FILE", 100)
    monkeypatch.setattr(builder, "_MOST_FILES", 5)
    folder = write(tmp_path)
    assert len(record_files(folder)) == 5
    table = read_dataset(folder)
    assert [tuple(pair) for pair in zip(table.sample_index, table.completion_index, strict=True)] == [
        (pair.sample_index, pair.completion_index) for pair in PAIRS
    ]


def test_prompts_that_rationales_share_are_tokenised_once() -> None:
    asked: list[str] = []

    def counting(texts: list[str]) -> list[list[int]]:
        asked.extend(texts)
        return encode(texts)

    tokenize_pairs(PAIRS, counting, eos_id=7, context_length=64, settings=RecordSettings())
    assert len(asked) == len({pair.prompt for pair in PAIRS}) + len(PAIRS)


def test_the_manifest_says_what_is_there(tmp_path: Path) -> None:
    found = read_manifest(write(tmp_path), MADE)
    assert found.records == len(PAIRS)
    assert found.prompt_tokens == sum(len(pair.prompt) for pair in PAIRS)
    assert found.label_tokens == sum(len(pair.label) + 1 for pair in PAIRS)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), r"array_record\S* is truncated: \d+ bytes, not \d+"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9] + b"123456789"), r"array_record\S* is damaged: its SHA"),
        (lambda file: file.unlink(), r"array_record\S* is missing"),
        (lambda file: file.with_name("x.array_record-0").write_bytes(b"1"), r"x\.array_record-0 is foreign"),
        (lambda file: (file.parents[2] / "table" / "tokens.npy").unlink(), r"table/tokens\.npy is missing"),
        (lambda file: (file.parents[2] / "table" / "x.npy").write_bytes(b"1"), r"table/x\.npy is foreign"),
        (lambda file: (file.parents[2] / "table" / "lengths.npy").write_bytes(b"1"), r"lengths\.npy is truncated"),
        (lambda file: (file.parents[2] / "records.json").write_text("{"), r"records\.json: damaged"),
        (lambda file: (file.parents[2] / "records.json").unlink(), r"records\.json: not there"),
    ],
)
def test_harmed_files_are_named(harm: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    folder = write(tmp_path)
    harm(Path(record_files(folder)[0]))
    with pytest.raises(FtcotError, match=message):
        read_records(folder)


def test_records_without_arrays_are_of_an_older_version(tmp_path: Path) -> None:
    folder = write(tmp_path)
    shutil.rmtree(folder / "table")
    manifest = json.loads((folder / "records.json").read_text())
    manifest["files"] = {name: file for name, file in manifest["files"].items() if "table" not in name}
    (folder / "records.json").write_text(json.dumps(manifest))
    with pytest.raises(FtcotError, match=r"table/tokens\.npy: not there, these records are of an older version"):
        read_records(folder)
    assert len(read_dataset(folder)) == len(PAIRS)


def test_records_of_another_tokenizer_or_template_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert len(read_records(folder, MADE)) == len(PAIRS)
    with pytest.raises(FtcotError, match="made with another tokenizer"):
        read_records(folder, Made(tokenizer="u", template={"name": "t"}))
    with pytest.raises(FtcotError, match="made with another template"):
        read_records(folder, Made(tokenizer="t", template={"name": "u"}))
