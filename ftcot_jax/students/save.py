"""Writing a student in the Hugging Face layout, for `transformers`, vLLM, and ourselves."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np

from ftcot_jax.students.checkpoint import INDEX, SINGLE, to_disk_layout
from ftcot_jax.students.family import Params
from ftcot_jax.students.leaf_paths import by_path
from ftcot_jax.students.lora import merged
from ftcot_jax.students.safetensors_file import write_safetensors
from ftcot_jax.students.student import Student

SHARD_BYTES = 5_000_000_000
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def save_student(
    student: Student,
    params: Params,
    folder: Path,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes config, tokenizer and weights; ``transformers`` and vLLM load the folder as it is.

    Adapters are merged into the weights they adapt. In float32, the precision the params have, reading it back
    gives the same bits. config.json comes last: a folder without it is not finished.

    Args:
      student: whose architecture and tokenizer.
      params: one student's weights, without a slot axis.
      folder: made if need be; files of the same names are replaced.
      dtype: precision on disk.
      shard_bytes: weights beyond this many bytes are split into several files with an index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(student, params, folder, np.dtype(DTYPES[dtype]), shard_bytes)
    student.tokenizer.save_pretrained(folder)
    if student.folder is not None and student.folder.resolve() != folder.resolve():
        for name in ("generation_config.json", "chat_template.jinja"):
            if (student.folder / name).is_file():
                shutil.copyfile(student.folder / name, folder / name)
    config = copy.deepcopy(student.config)
    config.architectures = [student.architecture]
    config.dtype = dtype
    config.save_pretrained(folder)


def _write_weights(student: Student, params: Params, folder: Path, dtype: np.dtype, shard_bytes: int) -> None:
    leaves = by_path(params)
    files: list[dict[str, Any]] = [{}]
    filled = 0
    for path, place in student.stored.items():
        shape = leaves[path].shape
        on_disk = place.shape(shape[1:] if place.stacked else shape)
        size = int(np.prod(on_disk)) * dtype.itemsize
        for layer in range(shape[0] if place.stacked else 1):
            if filled and filled + size > shard_bytes:
                files.append({})
                filled = 0
            files[-1][place.name.format(layer=layer)] = (on_disk, dtype)
            filled += size
    tensors = _tensors(student, leaves, dtype)
    if len(files) == 1:
        write_safetensors(folder / SINGLE, tensors, files[0])
        return
    weight_map: dict[str, str] = {}
    for number, shapes in enumerate(files, 1):
        name = f"model-{number:05}-of-{len(files):05}.safetensors"
        write_safetensors(folder / name, (next(tensors) for _ in shapes), shapes)
        weight_map |= dict.fromkeys(shapes, name)
    size = sum(int(np.prod(shape)) * dtype.itemsize for shapes in files for shape, _ in shapes.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _tensors(student: Student, leaves: dict[str, Any], dtype: np.dtype) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every tensor under its name on disk; one parameter at a time is on the host."""
    for path, place in student.stored.items():
        array = merged(path, leaves, student.compute.lora)
        for layer in range(array.shape[0] if place.stacked else 1):
            part = array[layer] if place.stacked else array
            yield place.name.format(layer=layer), to_disk_layout(part, place).astype(dtype)
