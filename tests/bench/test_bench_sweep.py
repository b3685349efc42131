"""`ftcot bench sweep`: slots by slots, its rows agree with one another, and what does not fit is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import pytest

from ftcot_jax.bench.machine import Machine
from ftcot_jax.bench.slot_rows import PoolFound, SlotsFound, pool_rows, pool_table, slot_rows, slots_table
from ftcot_jax.bench.timed_step import Needed
from ftcot_jax.config import load_recipe
from ftcot_jax.stages import bench_sweep
from ftcot_jax.stages.bench_recipe import first_trial, jobs_from
from ftcot_jax.stages.bench_sweep import slot_counts
from tests.bench.test_bench_train import MACHINE, TINY, ftcot, recipe

__all__ = ["recipe"]


def slots_found(slots: int, seconds: list[float], **changes: Any) -> SlotsFound:
    """Of two steps of four examples a slot."""
    needed = Needed(slots * 8, slots * 160, slots * 200, flops=slots * 1e9, moved=slots * 1e8, least=slots * 1.0)
    values: dict[str, Any] = {"compile_seconds": 5.0 * slots, "fill_seconds": 0.5, "memory": slots * 10**9}
    return SlotsFound(slots, "map", 2, needed, seconds, **(values | changes))


def test_slots_are_doubled_up_to_the_most() -> None:
    assert slot_counts(1, 1) == [1]
    assert slot_counts(8, 1) == [1, 2, 4, 8]
    assert slot_counts(6, 1) == [1, 2, 4, 6]
    assert slot_counts(12, 4) == [4, 8, 12]


def test_rows_agree_with_one_another() -> None:
    one, two = slot_rows([slots_found(1, [2.0, 4.0, 3.0]), slots_found(2, [4.0, 5.0, 4.0])])
    assert (one["ms a step"], one["lowest"], one["highest"]) == (1500, 1000, 2000)
    assert one["students' examples/s"] == pytest.approx(4 / 1.5, rel=1e-3)
    assert two["students' examples/s"] == 4
    assert two["students' examples/s"] * two["ms a step"] / 1000 == 2 * 4
    assert (one["times the fewest slots'"], two["times the fewest slots'"]) == (1, 1.5)
    assert two["share of the roofline"] == 0.5
    assert (two["GB as compiled"], two["s to compile"]) == (2, 10)


def test_what_does_not_fit_is_a_row_of_dashes() -> None:
    rows = slot_rows([slots_found(1, [2.0]), SlotsFound(2, "map", 2)])
    assert slots_table(rows).splitlines()[-1] == "| 2 | map |" + " - |" * 8


def test_the_first_that_does_not_fit_is_the_last_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def measure(work: Any, slots: int, *_: Any) -> SlotsFound:
        tried.append(slots)
        if slots >= 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return slots_found(slots, [1.0])

    nothing: Any = None
    monkeypatch.setattr(bench_sweep, "_measure", measure)
    found = bench_sweep._of_executor(nothing, [1, 2, 4, 8], "map", 2, 1, MACHINE)
    assert tried == [1, 2, 4]
    assert [one.needed is None for one in found] == [False, False, True]
    monkeypatch.setattr(bench_sweep, "_measure", lambda *_: (_ for _ in ()).throw(jax.errors.JaxRuntimeError("other")))
    with pytest.raises(jax.errors.JaxRuntimeError, match="other"):
        bench_sweep._of_executor(nothing, [1], "map", 2, 1, MACHINE)


def test_a_pool_of_many_trials_is_estimated_from_what_was_measured() -> None:
    spent: Any = {"step": 3.0, "compile": 1.0}
    found = PoolFound(10.0, 7.0, slots_found(1, [2.0]), slots_found(4, [4.0]), 6, 100, 3, spent)
    rows = {row.name: row.median for row in pool_rows(found)}
    together = 10 + 5 * 4 + 6 * 0.5 + 2 * 100 * 2.0  # start, compile, six fills, two turns of four slots
    each = 10 + 5 + 0.5 + 100 * 1.0
    assert rows["estimate: s of 6 trials of 100 steps, one pool, slots: 4"] == pytest.approx(together)
    assert rows["estimate: s of 6 trials of 100 steps, a process each"] == pytest.approx(6 * each)
    assert rows["estimate: times as fast in one pool"] == pytest.approx(6 * each / together, rel=1e-3)
    assert rows["s of a short run, slots: 3"] == 4
    assert rows["share of that run: step"] == 0.75
    assert "| s to prepare the records, or find them | 7.00 |" in pool_table(pool_rows(found))


def test_slots_are_filled_with_trials_of_one_program(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    optimizers = "- {seed: [1, 2]}\n    - {train.optimizer: [adamw, lion]}"
    file.write_text(TINY.replace("- {seed: [1, 2]}", optimizers) + f"out: {tmp_path / 'out'}\n")
    loaded, specs = load_recipe(str(file))
    name = "cot, train.optimizer=adamw, seed=2"
    jobs = jobs_from(loaded, specs, first_trial(loaded, specs, name), 3)
    # From there on and round the grid: not what only asks, nor another optimizer's.
    first = "answers, train.optimizer=adamw, seed="
    assert [job.spec.name for job in jobs] == [name, f"{first}1", f"{first}2"]


def test_slots_that_the_mesh_cannot_spread_are_refused(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ftcot(monkeypatch, "bench", "sweep", str(recipe), "mesh.trial=2", "--slots", "3") == 2
    assert "mesh.trial=2 spreads slots evenly; give a multiple of 2" in capsys.readouterr().err
    assert ftcot(monkeypatch, "bench", "sweep", str(recipe), "--executor", "scan") == 2


@pytest.mark.slow
def test_the_whole_command(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Machine, "measure", lambda dtype: MACHINE)
    file = tmp_path / "found.json"
    words = [
        "--slots",
        "2",
        "--executor",
        "auto",
        "--steps",
        "2",
        "--repeats",
        "2",
        "--questions",
        "2",
        "--json",
        str(file),
    ]
    assert ftcot(monkeypatch, "bench", "sweep", str(recipe), *words) == 0
    table, values = capsys.readouterr().out, json.loads(file.read_text())
    assert [(row["slots"], row["executor"]) for row in values["slots"]] == [(1, "map"), (2, "map")]
    for row in values["slots"]:
        # Examples of a step of all slots: four a slot.
        assert row["students' examples/s"] * row["ms a step"] / 1000 == pytest.approx(4 * row["slots"], rel=2e-3)
        assert row["lowest"] <= row["ms a step"] <= row["highest"]
        assert f"| {row['slots']} | {row['executor']} |" in table
    shares = [row["median"] for row in values["pool"] if row["name"].startswith("share of that run")]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"artifacts", "ledger.sqlite"}
