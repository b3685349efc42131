"""The teacher's client with a million completions: memory, and the resuming of a large ledger.

    python -m benchmarks.teacher_client memory         # a million completions pending
    python -m benchmarks.teacher_client resume         # a ledger of a million rows

The canned server runs in a process of its own on one core, the client on another. How fast the client is, beside
others: `ftcot bench sample`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from ftcot_jax.bench.canned_server import canned_server, keep_to_core
from ftcot_jax.bench.sample_client import canned_question
from ftcot_jax.bench.usage import peak_bytes
from ftcot_jax.tasks.question import Question
from ftcot_jax.teacher.endpoint import Abilities
from ftcot_jax.teacher.ledger import Intent, Ledger, Outcome, Sample
from ftcot_jax.teacher.plan import ZERO_SHOT_COT
from ftcot_jax.teacher.probe import fact_name
from ftcot_jax.teacher.sampler import Interrupted, sample
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.teacher.stock import Stockroom
from ftcot_jax.teacher.tally import Tally

app = typer.Typer(add_completion=False)


@app.command()
def memory(completions: int = 1_000_000, diversity: int = 1, seconds: float = 15.0) -> None:
    """Peak memory with that many completions pending; Ctrl-C is sent to it after some seconds."""
    questions = _ManyQuestions(completions // diversity)
    before = _peak_megabytes()
    with canned_server(diversity) as url, tempfile.TemporaryDirectory(dir=".") as folder:
        keep_to_core(-1)  # the server has the first
        settings = TeacherSettings(endpoint=url, model="teacher", diversity=diversity, seed=1, concurrency=256)
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
        last: list[Tally] = []
        with contextlib.suppress(Interrupted):
            sample(settings, questions, Path(folder) / "ledger.sqlite", last.append)
    done = last[-1].done * diversity
    print(f"{len(questions) * diversity} completions wanted, {done} bought in {seconds:.0f} s, the others pending")
    print(f"peak memory {_peak_megabytes():.0f} MB (goal 500), of which {before:.0f} MB before the first question")


@app.command()
def resume(rows: int = 1_000_000, diversity: int = 64) -> None:
    """Seconds until a run finds that a ledger of that many samples lacks nothing, and to read all completions."""
    questions = _ManyQuestions(rows // (2 * diversity))
    with canned_server(diversity) as url, tempfile.TemporaryDirectory(dir=".") as folder:
        keep_to_core(-1)  # the server has the first
        settings = TeacherSettings(endpoint=url, model="teacher", diversity=diversity, seed=1, concurrency=256)
        file = Path(folder) / "ledger.sqlite"
        began = time.perf_counter()
        count = _fill_ledger(settings, questions, file)
        print(f"{count} samples written in {time.perf_counter() - began:.1f} s, {file.stat().st_size / 1e6:.0f} MB")
        began, processor = time.perf_counter(), time.process_time()
        sampled = sample(settings, questions, file)
        seconds = f"{time.perf_counter() - began:.1f} s, {time.process_time() - processor:.1f} s of processor time"
        print(f"resumed in {seconds} (goal 10)")
        began = time.perf_counter()
        print(f"{len(sampled.completions)} completions read in {time.perf_counter() - began:.1f} s")
        print(f"peak memory {_peak_megabytes():.0f} MB")


def _fill_ledger(settings: TeacherSettings, questions: Sequence[Question], file: Path) -> int:
    count = 0
    with contextlib.closing(Ledger(file)) as ledger:
        ledger.remember(fact_name(settings, settings.endpoints[0]), dataclasses.asdict(Abilities()))
        stockroom = Stockroom(settings, ZERO_SHOT_COT, ledger, "")
        for block in stockroom.blocks(questions):
            for stock in block:
                texts = {number: Sample(f" Text {number}. " + "x" * 90, "stop") for number in stock.first.numbers}
                stock.first.have.update(texts)
            wants = [stock.first for stock in block]
            wants += [want for stock in block for want in stockroom.ask_for_answers(stock)]
            intents = [Intent(want.request, want.numbers) for want in wants]
            answer = {0: Sample(" 6.", "stop")}
            outcomes = [
                Outcome(attempt, "answered", want.request, want.have or answer, (40, 30))
                for want, attempt in zip(wants, ledger.commit(intents, []), strict=True)
                if attempt is not None
            ]
            ledger.commit([], outcomes)
            count += sum(len(outcome.bought) for outcome in outcomes)
    return count


class _ManyQuestions(Sequence[Question]):
    """Questions made when they are asked for: what is measured is the sampler's memory, not a list's."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        if not 0 <= place < self._count:
            raise IndexError(place)
        return canned_question(place)


def _peak_megabytes() -> float:
    return peak_bytes() / 1e6


if __name__ == "__main__":
    app()
