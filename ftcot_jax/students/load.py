"""From settings to a student: a checkpoint folder, a name on the hub, or a config for random weights."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftcot_jax.errors import FtcotError, UsageError, nearest
from ftcot_jax.students.checkpoint import head_is_tied
from ftcot_jax.students.family import Compute, Config, Family, Lora
from ftcot_jax.students.gpt2 import GPT2_FAMILY
from ftcot_jax.students.llama import LLAMA
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.students.t5 import T5_FAMILY
from ftcot_jax.students.word_tokenizer import word_tokenizer

FAMILIES: dict[str, Family] = {
    model_type: family for family in (LLAMA, GPT2_FAMILY, T5_FAMILY) for model_type in family.architectures
}


def load_student(settings: StudentSettings, words: Sequence[str] | None = None) -> Student:
    """Returns the student that the settings describe, without its weights.

    Args:
      settings: section ``student:`` of the recipe.
      words: vocabulary of a student from scratch that names no tokenizer.

    Raises:
      UsageError: the folder or config is wrong, or asks for what the student cannot do.
      FtcotError: the hub cannot be reached, or a file is damaged.
    """
    lora = None if settings.lora is None else Lora(**settings.lora.model_dump())
    compute = Compute(settings.dtype, settings.remat, settings.dropout, lora)
    if settings.scratch is not None:
        return _from_scratch(settings, settings.scratch, words, compute)
    assert settings.checkpoint is not None  # the settings check that one of the two is given
    folder = resolve_checkpoint(settings.checkpoint)
    config = _read_config(folder)
    if config.tie_word_embeddings and not head_is_tied(folder):
        config.tie_word_embeddings = False  # as transformers decides; T5 1.1's config cannot say it
    return Student(_family(config.model_type, str(folder)), config, _read_tokenizer(folder), compute, folder)


def resolve_checkpoint(name: str) -> Path:
    """Returns the checkpoint's folder: `name` itself, or the hub's snapshot in the local cache.

    Raises:
      UsageError: it is neither a folder nor a hub name.
      FtcotError: the hub cannot be reached or does not have it.
    """
    if Path(name).is_dir():
        return Path(name)
    if name.endswith(".gguf"):
        raise UsageError(
            f"student.checkpoint: {name} is a GGUF file, whose quantised blocks are for inference; read it with "
            "transformers (from_pretrained(folder, gguf_file=...)), save_pretrained it, and give that folder"
        )
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise UsageError(f"student.checkpoint: there is no folder {name}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except LocalEntryNotFoundError as error:
        raise FtcotError(
            f"student.checkpoint: {name} is no folder here, and the Hugging Face hub cannot be reached; "
            "fetch it elsewhere and give its folder"
        ) from error
    except Exception as error:  # the client raises many kinds: no such repository, gated, network
        reason = str(error).strip().splitlines()[0]
        raise FtcotError(
            f"student.checkpoint: {name} is no folder here, and the Hugging Face hub says: {reason}"
        ) from error


def _from_scratch(
    settings: StudentSettings, fields: dict[str, Any], words: Sequence[str] | None, compute: Compute
) -> Student:
    transformers = _transformers()
    fields = dict(fields)
    model_type = fields.pop("model_type", None)
    if model_type is None:
        raise UsageError(f"student.scratch: model_type is missing; it is one of {', '.join(FAMILIES)}")
    family = _family(model_type, "student.scratch")
    if settings.tokenizer is not None:
        tokenizer = _read_tokenizer(resolve_checkpoint(settings.tokenizer))
    elif words is not None:
        tokenizer = word_tokenizer(words)
    else:
        raise UsageError("student.scratch: this task has no closed vocabulary; set student.tokenizer")
    known = _config_fields(type(transformers.AutoConfig.for_model(model_type)))
    known.add("tie_word_embeddings")  # T5's config takes it, though it is not a field of its own
    for field in fields:
        if field not in known:
            raise UsageError(f"student.scratch.{field}: no such field of {model_type}{nearest(field, known)}")
    tokens = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    try:
        config = transformers.AutoConfig.for_model(model_type, **(tokens | fields))
    except Exception as error:  # transformers validates with exceptions of its own
        raise UsageError(f"student.scratch: {_last_line(error)}") from error
    if fields.get("tie_word_embeddings") is False:
        config.tie_word_embeddings = False  # T5's config takes it to mean only that the head is not scaled
    if family.kind == "encoder_decoder" and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = config.pad_token_id  # as T5's checkpoints say; generation needs it
    return Student(family, config, tokenizer, compute)


def _read_config(folder: Path) -> Config:
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder}: no config.json; give a folder in the Hugging Face layout")
    try:
        return _transformers().AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds for a config it cannot read
        raise UsageError(f"{folder / 'config.json'}: {_last_line(error)}") from error


def _read_tokenizer(folder: Path) -> Any:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UsageError(f"{folder}: no tokenizer.json; save the model's tokenizer into the folder")
    try:
        # The plain class keeps tokenizer.json as it is; a model type's own class may add tokens to it.
        exact = (folder / "tokenizer.json").is_file()
        reader = _transformers().PreTrainedTokenizerFast if exact else _transformers().AutoTokenizer
        tokenizer = reader.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as above
        raise UsageError(f"{folder}: the tokenizer cannot be read: {_last_line(error)}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(f"{folder}: the tokenizer has no fast version; save it with a tokenizer.json")
    return tokenizer


def _family(model_type: str, where: str) -> Family:
    if model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UsageError(
            f"{where}: model_type {model_type!r} is not supported; supported are {known}{nearest(model_type, FAMILIES)}"
        )
    return FAMILIES[model_type]


def _config_fields(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _last_line(error: Exception) -> str:
    """The line of a transformers error that says what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _transformers() -> Any:
    """Imports transformers, which is slow and advises installing PyTorch unless told otherwise."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import transformers

    return transformers
