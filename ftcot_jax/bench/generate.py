"""``ftcot bench generate``: prompts and tokens a second, beside `transformers` on the same weights and prompts."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax

from ftcot_jax.bench.machine import Machine
from ftcot_jax.bench.table import Row, Spread, check_writable, number, publish
from ftcot_jax.bench.transformers_writer import TransformersWriter
from ftcot_jax.bench.usage import Usage, device_peak_bytes, measure
from ftcot_jax.bench.writing_work import Work, needed_arithmetic, needed_seconds, published_work, with_runaways
from ftcot_jax.errors import UsageError
from ftcot_jax.generation.generate import generate
from ftcot_jax.students.load import load_student
from ftcot_jax.students.save import save_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student

RUNAWAY_EVERY = 20

Writer = Callable[[Work], list[list[int]]]


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
    json_file: str | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measures and says it line by line; returns all figures as JSON values.

    Ours and theirs take turns, so that what else the machine does meets both. A first run of ours, which compiles, is
    left out and reported, and so is a first batch of theirs. Texts differ by ties at most; how many are equal is
    reported. Memory is the process's, which holds the weights of both; alone, of ours.

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
      json_file: receives the figures.
      say: receives lines.

    Raises:
      UsageError: neither checkpoint nor tokenizer is given, or the student has an encoder.
      FtcotError: too few questions.
    """
    check_writable(json_file)
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
    figures: dict[str, Any] = {
        "command": "bench generate",
        "device": jax.devices()[0].device_kind,
        "dtype": dtype,
        "rows": rows,
        "cases": {},
    }
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
    table: list[Row] = []
    for name, case in cases.items():
        found = _measure(student, case, rows, ours, theirs, repeats, functools.partial(_say_of, say, name))
        figures["cases"][name] = found
        table += case_rows(name, found, "transformers" if theirs else None)
    return publish(figures | {"device_peak_bytes": device_peak_bytes(), "rows": table}, json_file, say)


def _say_of(say: Callable[[str], None], name: str, line: str) -> None:
    say(f"{name}: {line}")


def _our_writer(student: Student, params: Any, rows: int) -> Writer:
    def write(work: Work) -> list[list[int]]:
        results = generate(
            student,
            params,
            work.prompts,
            max_length=student.context_length,
            max_new_tokens=work.lengths,
            batch_rows=rows,
            ignore_end=True,  # the lengths are given, and a random student may write it anywhere
        )
        return [result.tokens for result in results]

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
    texts, first = _timed(ours, work)
    our, their, machines, equal = [], [], [], None
    if theirs is not None:
        theirs(Work(work.prompts[:2], work.lengths[:2]))
    for turn in range(repeats):
        machines.append(Machine.measure(student.compute.dtype))
        our.append(_timed(ours, work)[1])
        line = f"turn {turn + 1}: ours {our[-1].seconds:.1f} s"
        if theirs is not None:
            their_texts, usage = _timed(theirs, work)
            their.append(usage)
            equal = sum(one == other for one, other in zip(texts, their_texts, strict=True))
            line += f", theirs {usage.seconds:.1f} s"
        say(line)
    machine = dataclasses.replace(
        machines[0], flops=max(one.flops for one in machines), bandwidth=max(one.bandwidth for one in machines)
    )
    least = needed_seconds(student, work, rows, machine)
    say(f"{machine}: no program of so many rows takes less than {number(least)} s")
    figures: dict[str, Any] = {
        "prompts": len(work.prompts),
        "tokens": work.tokens,
        "needed_flop": needed,
        "limit_flop_per_second": machine.flops,
        "limit_bytes_per_second": machine.bandwidth,
        "least_seconds": least,
        "our_seconds": [one.seconds for one in our],
        "our_first_seconds": first.seconds,
        "our_peak_bytes": max(one.peak_bytes for one in (first, *our)),
    }
    if theirs is not None:
        say(f"{equal} of {len(texts)} texts are equal")
        figures |= {
            "their_seconds": [one.seconds for one in their],
            "their_peak_bytes": max(one.peak_bytes for one in their),
            "ratios": [theirs.seconds / ours.seconds for ours, theirs in zip(our, their, strict=True)],
            "equal_texts": equal,
        }
    return figures


def _timed(writer: Writer, work: Work) -> tuple[list[list[int]], Usage]:
    texts: list[list[int]] = []
    usage = measure(lambda: texts.extend(writer(work)))
    return texts, usage


def case_rows(case: str, found: dict[str, Any], theirs: str | None) -> list[Row]:
    """The two programs' rows, or ours alone."""
    rows: list[Row] = []
    for program, whose in (("ours", "our"), (theirs, "their")):
        if program is None:
            continue
        seconds = found[f"{whose}_seconds"]
        mine = whose == "our"
        rows.append(
            {
                "texts": case,
                "program": program,
                "prompts/s": Spread.of([found["prompts"] / one for one in seconds]),
                "tokens/s": Spread.of([found["tokens"] / one for one in seconds]),
                "of a large product's FLOP/s": Spread.of(
                    [found["needed_flop"] / one / found["limit_flop_per_second"] for one in seconds]
                ),
                "of the two-term limit": Spread.of([found["least_seconds"] / one for one in seconds]),
                "compile, s": max(0.0, found["our_first_seconds"] - statistics.median(seconds)) if mine else None,
                "peak memory, MB": found[f"{whose}_peak_bytes"] / 1e6,
                "times as fast": Spread.of(found["ratios"]) if mine and theirs else None,
            }
        )
    return rows
