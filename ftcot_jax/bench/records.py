"""``ftcot bench records``: how fast text becomes records, records come back, and batches are fed to training."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ftcot_jax.bench.machine import Machine
from ftcot_jax.bench.record_road import Road, Wanted, read_raw
from ftcot_jax.bench.table import Row, Spread, check_writable, number, publish
from ftcot_jax.bench.usage import Usage, measure
from ftcot_jax.errors import UsageError
from ftcot_jax.training.input import Where

ON_THE_ROAD = ("read completions", "judge", "pair", "tokenize", "write", "open", "plan", "pack")
"""What a run does once for its records; an epoch's batches are packed anew in each epoch."""
READ_ARRAYS, READ_DATASET = "read the arrays' bytes (limit)", "read the dataset's bytes (limit)"
GATHER, DATASET = "gather at random, eight at a time", "read the dataset"
FEEDS: dict[str, Where] = {"feed an epoch from the device": "device", "feed an epoch, streamed": "stream"}
_LIMITS = {"open": READ_ARRAYS, GATHER: READ_ARRAYS, DATASET: READ_DATASET}


def bench_records(
    files: Sequence[str],
    wanted: Wanted,
    *,
    copies: int,
    repeats: int,
    folder: str,
    json_file: str | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Goes the whole road from completions to batches several times; returns all figures as JSON values.

    The first time, which imports and compiles, is left out. Files lie in the page cache when they are read back.

    Args:
      files: CompletionDataset JSON files.
      wanted: who trains on the records.
      copies: how many times each file is taken.
      repeats: times that count.
      folder: on whose disk the records lie meanwhile.
      json_file: receives the figures.
      say: receives lines.

    Raises:
      UsageError: no file, a folder that is not there, or a template that teaches no rationale.
      FtcotError: a file is wrong, or nothing in it can be trained on.
    """
    if not files:
        raise UsageError("bench records: give at least one file of completions")
    if not os.path.isdir(folder):
        raise UsageError(f"--folder {folder}: there is no such folder")
    if not wanted.template.has_rationale or wanted.template.needs_exemplars or wanted.template.chat:
        raise UsageError(f"bench records: template {wanted.template.name} makes no records of rationales alone")
    check_writable(json_file)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        turns = []
        for turn in range(repeats + 1):
            road = Road(files, copies, wanted, Path(scratch) / "records")
            took = {name: measure(stage) for name, stage in _stages(road).items()}
            if turn:
                turns.append(took)
            total = sum(took[name].seconds for name in ON_THE_ROAD)
            say(f"{f'turn {turn}' if turn else 'warm-up'}: {total:.2f} s from completions to packed batches")
        machine = Machine.measure(wanted.student.compute.dtype)  # last: its arrays would count as memory of the road
        facts = _facts(road, machine)
    say(
        f"{facts['texts']} texts ({facts['right']} right, {facts['too_long']} too long), {facts['tokens']} tokens in "
        f"records of {number(facts['bytes_a_record'])} bytes as arrays, {number(facts['dataset_bytes_a_record'])} in "
        f"the dataset; {facts['steps']} steps an epoch"
    )
    say("places without a token: " + ", ".join(f"{share:.1%} {how}" for how, share in facts["padding"].items()))
    say(
        f"a step needs {facts['step_flop'] / 1e9:.3g} GFLOP, a large product reaches {machine.flops / 1e9:.0f} GFLOP/s "
        f"here: training asks for {number(facts['most_steps_per_second'])} batches/s at most"
    )
    figures = {"command": "bench records", "files": list(files), "copies": copies, "repeats": repeats, **facts}
    return publish(figures | {"rows": _rows(turns, facts)}, json_file, say)


def _stages(road: Road) -> dict[str, Callable[[], None]]:
    stages: dict[str, Callable[[], None]] = {
        "read completions": road.read_completions,
        "judge": road.judge,
        "pair": road.pair,
        "tokenize": road.tokenize,
        "write": road.write,
        "open": road.open,
        READ_ARRAYS: lambda: read_raw(road.array_files)(),
        GATHER: road.gather,
        READ_DATASET: lambda: read_raw(road.dataset_files)(),
        DATASET: road.read_dataset,
        "plan": road.plan,
        "pack": road.pack,
    }
    return stages | {name: functools.partial(road.feed, where) for name, where in FEEDS.items()}


def _facts(road: Road, machine: Machine) -> dict[str, Any]:
    table, flop = road.table, road.step_flops()
    return {
        "device": machine.kind,
        "limit_flop_per_second": machine.flops,
        "texts": len(road.pairs),
        "right": sum(pair.correct for pair in road.pairs),
        "too_long": road.too_long,
        "records": len(table),
        "tokens": len(table.tokens),
        "trained_records": len(road.data.records),
        "trained_tokens": int(table.lengths[road.data.records].sum()),
        "steps": road.data.steps_in(0),
        "bytes_a_record": sum(file.stat().length for file in road.array_files) / len(table),
        "dataset_bytes_a_record": sum(file.stat().length for file in road.dataset_files) / len(table),
        "padding": road.padding(),
        "step_flop": flop,
        "most_steps_per_second": machine.flops / flop,
    }


def _rows(turns: Sequence[dict[str, Usage]], facts: dict[str, Any]) -> list[Row]:
    """A row of each stage; its texts are completions before there are records, and of an epoch those trained on."""
    rows: list[Row] = []
    totals = [sum(turn[name].seconds for name in ON_THE_ROAD) for turn in turns]
    for name in turns[0]:
        took = [turn[name] for turn in turns]
        trained = name in ("plan", "pack") or name in FEEDS
        texts = facts["trained_records" if trained else "texts" if name in _OF_TEXTS else "records"]
        tokens = None if name in _OF_TEXTS else facts["trained_tokens" if trained else "tokens"]
        batched = name == "pack" or name in FEEDS
        limits = [turn[_LIMITS[name]].seconds for turn in turns] if name in _LIMITS else None
        rows.append(
            {
                "stage": name,
                "texts/s": Spread.of([texts / one.seconds for one in took]),
                "tokens/s": None if tokens is None else Spread.of([tokens / one.seconds for one in took]),
                "CPU s a thousand texts": Spread.of([1000 * one.cpu_seconds / texts for one in took]),
                "share of time": _share(took, totals) if name in ON_THE_ROAD else None,
                "of its limit": None if limits is None else _share_of(limits, took),
                "batches/s": Spread.of([facts["steps"] / one.seconds for one in took]) if batched else None,
                "times a step's need": Spread.of(
                    [facts["steps"] / one.seconds / facts["most_steps_per_second"] for one in took]
                )
                if batched
                else None,
                "peak memory, MB": max(one.peak_bytes for one in took) / 1e6,
                "of it new, MB": _new_megabytes(took),
            }
        )
    return rows


_OF_TEXTS = ("read completions", "judge", "pair")  # before there are tokens


def _new_megabytes(took: Sequence[Usage]) -> float | None:
    """The most that the stage added; memory that an earlier turn left with the process is not asked for again."""
    found = [one.new_bytes for one in took]
    return None if None in found else max(new for new in found if new is not None) / 1e6


def _share(took: Sequence[Usage], totals: Sequence[float]) -> Spread:
    return Spread.of([one.seconds / total for one, total in zip(took, totals, strict=True)])


def _share_of(limits: Sequence[float], took: Sequence[Usage]) -> Spread:
    return Spread.of([limit / one.seconds for limit, one in zip(limits, took, strict=True)])
