"""Pairs of text to pairs of token ids, in batches, with every pair that does not fit counted or refused."""

from __future__ import annotations

import dataclasses
import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.records.table import RecordTable

Encode = Callable[[Sequence[str]], list[list[int]]]

TEXTS = 1024
"""Tokenised at a time: enough for all cores; with more, measured, each token takes longer."""

PAIRS = 4 * TEXTS
"""Held at a time."""


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


@dataclasses.dataclass(frozen=True)
class Tokenized:
    """The records in order, and how many pairs were left out for their length."""

    table: RecordTable
    too_long: int


def tokenize_pairs(
    pairs: Iterable[Pair], encode: Encode, eos_id: int, context_length: int, settings: RecordSettings
) -> Tokenized:
    """Tokenises prompts and labels apart, as the reference does, and ends each label with `eos_id`.

    Args:
      pairs: text pairs, in the order of the records to be written; some thousand at a time are held.
      encode: maps texts to token ids, without special tokens.
      eos_id: the student's end token.
      context_length: positions the student has.
      settings: the length limit and what to do beyond it.

    Raises:
      FtcotError: a prompt leaves no room for an answer, or a record is too long and `too_long` is "error".
    """
    limit = min(settings.max_length or context_length, context_length)
    end = np.array([eos_id], np.int32)
    tokens, columns = array("i"), tuple(array(kind) for kind in "iiqqb")
    prompt_ids: dict[str, np.ndarray] = {}
    too_long, rest = 0, iter(pairs)
    while batch := list(itertools.islice(rest, PAIRS)):
        distinct = dict.fromkeys(pair.prompt for pair in batch)  # D rationales of a question share their prompt
        new = [prompt for prompt in distinct if prompt not in prompt_ids]
        known = {prompt: prompt_ids[prompt] for prompt in distinct if prompt in prompt_ids}
        prompt_ids = known | dict(zip(new, _encoded(new, encode), strict=True))
        for pair, label in zip(batch, _encoded([pair.label for pair in batch], encode), strict=True):
            prompt = prompt_ids[pair.prompt]
            length = len(prompt) + len(label) + 1
            if length > limit:
                if settings.too_long == "error":
                    raise FtcotError(_too_long(pair, len(prompt), length, limit))
                too_long += 1
                continue
            for piece in (prompt, label, end):
                tokens.frombytes(piece.data.cast("B"))
            row = (length, len(prompt), pair.sample_index, pair.completion_index, bool(pair.correct))
            for column, value in zip(columns, row, strict=True):
                column.append(value)
    return Tokenized(RecordTable.of(np.asarray(tokens), *map(np.asarray, columns)), too_long)


def _too_long(pair: Pair, prompt: int, length: int, limit: int) -> str:
    if prompt >= limit:
        return (
            f"question {pair.sample_index} has {prompt} tokens and the student's limit is {limit}: "
            "raise records.max_length, choose a student with more context, or set records.too_long=drop"
        )
    return (
        f"question {pair.sample_index}, completion {pair.completion_index} has {length} tokens "
        f"and the limit is {limit}: raise records.max_length or set records.too_long=drop"
    )


def _encoded(texts: Sequence[str], encode: Encode) -> Iterator[np.ndarray]:
    """Yields int32 token ids; Python's lists of them, ten times as large, exist for one batch at a time."""
    for begin in range(0, len(texts), TEXTS):
        for ids in encode(texts[begin : begin + TEXTS]):
            yield np.array(ids, np.int32)
