"""What both sides of a cell have in common: when an epoch ends, and how long its texts are. Standard library alone."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.work import GivenWork

EARLY_EPOCHS, EARLY_LIMIT, LIMIT = 2, 256, 1024  # the authors' limits of prompt and text together


def epoch_steps(work: GivenWork, epochs: int) -> list[list[list[int]]]:
    """The records of each step, epoch by epoch: as many steps in each of them."""
    steps = len(work.steps) // epochs
    return [work.steps[epoch * steps : (epoch + 1) * steps] for epoch in range(epochs)]


def text_lengths(prompts: Sequence[Sequence[int]], lengths: Sequence[int], epoch: int) -> list[int]:
    """Tokens to write after each prompt, evaluated after `epoch` (from 0)."""
    limit = EARLY_LIMIT if epoch < EARLY_EPOCHS else LIMIT
    return [min(length, limit - len(prompt)) for prompt, length in zip(prompts, lengths, strict=True)]
