"""Completions out of a ledger: the authors' CompletionDataset JSON, or Parquet with the same columns."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ftcot_jax.errors import UsageError
from ftcot_jax.teacher.completion import Completion, write_completions

_ROWS_A_GROUP = 16_384
_NAMES = [field.name for field in dataclasses.fields(Completion) if field.name not in ("extra", "absent")]
_COLUMNS = pa.schema(
    [
        *(pa.field(name, pa.int64() if name.endswith("_index") else pa.string()) for name in _NAMES),
        pa.field("extra", pa.string()),  # JSON of whatever else a row that was read holds
    ]
)


def export(path: str | os.PathLike[str], metadata: Mapping[str, Any], completions: Iterable[Completion]) -> int:
    """Writes completions as their file's ending says, some at a time; returns how many.

    Args:
      path: ending in .json or .parquet.
      metadata: of the CompletionDataset; in Parquet it stands in the schema's metadata.
      completions: such as `Purchases`; a question's rows next to each other.

    Raises:
      UsageError: the path ends otherwise.
    """
    suffix = Path(path).suffix
    if suffix == ".json":
        return write_completions(path, metadata, completions).completions
    if suffix == ".parquet":
        return _write_parquet(Path(path), metadata, completions)
    raise UsageError(f"{path}: completions are exported as .json or .parquet")


def _write_parquet(final: Path, metadata: Mapping[str, Any], completions: Iterable[Completion]) -> int:
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    schema = _COLUMNS.with_metadata({name: str(value) for name, value in metadata.items() if value is not None})
    rows, count = iter(completions), 0
    with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        while group := [_row(row) for row in itertools.islice(rows, _ROWS_A_GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    partial.replace(final)
    return count


def _row(completion: Completion) -> dict[str, Any]:
    extra = json.dumps(dict(completion.extra), ensure_ascii=False) if completion.extra else None
    return {name: getattr(completion, name) for name in _NAMES} | {"extra": extra}
