"""Prompts to text: greedy or sampled, alone or in any batch the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ftcot_jax.errors import FtcotError
from ftcot_jax.generation.board import Board, FinishReason, Text
from ftcot_jax.generation.sampling import Sampling, sample_seed
from ftcot_jax.generation.stop_strings import StopStrings
from ftcot_jax.students.family import Params
from ftcot_jax.students.student import Student


@dataclasses.dataclass(frozen=True, slots=True)
class Generated:
    """What one prompt led to.

    Attributes:
      tokens: the tokens written, without the end token or a stop string.
      finish_reason: "stop": the end token or a stop string came; "length": the limit came first;
        "prompt_too_long": the prompt left no room for a single token, so nothing was written.
    """

    tokens: list[int]
    finish_reason: FinishReason


def generate(
    student: Student,
    params: Params,
    prompts: Sequence[Sequence[int]],
    *,
    max_length: int,
    max_new_tokens: int | None = None,
    batch_rows: int = 32,
    sampling: Sampling | None = None,
    stop: Sequence[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Generated]:
    """Continues each prompt; the result depends neither on the batch nor on the prompts' order.

    Args:
      student: the architecture; its end token stops a text.
      params: one student's weights.
      prompts: token ids, none empty.
      max_length: most tokens of prompt and text together; the student's context also limits them. For an
        encoder-decoder, most tokens of each, the text's counted with its start token.
      max_new_tokens: most tokens of the text, end token included.
      batch_rows: texts written at a time.
      sampling: how tokens are drawn; None takes the likeliest.
      stop: strings that end a text.
      on_progress: called with (texts done, texts in all).

    Returns:
      One `Generated` a prompt, in their order; with `sampling.samples` of n, n for each prompt in turn.

    Raises:
      FtcotError: a prompt is empty, or holds a token the student does not have.
    """
    samples = 1 if sampling is None else sampling.samples
    results: list[Generated | None] = [None] * (len(prompts) * samples)
    texts = []
    for number in range(len(results)):
        prompt, sample = prompts[number // samples], number % samples
        _check_prompt(student, number // samples, prompt)
        text = _plan(student, number, list(prompt), max_length)
        too_long = text.budget < 1
        if max_new_tokens is not None:
            text.budget = min(text.budget, max_new_tokens)
        if text.budget < 1:
            results[number] = Generated([], "prompt_too_long" if too_long else "length")
            continue
        if sampling is not None:
            text.seed = sample_seed(sampling, prompt, sample)
        texts.append(text)
    texts.sort(key=lambda text: len(text.prefill))  # neighbours share a prefill, so they should be alike
    board = Board(student, params, texts, batch_rows, sampling, StopStrings(student, stop))
    finished = len(results) - len(texts)
    while board.busy:
        for text in board.advance():
            assert text.finish_reason is not None
            results[text.number] = Generated(text.written, text.finish_reason)
            finished += 1
        if on_progress is not None:
            on_progress(finished, len(results))
    return [result for result in results if result is not None]


def _plan(student: Student, number: int, prompt: list[int], max_length: int) -> Text:
    """What is to be read and written for a prompt; the budget is below 1 when it is too long."""
    if student.kind == "encoder_decoder":  # prompt and text have a limit each; the start token counts
        return Text(number, prompt, student.start_id, 0, (max_length - 1) * (len(prompt) <= max_length))
    limit = min(max_length, student.context_length)
    return Text(number, prompt[:-1], prompt[-1], len(prompt) - 1, limit - len(prompt))


def _check_prompt(student: Student, number: int, prompt: Sequence[int]) -> None:
    if not len(prompt):
        raise FtcotError(f"prompt {number} is empty: there is nothing to continue")
    if min(prompt) < 0 or max(prompt) >= student.config.vocab_size:
        raise FtcotError(
            f"prompt {number} holds token {max(prompt)}, and the student has {student.config.vocab_size} "
            "tokens: it was encoded with another tokenizer"
        )
