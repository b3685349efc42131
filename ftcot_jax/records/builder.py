"""Token records on disk: a TFDS dataset in ArrayRecord files, written and read without TensorFlow.

One record a (prompt, label) pair. Everything a selection needs (which question, which of the teacher's
completions, whether it is right) is in the record, so every diversity degree, filter and train fraction is a
choice of record numbers over one set of files.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from ftcot_jax.errors import FtcotError
from ftcot_jax.records.manifest import Made, read_manifest, write_manifest
from ftcot_jax.records.table import RecordTable
from ftcot_jax.records.tokenize import TokenPair

SPLIT = "pairs"
_TOKENS_A_FILE = 4_000_000
_MOST_FILES = 64


class RationaleRecords(tfds.core.GeneratorBasedBuilder):
    """A TFDS builder over pairs already tokenised in memory; the split is ``pairs``."""

    VERSION = tfds.core.Version("1.0.0")
    name = "rationale_records"

    def __init__(self, pairs: Sequence[TokenPair] = (), **kwargs: Any) -> None:
        self._pairs = pairs
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
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

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, pair in enumerate(self._pairs):
            yield (
                number,
                {
                    "input_ids": pair.input_ids,
                    "label_ids": pair.label_ids,
                    "sample_index": pair.sample_index,
                    "completion_index": pair.completion_index,
                    "correct": pair.correct,
                },
            )


def write_records(folder: epath.Path, pairs: Sequence[TokenPair], made: Made) -> None:
    """Writes the pairs, in order, as a TFDS dataset under `folder`, in as many files as can be read side by side.

    Args:
      folder: local or remote.
      pairs: the records; record i is pair i, whatever file it is in.
      made: what they were made with, for the manifest.
    """
    prompts, labels = (sum(len(getattr(pair, part)) for pair in pairs) for part in ("input_ids", "label_ids"))
    shards = max(1, min(_MOST_FILES, (prompts + labels) // _TOKENS_A_FILE))
    with _quiet():
        builder = RationaleRecords(pairs, data_dir=folder, file_format="array_record")
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=shards))
    write_manifest(folder, made, len(pairs), prompts, labels)


def read_records(folder: epath.Path, made: Made | None = None) -> RecordTable:
    """Reads every record under `folder` into one table of flat arrays.

    Args:
      folder: local or remote.
      made: what the records should have been made with; None to take whatever they were.

    Raises:
      FtcotError: there is no such dataset, a file of it is damaged, truncated, foreign or missing, or the records
        were made with something else.
    """
    manifest = read_manifest(folder, made)
    with _quiet():
        try:
            source = RationaleRecords(data_dir=folder, file_format="array_record").as_data_source(split=SPLIT)
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
