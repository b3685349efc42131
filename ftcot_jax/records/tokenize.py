"""Pairs of text to pairs of token ids, in batches, with every pair that does not fit counted or refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.pairs import Pair

Encode = Callable[[Sequence[str]], list[list[int]]]


class RecordSettings(BaseModel):
    """Section ``records:`` of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_length: int | None = Field(
        None,
        gt=1,
        description="Longest record in tokens, prompt and label together; default: the student's context.",
    )
    too_long: Literal["error", "drop"] = Field(
        "error",
        description="What to do with a longer record: stop and name it, or leave it out and count it.",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class TokenPair:
    """One record: `input_ids` (P,) int32 of the prompt, `label_ids` (T,) int32 with the end token last."""

    input_ids: np.ndarray
    label_ids: np.ndarray
    sample_index: int
    completion_index: int
    correct: bool


@dataclasses.dataclass(frozen=True)
class Tokenized:
    """The records in order, and how many pairs were left out for their length."""

    pairs: list[TokenPair]
    too_long: int


def tokenize_pairs(
    pairs: Sequence[Pair], encode: Encode, eos_id: int, context_length: int, settings: RecordSettings
) -> Tokenized:
    """Tokenises prompts and labels apart, as the reference does, and ends each label with `eos_id`.

    Args:
      pairs: text pairs, in the order of the records to be written.
      encode: maps texts to token ids, without special tokens.
      eos_id: the student's end token.
      context_length: positions the student has.
      settings: the length limit and what to do beyond it.

    Raises:
      FtcotError: a prompt leaves no room for an answer, or a record is too long and `too_long` is "error".
    """
    limit = min(settings.max_length or context_length, context_length)
    distinct = list(dict.fromkeys(pair.prompt for pair in pairs))  # D rationales of a question share their prompt
    prompt_ids = dict(zip(distinct, encode(distinct), strict=True))
    prompts = [prompt_ids[pair.prompt] for pair in pairs]
    labels = encode([pair.label for pair in pairs])
    kept: list[TokenPair] = []
    for pair, prompt, label in zip(pairs, prompts, labels, strict=True):
        if len(prompt) >= limit and settings.too_long == "error":
            raise FtcotError(
                f"question {pair.sample_index} has {len(prompt)} tokens and the student's limit is {limit}: "
                "raise records.max_length, choose a student with more context, or set records.too_long=drop"
            )
        length = len(prompt) + len(label) + 1
        if length > limit:
            if settings.too_long == "error":
                raise FtcotError(
                    f"question {pair.sample_index}, completion {pair.completion_index} has {length} tokens "
                    f"and the limit is {limit}: raise records.max_length or set records.too_long=drop"
                )
            continue
        kept.append(
            TokenPair(
                np.asarray(prompt, np.int32),
                np.asarray([*label, eos_id], np.int32),
                pair.sample_index,
                pair.completion_index,
                pair.correct,
            )
        )
    return Tokenized(kept, too_long=len(pairs) - len(kept))
