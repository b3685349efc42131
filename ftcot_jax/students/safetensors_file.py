"""Reading and writing safetensors files with numpy, any slice of any tensor at a time.

The format is a little-endian header length, a JSON header, and raw tensors
(https://github.com/huggingface/safetensors). Read through a memory map, only the bytes of the slices asked
for are touched, so a host loads its share of a checkpoint and no more. bfloat16, which the library's numpy
side lacks, is just another dtype here.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ftcot_jax.errors import FtcotError

_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_HEADER_LIMIT = 100_000_000


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Returns every tensor of the file as a read-only view of a memory map.

    Raises:
      FtcotError: the file is cut short, not a safetensors file, or holds a dtype we do not read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            if not 8 < start <= min(size, _HEADER_LIMIT):
                raise ValueError("the header's length is impossible")
            header = json.loads(file.read(start - 8))
        header.pop("__metadata__", None)
        data = _mapped(path) if size > start else np.zeros(start, np.uint8)
        return {name: _view(name, entry, data[start:]) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FtcotError(f"{path}: not a readable safetensors file ({error}); fetch it again") from error


def forget(tensor: np.ndarray) -> None:
    """Drops the file's pages that this process has read through the tensor's map; reading again fetches them again.

    Otherwise a host that reads its share of every row would come to hold the whole file.
    """
    base: Any = tensor
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def write_safetensors(path: Path, tensors: Iterator[tuple[str, np.ndarray]], shapes: dict[str, Any]) -> None:
    """Writes tensors as they come, through a temporary name, so that memory holds one at a time.

    Args:
      path: the file, replaced if it exists.
      tensors: (name, array) in the order of `shapes`.
      shapes: name -> (shape, dtype) of every tensor, in file order.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers refuses files without it
    end = 0
    for name, (shape, dtype) in shapes.items():
        begin, end = end, end + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        header[name] = {
            "dtype": _NAMES[np.dtype(dtype)],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (name, array), (expected, (shape, dtype)) in zip(tensors, shapes.items(), strict=True):
            if name != expected or array.shape != tuple(shape) or array.dtype != dtype:
                raise ValueError(f"{name} {array.dtype}{array.shape} came where {expected} was announced")
            file.write(np.ascontiguousarray(array).tobytes())
    temporary.replace(path)


def _mapped(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def _view(name: str, entry: dict[str, Any], data: np.ndarray) -> np.ndarray:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"tensor {name} has dtype {entry['dtype']}")
    dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= data.size:
        raise ValueError(f"tensor {name} lies beyond the end of the file")
    if end - begin != int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
        raise ValueError(f"tensor {name} is not as long as its shape {list(shape)} says")
    return data[begin:end].view(dtype).reshape(shape)
