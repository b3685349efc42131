"""A student as far as it can be known without the network: on this machine, or its shapes from the package's table."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ftcot_jax.students.family import Compute, Lora
from ftcot_jax.students.load import FAMILIES, load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.students.word_tokenizer import word_tokenizer


def here(settings: StudentSettings) -> StudentSettings | None:
    """The settings with folders of this machine in place of hub names; None if something would be downloaded."""
    found: dict[str, str] = {}
    for field in ("checkpoint", "tokenizer"):
        name = getattr(settings, field)
        if name is not None:
            folder = _folder(name)
            if folder is None:
                return None
            found[field] = folder
    return settings.model_copy(update=found)


def student_without_network(
    settings: StudentSettings, words: Sequence[str] | None = None
) -> tuple[Student | None, bool]:
    """The student if it is here, else one of its shapes, whose tokenizer is none; and whether it is here.

    Args:
      settings: section ``student:`` of a recipe.
      words: as for `load_student`.

    Returns:
      (None, False) where not even the shapes are known.

    Raises:
      UsageError: it is here, and wrong.
    """
    local = here(settings)
    if local is not None and (settings.tokenizer or settings.checkpoint or words):
        return load_student(local, words), True
    fields = settings.scratch if settings.checkpoint is None else table().get(Path(settings.checkpoint).name)
    if fields is None or "vocab_size" not in fields:
        return None, False
    return _shapes_only(settings, dict(fields)), False


@functools.cache
def table() -> dict[str, dict[str, Any]]:
    """Fields of transformers configs, by checkpoint."""
    text = importlib.resources.files("ftcot_jax.students").joinpath("architectures.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def _folder(name: str) -> str | None:
    """The folder of a checkpoint or tokenizer: a path, or the hub's snapshot in the local cache."""
    if Path(name).is_dir():
        return name
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache

    for file in ("config.json", "tokenizer.json"):
        found = try_to_load_from_cache(name, file)
        if isinstance(found, str):
            return str(Path(found).parent)
    return None


def _shapes_only(settings: StudentSettings, fields: dict[str, Any]) -> Student:
    import transformers

    model_type = fields.pop("model_type")
    tokenizer = word_tokenizer(["a"])
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = transformers.AutoConfig.for_model(model_type, **(ends | fields))
    if fields.get("tie_word_embeddings") is False:
        config.tie_word_embeddings = False  # as in `load_student`
    lora = None if settings.lora is None else Lora(**settings.lora.model_dump())
    compute = Compute(settings.dtype, settings.remat, settings.dropout, lora, settings.attention)
    return Student(FAMILIES[model_type], config, tokenizer, compute)
