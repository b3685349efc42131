"""Pairs on disk: a line of JSON each, and beside the lines the columns that selections ask of them."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.pair_table import PairColumns, Texts
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.text_files import json_text

_FIELDS = tuple(Pair.__dataclass_fields__)
_COLUMNS = tuple(PairColumns.__dataclass_fields__)
_LINES = "lines"  # (N,) int64: where each pair's line starts
_MAPPED = (_LINES, *(name for name in _COLUMNS if name.startswith("prediction")))  # which most selections do not ask


def write_pairs(file: str | os.PathLike[str], columns: str | os.PathLike[str], pairs: Iterable[Pair]) -> PairColumns:
    """Writes pairs one by one, never all of the text at once; returns what selections ask of them.

    Args:
      file: for the lines.
      columns: a folder, to be made, for the columns.
      pairs: in the order of the lines.
    """
    starts = array("q")

    def written() -> Iterator[Pair]:
        for pair in pairs:
            starts.append(lines.tell())
            lines.write((json_text({name: getattr(pair, name) for name in _FIELDS}) + "\n").encode())
            yield pair

    with open(file, "wb") as lines:
        made = PairColumns.of(written())
    folder = Path(columns)
    folder.mkdir()
    for name in _COLUMNS:
        np.save(folder / f"{name}.npy", getattr(made, name))
    np.save(folder / f"{_LINES}.npy", np.asarray(starts))
    return made


def open_pairs(file: str | os.PathLike[str], columns: str | os.PathLike[str]) -> tuple[PairColumns, Texts]:
    """The pairs of a file, ordered by question and completion; their texts stay there.

    Args:
      file: with the lines.
      columns: the folder of the columns; where there is none, as in runs of before, they are made from the lines.

    Raises:
      FtcotError: a line is not a pair.
    """
    folder, path = Path(columns), os.fspath(file)
    if folder.is_dir():
        modes = dict.fromkeys((*_COLUMNS, _LINES)) | dict.fromkeys(_MAPPED, "r")
        found = {name: np.load(folder / f"{name}.npy", mmap_mode=mode) for name, mode in modes.items()}
        starts, made = found.pop(_LINES), PairColumns(**found)
    else:
        begun = array("q")
        made = PairColumns.of(_all(path, begun.append))
        starts = np.asarray(begun)
    order = made.order()
    return made if order is None else made.at(order), _texts(path, starts, order)


def _all(path: str, begin: Callable[[int], None]) -> Iterator[Pair]:
    start = 0
    with open(path, "rb") as lines:
        for row, line in enumerate(lines):
            begin(start)
            start += len(line)
            yield _pair(line, path, row)


def _texts(path: str, starts: np.ndarray, order: np.ndarray | None) -> Texts:
    def read(places: Iterable[int]) -> Iterator[Pair]:
        with open(path, "rb") as lines:
            for place in places:
                row = int(place if order is None else order[place])
                lines.seek(int(starts[row]))  # which is cheap where it is there already
                yield _pair(lines.readline(), path, row)

    return read


def _pair(line: bytes, path: str, row: int) -> Pair:
    try:
        return Pair(**json.loads(line.decode()))
    except (ValueError, TypeError) as error:
        raise FtcotError(f"{path}, row {row}: not a pair ({error}); delete its folder to make it again") from error
