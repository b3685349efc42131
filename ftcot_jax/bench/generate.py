"""``ftcot bench generate``: prompts and tokens a second, beside `transformers` on the same weights and prompts."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax

from ftcot_jax.bench.machine import Machine
from ftcot_jax.bench.transformers_writer import TransformersWriter
from ftcot_jax.bench.writing_work import (
    Work,
    needed_arithmetic,
    needed_seconds,
    published_work,
    spread,
    with_runaways,
)
from ftcot_jax.errors import UsageError
from ftcot_jax.generation.generate import generate
from ftcot_jax.students.load import load_student
from ftcot_jax.students.save import save_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student

RUNAWAY_EVERY = 20

Writer = Callable[[Work], tuple[list[list[int]], float]]


def bench_generate(
    completions: str,
    *,
    checkpoint: str | None,
    tokenizer: str | None,
    prompts: int,
    rows: int,
    repeats: int,
    dtype: Literal["float32", "bfloat16"],
    runaways: bool,
    alone: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measures and says it line by line; returns all figures as JSON values.

    Ours and theirs take turns, so that what else the machine does meets both. A first run of each, which compiles,
    is left out and reported. Texts differ by ties at most; how many are equal is reported.

    Args:
      completions: CompletionDataset JSON: questions, and the rationales whose lengths the texts have.
      checkpoint: the student; None for one of GPT-2 124M's shape with random weights.
      tokenizer: that of the student without checkpoint.
      prompts: how many questions.
      rows: texts that ours writes at a time.
      repeats: turns.
      dtype: of the arithmetic, in both.
      runaways: also measure with one text in twenty that never stops.
      alone: leave `transformers` out.
      say: receives lines.

    Raises:
      UsageError: neither checkpoint nor tokenizer is given, or the student has an encoder.
      FtcotError: too few questions.
    """
    if (checkpoint is None) == (tokenizer is None):
        raise UsageError("bench generate: give --student, or --tokenizer for one of GPT-2's shape with random weights")
    scratch = None if checkpoint else {"model_type": "gpt2"}
    student = load_student(
        StudentSettings(checkpoint=checkpoint, scratch=scratch, tokenizer=tokenizer, dtype=dtype, dropout=False)
    )
    if student.kind != "decoder":
        raise UsageError(f"bench generate: {checkpoint} is an encoder-decoder; the benchmark is of decoders")
    params = student.init(jax.random.key(0)) if checkpoint is None else student.load()
    work = published_work(student, completions, prompts)
    figures: dict[str, Any] = {"device": jax.devices()[0].device_kind, "dtype": dtype, "rows": rows, "cases": {}}
    ours, theirs = _our_writer(student, params, rows), None
    if alone or importlib.util.find_spec("torch") is None:
        say("transformers: left out" if alone else "transformers: left out, the parity extra is not installed")
    else:
        with tempfile.TemporaryDirectory() as scratch_folder:
            save_student(student, params, Path(scratch_folder) / "student")
            their = TransformersWriter(Path(scratch_folder) / "student", dtype)
        theirs = their.write
        figures["theirs"] = their.name
        say(f"beside {their.name}, batches of 32")
    cases = {"published lengths": work}
    if runaways:
        cases["one in twenty never stops"] = with_runaways(work, student, RUNAWAY_EVERY)
    for name, case in cases.items():
        figures["cases"][name] = _measure(
            student, case, rows, ours, theirs, repeats, functools.partial(_say_of, say, name)
        )
    say(json.dumps(figures))
    return figures


def _say_of(say: Callable[[str], None], name: str, line: str) -> None:
    say(f"{name}: {line}")


def _our_writer(student: Student, params: Any, rows: int) -> Writer:
    def write(work: Work) -> tuple[list[list[int]], float]:
        began = time.perf_counter()
        results = generate(
            student,
            params,
            work.prompts,
            max_length=student.context_length,
            max_new_tokens=work.lengths,
            batch_rows=rows,
            ignore_end=True,  # the lengths are given, and a random student may write it anywhere
        )
        return [result.tokens for result in results], time.perf_counter() - began

    return write


def _measure(
    student: Student,
    work: Work,
    rows: int,
    ours: Writer,
    theirs: Writer | None,
    repeats: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    needed = needed_arithmetic(student, work)
    say(f"{len(work.prompts)} prompts, {work.tokens} tokens to write, {needed / 1e12:.2f} TFLOP needed")
    texts, first = ours(work)
    our_seconds, their_seconds, machines, equal = [], [], [], None
    for turn in range(repeats):
        machines.append(Machine.measure(student.compute.dtype))
        our_seconds.append(ours(work)[1])
        if theirs is not None:
            their_texts, seconds = theirs(work)
            their_seconds.append(seconds)
            equal = sum(one == other for one, other in zip(texts, their_texts, strict=True))
        say(f"turn {turn + 1}: ours {our_seconds[-1]:.1f} s" + (f", theirs {seconds:.1f} s" if theirs else ""))
    best = min(our_seconds)
    machine = dataclasses.replace(
        machines[0], flops=max(one.flops for one in machines), bandwidth=max(one.bandwidth for one in machines)
    )
    least = needed_seconds(student, work, rows, machine)
    speeds = [work.tokens / seconds for seconds in our_seconds]
    say(f"ours: {spread(speeds)} tokens/s, {len(work.prompts) / best:.2f} prompts/s at best; first run {first:.1f} s")
    speed = needed / best
    say(f"ours: {speed / 1e9:.1f} GFLOP/s of needed arithmetic, {speed / machine.flops:.0%} of a large product's")
    say(f"ours: {least / best:.0%} of what {machine} allows")
    figures: dict[str, Any] = {
        "prompts": len(work.prompts),
        "tokens": work.tokens,
        "needed_flop": needed,
        "limit_flop_per_second": machine.flops,
        "limit_bytes_per_second": machine.bandwidth,
        "least_seconds": least,
        "our_seconds": our_seconds,
        "our_first_seconds": first,
    }
    if theirs is not None:
        ratios = [their / our for our, their in zip(our_seconds, their_seconds, strict=True)]
        their_speeds = [work.tokens / seconds for seconds in their_seconds]
        say(f"theirs: {spread(their_speeds)} tokens/s; ours is {spread(ratios)} times as fast")
        say(f"{equal} of {len(texts)} texts are equal")
        figures |= {"their_seconds": their_seconds, "ratios": ratios, "equal_texts": equal}
    return figures
