"""Exporting a student: a folder that `transformers` and vLLM load, in the precision they are to serve."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ftcot_jax.errors import UsageError
from ftcot_jax.students.load import load_student
from ftcot_jax.students.save import SHARD_BYTES, save_student
from ftcot_jax.students.settings import StudentSettings


def export_student(
    source: Path,
    folder: Path,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Writes a student's config, tokenizer and weights, adapters merged; returns the folder.

    Args:
      source: a student artefact, or any folder in the Hugging Face layout.
      folder: made if need be; it must not hold another model.
      dtype: precision on disk; in float32 nothing is rounded.
      shard_bytes: weights beyond this many bytes are split into several files with an index.

    Raises:
      UsageError: there is no student in `source`, or there is already one in `folder`.
    """
    found = next((place for place in (source, source / "student") if (place / "config.json").is_file()), None)
    if found is None:
        raise UsageError(f"{source}: there is no student here; give a student artefact or a Hugging Face folder")
    if (folder / "config.json").exists():
        raise UsageError(f"{folder}: there is a model already; choose another folder or delete it")
    student = load_student(StudentSettings(checkpoint=str(found)))
    save_student(student, student.load(), folder, dtype, shard_bytes)
    return folder
