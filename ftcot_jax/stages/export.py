"""Exporting a trained student of a recipe, or any student's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ftcot_jax.config import load_recipe
from ftcot_jax.errors import UsageError, nearest
from ftcot_jax.progress import say
from ftcot_jax.stages.kept import selected_student
from ftcot_jax.stages.place import Place, run_folder
from ftcot_jax.stages.trials import prepare
from ftcot_jax.students.export import export_student


def export(
    source: str,
    overrides: Sequence[str],
    trial: str | None,
    folder: str,
    dtype: Literal["float32", "bfloat16", "float16"],
    shard_bytes: int,
) -> str:
    """Writes the student where the user wants it and returns a line that says so.

    Args:
      source: a recipe, or a folder with a student.
      overrides: of the recipe.
      trial: which trial of the recipe's grid; needed if there are several.
      folder: where the student goes.
      dtype: precision on disk.
      shard_bytes: size beyond which the weights are split.
    """
    found = Path(source) if Path(source).is_dir() else _trained(source, overrides, trial)
    export_student(found, Path(folder), dtype, shard_bytes)
    size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    return f"{folder}: {found} in {dtype}, {size / 1e6:.1f} MB of weights; transformers and vLLM load it as it is"


def _trained(recipe: str, overrides: Sequence[str], trial: str | None) -> Path:
    loaded, specs = load_recipe(recipe, overrides)
    names = [spec.name for spec in specs]
    if trial is None and len(specs) > 1:
        raise UsageError(f"{recipe}: the grid has {len(specs)} trials; name one with --trial, as {names[0]!r}")
    if trial is not None and trial not in names:
        raise UsageError(f"--trial: {recipe} has no trial {trial!r}{nearest(trial, names)}")
    place = Place(run_folder(loaded), say)
    (job,) = prepare(place, [specs[0] if trial is None else specs[names.index(trial)]])
    return Path(selected_student(place, job).on_disk("student"))
