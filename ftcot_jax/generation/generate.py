"""Prompts to text: greedy or sampled, alone or in any batch the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ftcot_jax.errors import FtcotError
from ftcot_jax.generation.board import Board, FinishReason, Text
from ftcot_jax.generation.decode import lay_out, lay_out_one
from ftcot_jax.generation.placement import mesh_of, slot_shares
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
    max_new_tokens: int | Sequence[int] | None = None,
    batch_rows: int = 32,
    sampling: Sampling | None = None,
    stop: Sequence[str] = (),
    ignore_end: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Generated]:
    """Continues each prompt; the result depends neither on the batch nor on the prompts' order.

    Args:
      student: the architecture; its end token stops a text.
      params: one student's weights. Those sharded over a mesh of `training.mesh` are used where they are.
      prompts: token ids, none empty.
      max_length: most tokens of prompt and text together; the student's context also limits them. For an
        encoder-decoder, most tokens of each, the text's counted with its start token.
      max_new_tokens: most tokens of a text, end token included: of all, or one number a prompt.
      batch_rows: texts written at a time.
      sampling: how tokens are drawn; None takes the likeliest.
      stop: strings that end a text.
      ignore_end: the end token is a token like any other, for benchmarks that say how long each text is.
      on_progress: called with (texts done, texts in all).

    Returns:
      One `Generated` a prompt, in their order; with `sampling.samples` of n, n for each prompt in turn.

    Raises:
      FtcotError: a prompt is empty, or holds a token the student does not have.
    """
    texts, results = _plan(student, [prompts], max_length, _by_slot(max_new_tokens), sampling)
    weights = lay_out_one(student, params)
    end = _NEVER if ignore_end else student.eos_id
    board = Board(student, weights, 1, texts, batch_rows, sampling, end, StopStrings(student, stop), mesh_of(params))
    return _finish(board, texts, results, on_progress)[0]


def generate_many(
    student: Student,
    params_S: Params,
    prompts_by_slot: Sequence[Sequence[Sequence[int]]],
    *,
    max_length: int | Sequence[int],
    max_new_tokens: int | Sequence[Sequence[int]] | None = None,
    batch_rows: int = 32,
    sampling: Sampling | None = None,
    stop: Sequence[str] = (),
    ignore_end: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    frozen: Params | None = None,
) -> list[list[Generated]]:
    """Has S students of one architecture continue prompts, side by side.

    Sharded params stay where they are: slots over the mesh's `trial`, a slot's rows over `data` and `fsdp`, heads
    over `tensor`. What is written depends neither on the devices, nor on the batch, nor on the prompts' order.

    Args:
      student: the architecture; its end token stops a text.
      params_S: the students' weights, every leaf with the slot axis first.
      prompts_by_slot: for each slot its prompts, token ids, none empty. Slots without prompts are left out, but for
        those that another device's share needs beside its own.
      max_length: most tokens of prompt and text together, of all or one number a slot; the student's context also
        limits them. For an encoder-decoder, most tokens of each, the text's counted with its start token.
      max_new_tokens: most tokens of a text, end token included: of all, or one number a prompt for each slot.
      batch_rows: texts a slot writes at a time.
      sampling: how tokens are drawn; None takes the likeliest.
      stop: strings that end a text.
      ignore_end: the end token is a token like any other, for benchmarks that say how long each text is.
      on_progress: called with (texts done, texts in all).
      frozen: params that all slots share, without slot axis, where `params_S` holds the adapters alone.

    Returns:
      For each slot one `Generated` a prompt, in their order; with `sampling.samples` of n, n for each in turn.

    Raises:
      FtcotError: a prompt is empty, or holds a token the student does not have.
    """
    mesh, end = mesh_of((params_S, frozen)), _NEVER if ignore_end else student.eos_id
    shares = slot_shares(mesh, len(prompts_by_slot))
    local_TxK = _writing_slots([bool(prompts) for prompts in prompts_by_slot], shares)
    slots = (local_TxK + np.arange(shares)[:, None] * (len(prompts_by_slot) // shares)).ravel().tolist()
    texts, results = _plan(
        student,
        [prompts_by_slot[slot] for slot in slots],
        max_length if isinstance(max_length, int) else [max_length[slot] for slot in slots],
        max_new_tokens if isinstance(max_new_tokens, int | None) else [max_new_tokens[slot] for slot in slots],
        sampling,
    )
    weights = lay_out(student, params_S, frozen, local_TxK)
    board = Board(student, weights, len(slots), texts, batch_rows, sampling, end, StopStrings(student, stop), mesh)
    written = dict(zip(slots, _finish(board, texts, results, on_progress), strict=True))
    return [written.get(slot, []) for slot in range(len(prompts_by_slot))]


def _writing_slots(asked_S: Sequence[bool], shares: int) -> np.ndarray:
    """Which slots write, (T, K) numbers within each of T shares: those that are asked, filled up to K in each.

    K is a power of two or the whole share, as every K is a program.
    """
    asked_TxS = np.asarray(asked_S).reshape(shares, -1)
    count, most = int(asked_TxS.sum(1).max()), asked_TxS.shape[1]
    chosen = min(1 << max(count - 1, 0).bit_length(), most)
    return np.sort(np.argsort(~asked_TxS, axis=1, kind="stable")[:, :chosen], axis=1)


_NEVER = -2  # an end token that no student writes
_Results = list[list[Generated | None]]


def _by_slot(tokens: int | Sequence[int] | None) -> int | list[Sequence[int]] | None:
    return tokens if tokens is None or isinstance(tokens, int) else [tokens]


def _plan(
    student: Student,
    prompts_by_slot: Sequence[Sequence[Sequence[int]]],
    max_length: int | Sequence[int],
    max_new_tokens: int | Sequence[Sequence[int]] | None,
    sampling: Sampling | None,
) -> tuple[list[Text], _Results]:
    """What is to be written, in the order of seating, and room for all results; those decided already are in."""
    samples = 1 if sampling is None else sampling.samples
    results: _Results = [[None] * (len(prompts) * samples) for prompts in prompts_by_slot]
    texts = []
    for slot, prompts in enumerate(prompts_by_slot):
        longest = max_length if isinstance(max_length, int) else max_length[slot]
        for number in range(len(results[slot])):
            prompt, sample = prompts[number // samples], number % samples
            _check_prompt(student, number // samples, prompt)
            text = _plan_one(student, slot, number, number // samples, list(prompt), longest)
            too_long = text.budget < 1
            if max_new_tokens is not None:
                most = max_new_tokens if isinstance(max_new_tokens, int) else max_new_tokens[slot][number // samples]
                text.budget = min(text.budget, most)
            if text.budget < 1:
                results[slot][number] = Generated([], "prompt_too_long" if too_long else "length")
                continue
            if sampling is not None:
                text.seed = sample_seed(sampling, prompt, sample)
            texts.append(text)
    # Neighbours share a prefill, so they should be alike; what may take longest comes first, so that few end alone.
    texts.sort(key=lambda text: -len(text.prefill))
    return texts, results


def _plan_one(student: Student, slot: int, number: int, asked: int, prompt: list[int], max_length: int) -> Text:
    """What is to be read and written for a prompt; the budget is below 1 when it is too long."""
    if student.kind == "encoder_decoder":  # prompt and text have a limit each; the start token counts
        return Text(slot, number, asked, prompt, student.start_id, 0, (max_length - 1) * (len(prompt) <= max_length))
    limit = min(max_length, student.context_length)
    return Text(slot, number, asked, prompt[:-1], prompt[-1], len(prompt) - 1, limit - len(prompt))


def _finish(
    board: Board, texts: list[Text], results: _Results, on_progress: Callable[[int, int], None] | None
) -> list[list[Generated]]:
    """Runs the board until every text has ended."""
    total = sum(map(len, results))
    finished = total - len(texts)
    while board.busy:
        for text in board.advance():
            assert text.finish_reason is not None
            results[text.slot][text.number] = Generated(text.written, text.finish_reason)
            finished += 1
        if on_progress is not None:
            on_progress(finished, total)
    return [[result for result in slot if result is not None] for slot in results]


def _check_prompt(student: Student, number: int, prompt: Sequence[int]) -> None:
    if not len(prompt):
        raise FtcotError(f"prompt {number} is empty: there is nothing to continue")
    if min(prompt) < 0 or max(prompt) >= student.config.vocab_size:
        raise FtcotError(
            f"prompt {number} holds token {max(prompt)}, and the student has {student.config.vocab_size} "
            "tokens: it was encoded with another tokenizer"
        )
