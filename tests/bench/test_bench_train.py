"""`ftcot bench train`: what it counts is right by hand, the table hangs together, and nothing stays."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ftcot_jax.bench.figure import Figure
from ftcot_jax.bench.machine import Machine
from ftcot_jax.bench.table import number
from ftcot_jax.bench.timed_step import Needed, StepWork, TimedStep
from ftcot_jax.bench.train_rows import TrainFound, train_json, train_rows, train_table
from ftcot_jax.cli import main
from ftcot_jax.records.plan import TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings
from ftcot_jax.training.trial import Trial

TINY = """
name: tiny
task: {key: weekday_tracking, train_questions: 24, test_questions: 6}
teacher: {loopback: weekday_tracking, diversity: 2}
student:
  scratch: {model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2,
            num_key_value_heads: 2, max_position_embeddings: 96, tie_word_embeddings: true}
train: {steps: 6, batch: {examples: 4}, learning_rate: 1.0e-2}
evaluate: {max_length: 48}
sweep:
  axes:
    - {arm: [answers, cot, asked], template: [ft_token, ft_cot_token, zs]}
    - {seed: [1, 2]}
"""
SCRATCH = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "vocab_size": 32,
    "tie_word_embeddings": True,
}
MACHINE = Machine("made up", "float32", flops=1e9, bandwidth=1e8)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY + f"out: {tmp_path / 'out'}\n")
    return file


def ftcot(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ftcot", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def work_of(lengths: list[tuple[int, int]], seeds: list[int], steps: int) -> StepWork:
    """Trials on records of these (prompt, label) tokens, all of them every step."""
    student = load_student(StudentSettings(scratch=SCRATCH), ["a", "word"])
    table = RecordTable.from_rows(
        [
            {
                "input_ids": np.ones(prompt, int),
                "label_ids": np.ones(label, int),
                "sample_index": number,
                "completion_index": 0,
                "correct": True,
            }
            for number, (prompt, label) in enumerate(lengths)
        ]
    )
    trials = [
        Trial(
            key=str(seed),
            name=str(seed),
            data=TrialData(np.arange(len(lengths)), seed, len(lengths)),
            hyper=Hyper.of(TrainSettings(seed=seed), steps),
            steps=steps,
            initial=lambda: jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), student.shapes),
            looks=frozenset(),
        )
        for seed in seeds
    ]
    return StepWork(student, table, trials, make_mesh(MeshSettings()), None, 1, False, "auto")


LENGTHS = [(5, 3), (4, 4), (7, 9)]  # of prompts and labels: 8, 8 and 16 tokens


def test_arithmetic_and_bytes_are_counted_by_hand() -> None:
    step = TimedStep(work_of(LENGTHS, [0, 1], 3), 2, "map", 3)
    needed = step.needed(MACHINE)
    assert needed.examples == 2 * 3 * 3
    assert needed.places == 2 * 3 * step.shapes[0].rows * step.shapes[0].length
    maps = 2 * (4 * 16 * 16 + 3 * 16 * 32)
    attended = 2 * sum(length * (length + 1) / 2 for length in (8, 8, 16)) * 2 * 2 * 16
    assert needed.flops == 2 * 3 * 3 * (2 * maps * 32 + 2 * 32 * 16 * 16 + attended)
    weights = maps + 32 * 16 + (2 * 2 + 1) * 16
    # Four passes over weights, two over gradients, two over each of two moments; both layers' inputs out and in again.
    of_step = 4 * weights * (4 + 2 + 2 * 2) + 2 * 4 * 2 * 16 * 32
    assert needed.moved == pytest.approx(2 * 3 * of_step, rel=1e-3)  # the moments have a count of steps, too
    assert needed.least == pytest.approx(max(needed.flops / 1e9, needed.moved / 1e8))
    fast_memory = dataclasses.replace(MACHINE, bandwidth=1e15)
    assert step.needed(fast_memory).least == pytest.approx(needed.flops / 1e9)


@pytest.mark.slow
def test_the_tokens_that_a_step_computes_are_counted() -> None:
    """Three slots for two trials: the first is taken again."""
    step = TimedStep(work_of(LENGTHS, [0, 1], 3), 3, "map", 3)
    step.fill()
    assert set(step.compile()) == set(step.shapes)
    assert len(step.warm_up()) == 1
    seconds = step.time()
    needed = step.needed(MACHINE)
    assert len(seconds) == 3
    assert min(seconds) > 0
    assert needed.tokens == 3 * 3 * (8 + 8 + 16)
    assert needed.places >= needed.tokens
    assert step.memory() > 0


def found(**changes: Any) -> TrainFound:
    values: dict[str, Any] = {
        "machine": MACHINE,
        "devices": 1,
        "needed": Needed(examples=40, tokens=900, places=1000, flops=1e9, moved=2e8, least=2.0),
        "seconds": [[2.0, 2.0], [3.0, 2.0], [4.0, 4.0]],
        "compile_seconds": [3.0, 4.0],
        "warm_up_seconds": [0.5],
        "peak": (3 * 10**9, "of the process"),
        "step_memory": 10**8,
        "spent": {"step": 2.0, "input": 0.5, "compile": 1.0, "evaluate": 1.0, "checkpoint": 0.25, "other": 0.25},
    }
    return TrainFound(**(values | changes))


def by_name(rows: list[Figure]) -> dict[str, Figure]:
    return {row.name: row for row in rows}


def test_figures_agree_with_one_another() -> None:
    rows = by_name(train_rows(found()))
    assert rows["examples/s"] == ("examples/s", 8, 5, 10)
    assert rows["tokens/s, padding left out"][1:] == (180, 112.5, 225)
    assert rows["ms a step of all slots"][1:] == (2500, 2000, 4000)
    assert rows["GFLOP/s that the model needs"][1:] == (0.2, 0.125, 0.25)
    assert rows["MFU, of the product measured"][1:] == (0.2, 0.125, 0.25)
    assert rows["share of the roofline"][1:] == (0.4, 0.25, 0.5)
    assert rows["share of padding in what is computed"].median == pytest.approx(0.1)
    assert rows["s to compile"].median == 7
    shares = {name: row.median for name, row in rows.items() if name.startswith("share of a short run")}
    assert sum(share or 0 for share in shares.values()) == pytest.approx(1)
    assert shares["share of a short run: step"] == 0.4
    assert rows["s of that run"].median == 5


def test_devices_limits_add_up() -> None:
    rows = by_name(train_rows(found(devices=4)))
    assert rows["MFU, of the product measured"].median == 0.05
    assert rows["limit: GFLOP/s of a large product"].median == 4


def test_what_nobody_knows_is_a_dash_and_the_json_is_the_table() -> None:
    unknown = found(needed=Needed(40, 900, 1000, flops=None, moved=2e8, least=None))
    for one in (found(), unknown):
        rows = train_rows(one)
        lines = [line.strip("| ").split(" | ") for line in train_table(rows).splitlines()[2:]]
        values = json.loads(json.dumps(train_json({"trial": "x"}, one, rows)))
        assert [line[0] for line in lines] == [row["name"] for row in values["rows"]]
        for line, row in zip(lines, values["rows"], strict=True):
            shown = [cell.strip() for cell in line[1:] if cell.strip() not in ("", "-")]
            held = [row[name] for name in ("median", "lowest", "highest") if row[name] is not None]
            assert shown == list(map(number, held)), row["name"]
    assert "| share of the roofline | - | - | - |" in train_table(train_rows(unknown))


def test_wrong_use_is_one_line(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unbought = "teacher={endpoint: 'http://localhost:9/v1', model: m}"
    for words, said, code in (
        (["--trial", "cot, sed=1"], "tiny has no trial 'cot, sed=1' (did you mean 'cot, seed=1'?)", 2),
        (["--trial", "asked, seed=1"], "it takes no step here: its template only asks", 2),
        (["sweep.only={arm: asked}"], "no trial of it trains here", 2),
        (["--steps", "7"], "'answers, seed=1' takes 6 steps in all; time at most so many", 2),
        (["--json", "nowhere/a.json"], "its folder is not there", 2),
        (["--steps", "0"], "", 2),
        ([unbought, "--trial", "cot, seed=1"], "a benchmark buys nothing; run `ftcot sample` first", 1),
    ):
        assert ftcot(monkeypatch, "bench", "train", str(recipe), *words) == code, words
        error = capsys.readouterr().err.splitlines()
        assert said in error[-1] or not said, error


@pytest.mark.slow
def test_the_whole_command(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Machine, "measure", lambda dtype: MACHINE)
    cache = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    file = tmp_path / "found.json"
    words = ["bench", "train", str(recipe), "train.slots=2", "--steps", "3", "--repeats", "2", "--json", str(file)]
    assert ftcot(monkeypatch, *words, "--trial", "cot, seed=1", "--questions", "3") == 0
    table, values = capsys.readouterr().out, json.loads(file.read_text())
    assert "trial 'cot, seed=1' and 1 more" in table
    rows = {row["name"]: row for row in values["rows"]}
    assert table.count("\n| ") == len(rows) + 2  # its head, and the line below it
    # Two slots of four examples, three steps; rates are of these seconds.
    assert values["needed"]["examples"] == 2 * 4 * 3
    totals = sorted(map(sum, values["step_seconds"]))
    assert len(totals) == 2
    assert rows["examples/s"]["highest"] * totals[0] == pytest.approx(24, rel=1e-3)
    assert rows["tokens/s, padding left out"]["lowest"] * totals[1] == pytest.approx(
        values["needed"]["tokens"], rel=1e-3
    )
    spent = values["spent_seconds"]
    assert min(spent[part] for part in ("step", "evaluate", "checkpoint", "compile")) > 0
    assert rows["s of that run"]["median"] == pytest.approx(sum(spent.values()), rel=1e-3)
    left = {path.name.rpartition("-")[0] for path in (tmp_path / "out" / "artifacts").iterdir() if path.is_dir()}
    assert left - {""} == {"completions", "pairs", "records"}
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"artifacts", "ledger.sqlite"}
    assert jax.config.jax_compilation_cache_dir == cache  # type: ignore[attr-defined]
