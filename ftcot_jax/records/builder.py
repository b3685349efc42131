"""Token records on disk: a TFDS dataset in ArrayRecord files, written without TensorFlow, and the same as plain arrays.

The dataset is what other programs read. The arrays beside it, one file a column, are what training maps into memory:
a million records are there at once, and of a table beyond the memory only what a step needs is read.

One record a (prompt, label) pair. Everything a selection needs (which question, which of the teacher's
completions, whether it is right) is in the record, so every diversity degree, filter and train fraction is a
choice of record numbers over one set of files.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from ftcot_jax.errors import FtcotError
from ftcot_jax.records.manifest import Made, column_file, read_manifest, write_manifest
from ftcot_jax.records.table import COLUMNS, RecordTable

SPLIT = "pairs"
_NAME, _VERSION = "rationale_records", "1.0.0"
_TOKENS_A_FILE = 4_000_000
_MOST_FILES = 64


def write_records(folder: epath.Path, table: RecordTable, made: Made) -> None:
    """Writes the records, in order, under `folder`: as a TFDS dataset in several files, and as arrays.

    Args:
      folder: local or remote.
      table: the records; record i has number i, whatever file it is in.
      made: what they were made with, for the manifest.
    """
    shards = max(1, min(_MOST_FILES, len(table.tokens) // _TOKENS_A_FILE))
    with _quiet():
        # Not a builder's `download_and_prepare`: it holds a gigabyte of records, and beyond that it needs TensorFlow.
        info = _info(folder)
        epath.Path(info.data_dir).mkdir(parents=True)
        writer = tfds.core.SequentialWriter(info, -(-len(table) // shards), file_format="array_record")
        writer.initialize_splits([SPLIT])
        writer.add_examples({SPLIT: _examples(table)})
        writer.close_all()
    for name in COLUMNS:
        file = column_file(folder, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as opened:
            np.save(opened, getattr(table, name))
    prompts = int(table.prompt_lengths.sum(dtype=np.int64))
    write_manifest(folder, made, len(table), prompts, len(table.tokens) - prompts)


def _info(folder: epath.Path) -> tfds.core.DatasetInfo:
    where = folder / _NAME / _VERSION
    return tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity(_NAME, tfds.core.Version(_VERSION), os.fspath(where), __name__),
        description="Tokenised (prompt, label) pairs of teacher rationales.",
        features=tfds.features.FeaturesDict(
            {
                "input_ids": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                "label_ids": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                "sample_index": np.int64,
                "completion_index": np.int64,
                "correct": np.bool_,
            }
        ),
        disable_shuffling=True,  # record i is pair i: selections name records by number
    )


def _examples(table: RecordTable) -> Iterator[dict[str, Any]]:
    for number in range(len(table)):
        prompt, label = np.split(table.record(number), [table.prompt_lengths[number]])
        indices = {name: getattr(table, name)[number] for name in ("sample_index", "completion_index", "correct")}
        yield {"input_ids": prompt, "label_ids": label} | indices


def read_records(folder: epath.Path, made: Made | None = None) -> RecordTable:
    """Opens the records under `folder` as one table; on a local disk its tokens are mapped, not read.

    Args:
      folder: local or remote.
      made: what the records should have been made with; None to take whatever they were.

    Raises:
      FtcotError: there is no such dataset, a file of it is damaged, truncated, foreign or missing, or the records
        were made with something else.
    """
    read_manifest(folder, made)
    columns = {}
    for name in COLUMNS:
        file = column_file(folder, name)
        if not file.exists():
            raise FtcotError(f"{file}: not there, these records are of an older version; delete {folder} and run again")
        if name == "tokens" and os.path.exists(file):
            columns[name] = np.load(file, mmap_mode="r")
        else:
            with file.open("rb") as opened:
                columns[name] = np.load(io.BytesIO(opened.read()))
    return RecordTable.of(**columns)


def read_dataset(folder: epath.Path) -> RecordTable:
    """Reads the records back from the TFDS dataset, one after another: what other programs would see.

    Raises:
      FtcotError: there is no such dataset, or a file of it is damaged, truncated, foreign or missing.
    """
    manifest = read_manifest(folder)
    with _quiet():
        try:
            source = tfds.builder_from_directory(folder / _NAME / _VERSION).as_data_source(split=SPLIT)
            rows = source.__getitems__(list(range(manifest.records)))
            for number, row in enumerate(rows):
                if any(value is None for value in row.values()):  # what the reader makes of a truncated file
                    raise ValueError(f"record {number} of {len(rows)} is empty")
        except Exception as error:  # the readers raise bare RuntimeError, ValueError and their own kinds
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise FtcotError(
                f"{folder}: cannot read the token records ({first}); delete the folder, run again"
            ) from error
    return RecordTable.from_rows(rows)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS from printing its own bars and paths; our stage line says what was written."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
