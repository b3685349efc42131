"""`ftcot compile` on the devices of this machine: figures, advice and exit codes."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
import yaml

from ftcot_jax.bench.compile_advice import advise, most_slots
from ftcot_jax.bench.compile_chips import GIB
from ftcot_jax.bench.compile_figures import Figures, Memory, Roofline, too_much
from ftcot_jax.cli import main
from tests.bench.hlo_cases import setup, tiny

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "task": {"key": "weekday_tracking", "train_questions": 40, "test_questions": 5},
    "teacher": {"loopback": "weekday_tracking", "diversity": 1},
    "student": {
        "scratch": {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                    "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 128}
    },
    "train": {"steps": 4, "batch": {"examples": 8}, "slots": 8},
    "mesh": {"trial": -1},
    "evaluate": {"max_length": 64, "batch_rows": 4},
    "sweep": {"axes": [{"seed": list(range(8))}]},
}  # fmt: skip

SMALLER = ("student.scratch.num_hidden_layers=1", "student.scratch.vocab_size=64", "evaluate.batch_rows=1")


def ftcot(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ftcot", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"out": str(tmp_path / "run")}))
    return str(path)


@pytest.mark.slow
def test_before_there_are_records_and_after(
    recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ftcot(monkeypatch, "compile", recipe, "--topology", "cpu:8", "--json") == 0
    before = json.loads(capsys.readouterr().out)
    assert before["lengths"].startswith("no records yet")
    assert (before["mesh"]["trial"], before["slots"], before["executor"]) == (8, 8, "map")
    step, refill, decode = before["programs"]
    assert step["collectives"] == refill["collectives"] == []
    assert step["flops"] > 0
    assert step["loops_of_unknown_length"] == 0
    assert decode["loops_of_unknown_length"] == 1
    assert 1 <= before["bound"]["compiled_over_model"] < 2
    assert ftcot(monkeypatch, "tokenize", recipe) == 0
    capsys.readouterr()
    assert ftcot(monkeypatch, "compile", recipe, "--topology", "cpu:8") == 0
    after = capsys.readouterr().out
    assert "the run's own 40 records" in after or "the run's own 3" in after
    assert "talk    none" in after


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5p:2x2x1", "v5e:1x1", "v6e:2x2"])
def test_all_programs_for_every_chip(
    topology: str, recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Step, refill and decoding, compiled by libtpu for a pod that is not here."""
    pytest.importorskip("libtpu", reason="the tpu extra brings the TPU's compiler")
    assert ftcot(monkeypatch, "compile", recipe, "--topology", topology, "train.slots=4", *SMALLER, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["devices"] == values["mesh"]["trial"] == (1 if topology == "v5e:1x1" else 4)
    assert values["compiler"].startswith("libtpu ")
    step, refill, decode = values["programs"]
    for program in (step, refill, decode):
        assert program["fits"]
        assert program["roofline_seconds"]["memory"] > 0
    assert step["collectives"] == refill["collectives"] == []
    said = [(one["kind"], one["runs"], one["bytes"] < 4096) for one in decode["collectives"]]
    assert said in ([], [("all-gather", 1, True)]), "only what was written is brought together, once a chunk"
    assert step["loops_of_unknown_length"] == refill["loops_of_unknown_length"] == 0
    assert 1 <= values["bound"]["compiled_over_model"] < 2
    assert 0 < values["bound"]["mfu_at_most"] < 1
    assert "train.slots=" in values["advice"][0]


@pytest.mark.parametrize(
    ("topology", "said", "code"),
    [
        ("v7x:2x2x1", "rented through GKE only (tpu_scripts/gke.sh, xpk.sh)", 2),
        ("v5:4x4", "no such chip 'v5' (did you mean", 2),
        ("v5e:4x4x4", "a v5e pod is like v5e:4x4, of at most 256 chips", 2),
        ("v6e:32x32", "of at most 256 chips", 2),
        ("v4:2x2", "a v4 pod is like v4:2x2x4", 2),
        ("v5p:x", "a v5p pod is like v5p:4x4x4", 2),
        ("v5e", "give a chip and its shape", 2),
        ("cpu:x", "comes how many devices", 2),
        ("gpu:8", "XLA compiles for GPUs only where they are", 1),
    ],
)
def test_a_wrong_topology_is_one_line(
    recipe: str,
    topology: str,
    said: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ftcot(monkeypatch, "compile", recipe, "--topology", topology) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def figures(needed: float, fits: bool = True) -> Figures:
    memory = Memory(int(needed), 0, 0, 0, 0) if fits else None
    return Figures("train step", 1.0, memory, needed, 15.75 * GIB, None, Roofline(1, 2, 3), None)


@pytest.mark.parametrize(("times", "said"), [((1, 2, 0), True), ((2, 1, 0), False), ((1, 2, 3), False)])
def test_a_step_that_memory_limits_is_told_to_store_less(times: tuple[float, ...], said: bool) -> None:
    one = dataclasses.replace(figures(3 * GIB), roofline=Roofline(*times))
    made = setup(jax.devices("cpu"), trial=8)
    slots, *more = advise(made, one, lambda _: figures(5 * GIB))
    assert slots.startswith("train.slots=56 is the most that fits")
    assert ["student.remat=dots" in tip for tip in more] == [True] * said
    assert len(advise(dataclasses.replace(made, student=tiny("dots")), one, lambda _: figures(5 * GIB))) == 1


def test_slots_that_need_no_more_memory_are_not_said_not_to_fit() -> None:
    """Of tiny students it said `train.slots=8 fits; 8 slots do not`."""
    made = setup(jax.devices("cpu"), trial=8, slots=16)
    (line,) = advise(made, figures(3 * GIB), lambda _: figures(3 * GIB))
    assert line == "train.slots=16 fits; 8 need as much memory, so the most cannot be told"
    made = setup(jax.devices("cpu"), trial=8)
    assert advise(made, figures(3 * GIB), lambda _: figures(20 * GIB, fits=False)) == [
        "train.slots=8 fits; 16 slots do not"
    ]


def test_advice_is_a_line_through_two_programs() -> None:
    assert most_slots({1: figures(3 * GIB), 2: figures(5 * GIB)}) == 7  # 1 + 2 x 7 = 15 of 15.75
    assert most_slots({4: figures(9 * GIB), 2: figures(5 * GIB)}) == 7
    assert most_slots({1: figures(3 * GIB), 2: figures(20 * GIB, fits=False)}) is None
    assert not figures(16 * GIB).fits
    assert "0.25 too much" in too_much(figures(16 * GIB))
    assert "at least 18.00 GiB" in too_much(figures(18 * GIB, fits=False))
