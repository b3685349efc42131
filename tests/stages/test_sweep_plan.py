"""The plan of a sweep against what the sweep then does: trials, programs, steps, and what is left of them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml

from ftcot_jax.cli import main
from ftcot_jax.config import load_recipe
from ftcot_jax.stages.sweep_plan import plan_sweep
from ftcot_jax.sweeps.devices import named_device
from ftcot_jax.sweeps.plan import SweepPlan
from tests.stages.test_road import TINY

ROOT = Path(__file__).parents[2]
QUESTIONS = [(f"Ann has {a} plums and buys {b} more. How many has she?", f"{a + b}") for a in range(6) for b in (2, 5)]


def planned(recipe: Path, *overrides: str, device: str = "v5e", devices: int = 1) -> SweepPlan:
    whole, trials = load_recipe(str(recipe), overrides)
    return plan_sweep(whole, trials, named_device(device, devices), 0.3)


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["ftcot", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    found = capsys.readouterr()
    assert not ended.value.code, found.err
    return found.out


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY.replace("steps: 12", "epochs: 2"))
    return file


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A recipe on a task and published completions of our own: eight training questions, one answered wrongly."""
    rows = [{"question": question, "answer": answer} for question, answer in QUESTIONS]
    (tmp_path / "plums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "plums.yaml").write_text("key: plums\nfile: plums.jsonl\nanswer_type: integer\nlicence: ours\n")
    completions: dict[str, list[dict[str, Any]]] = {}
    wrong = int(np.random.RandomState(0).permutation(len(QUESTIONS))[0])  # the first of those to train on
    for index, (question, answer) in enumerate(QUESTIONS):
        for sample in range(2):
            text = "1000" if (index, sample) == (wrong, 1) else answer
            completions.setdefault(str(index), []).append(
                {
                    "sample_index": index,
                    "completion_index": sample,
                    "question": question,
                    "answer": answer,
                    "prompt": f"Q: {question}\nA: Let's think step by step.",
                    "reasoning_prompt": f"Q: {question}\nA: Let's think step by step.",
                    "reasoning_completion": f" She has {answer} plums in all.",
                    "completion": f" {text}.",
                    "finish_reason": "stop",
                    "reasoning_finish_reason": "stop",
                }
            )
    (tmp_path / "D_plums.json").write_text(
        json.dumps({"metadata": {"prediction_template": "zs_cot", "dataset_key": "plums"}, "data": completions})
    )
    recipe = {
        "name": "plums",
        "out": str(tmp_path / "run"),
        "task": {"key": str(tmp_path / "plums.yaml")},
        "teacher": {"import": str(tmp_path / "D_plums.json")},
        "student": {"checkpoint": "google-t5/t5-small"},
        "train": {"epochs": 3, "batch": {"examples": 4}},
        "sweep": {
            "axes": [
                {"method": ["zs", "ft", "ft_cot", "ft_cot_diverse"]},
                {"student.checkpoint": ["google-t5/t5-small", "somebody/unheard-of"]},
            ],
            "exclude": [{"method": "zs", "student.checkpoint": "somebody/unheard-of"}],
        },
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return file


def test_own_data_planned_before_anything_runs(own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    plan = planned(own)
    counted = {trial.name: (trial.questions, trial.records, trial.steps) for trial in plan.trials}
    small = "student.checkpoint=google-t5/t5-small"
    assert plan.product - len(plan.trials) == 1
    assert counted[f"zs, {small}"] == (None, None, None)
    assert counted[f"ft, {small}"] == (8, (8, "exact"), (6, "exact"))
    assert counted[f"ft_cot, {small}"] == (8, (8, "exact"), (6, "exact"))
    assert counted[f"ft_cot_diverse, {small}"] == (8, (15, "exact"), (12, "exact")), "one of 16 is wrong"
    assert len(plan.groups) == 1, "of a student nobody knows no program is known"
    assert plan.groups[0].steps == (24, "exact")
    assert plan.seconds is None or plan.trials[-1].group is None
    assert any("unheard-of: neither here nor in the package's table" in line for line in plan.unknown)
    assert any(line.startswith("t5-small: not here; shapes from") for line in plan.unknown)
    assert not (tmp_path / "run").exists(), "planning writes nothing"


def test_state_bytes_are_those_of_weights_and_two_moments(own: Path) -> None:
    only = "sweep.only={method: ft, student.checkpoint: google-t5/t5-small}"
    (group,) = planned(own, only, "train.slots=1").groups
    weights = 60_506_624  # of T5-small
    assert 0 <= group.state_bytes - 3 * 4 * weights < 1000
    many = planned(own, "sweep.axes=[{method: [ft]}, {train.seed: [1, 2, 3, 4]}]", "sweep.exclude=[]", "train.slots=4")
    assert 0 <= many.groups[0].state_bytes - 4 * group.state_bytes < 1000
    split = planned(own, only, "train.slots=1", "mesh={fsdp: 4}", devices=4).groups[0]
    assert abs(split.state_bytes - group.state_bytes / 4) < 1000


def test_memory_that_does_not_fit_names_slots_that_do(own: Path) -> None:
    axes = "sweep.axes=[{method: [ft_cot]}, {train.seed: [1, 2, 3, 4, 5, 6, 7, 8]}]"
    large = (axes, "sweep.exclude=[]", "student.checkpoint=x/t5-large")
    plan = planned(own, *large, "train.slots=8")
    (group,) = plan.groups
    assert group.slots == 8
    assert 1 <= group.fitting_slots < 8
    assert f"TOO MUCH, try train.slots={group.fitting_slots}" in plan.as_text()
    assert "TOO MUCH" not in planned(own, *large, f"train.slots={group.fitting_slots}").as_text()
    unasked = planned(own, *large)
    assert unasked.groups[0].slots == group.fitting_slots, "slots nobody asked for are those that fit"
    assert "TOO MUCH" not in unasked.as_text()


def test_a_plan_counts_what_the_platform_recomputes(own: Path) -> None:
    def working(device: str, *overrides: str) -> int:
        only = "sweep.only={method: ft, student.checkpoint: google-t5/t5-small}"
        return planned(own, only, "train.slots=1", *overrides, device=device).groups[0].working_bytes

    dots, cheap, none = (working("v5e", f"student.remat={remat}") for remat in ("dots", "cheap", "none"))
    assert dots < cheap < none
    assert (working("v5e"), working("a100-80")) == (dots, cheap)


def test_time_follows_arithmetic_devices_and_price(own: Path) -> None:
    large = ("sweep.axes=[{method: [ft_cot]}]", "sweep.exclude=[]", "student.checkpoint=google-t5/t5-large")
    one, two = planned(own, *large, "train.epochs=2000"), planned(own, *large, "train.epochs=4000")
    assert one.groups[0].seconds is not None
    assert one.seconds is not None
    assert two.groups[0].seconds == pytest.approx(2 * one.groups[0].seconds)
    assert one.dollars(one.price) == pytest.approx(one.seconds / 3600 * 1.20)
    faster = planned(own, *large, "train.epochs=2000", "student.dtype=bfloat16")
    assert faster.groups[0].seconds is not None
    assert faster.groups[0].seconds < one.groups[0].seconds
    assert "30% of the peak" in one.as_text()


@pytest.mark.slow
def test_plan_says_what_training_then_does(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    before = json.loads(said(monkeypatch, capsys, "sweep", "plan", str(tiny), "--out", out, "--json"))
    assert {trial["state"] for trial in before["trials"]} == {"to do"}
    assert before["done"] == 0
    steps = {trial["name"]: trial["steps"] for trial in before["trials"]}
    assert steps["answers, seed=1"] == {"value": 20, "how": "exact"}
    assert steps["cot, seed=1"]["how"] == "at most"
    said(monkeypatch, capsys, "run", str(tiny), "--out", out)
    after = json.loads(said(monkeypatch, capsys, "sweep", "plan", str(tiny), "--out", out, "--json"))
    assert after["done"] == len(after["trials"]) == 4
    assert after["seconds"] == 0
    manifests = [json.loads(file.read_text()) for file in Path(out).glob("artifacts/student-*/manifest.json")]
    ran = sorted(manifest["summary"]["steps"] for manifest in manifests)
    assert sorted(trial["steps"]["value"] for trial in after["trials"]) == ran
    assert all(trial["steps"]["how"] == "exact" for trial in after["trials"])
    assert all(trial["steps"]["value"] <= steps[trial["name"]]["value"] for trial in after["trials"])
    pools = [folder for folder in Path(out, "pools").iterdir() if folder.name.startswith("pool-")]
    assert len(pools) == len(after["groups"]) == 1

    # Four more trials: the finished ones say how long they take.
    more = "sweep.axes=[{arm: [answers, cot], template: [ft_token, ft_cot_token]}, {seed: [1, 2, 3, 4]}]"
    rest = json.loads(said(monkeypatch, capsys, "sweep", "plan", str(tiny), more, "--out", out, "--json"))
    assert rest["done"] == 4
    assert rest["groups"][0]["speed_from"] == "its finished trials"
    spent = sum(m["summary"]["seconds"] for m in manifests)
    assert 0.05 * spent < rest["groups"][0]["seconds"] < 5 * spent
    elsewhere = planned(tiny, more, f"out={out}")
    assert elsewhere.done == 4
    assert elsewhere.groups[0].speed_from == "30% of the peak", "trials on this CPU say nothing of a v5e"


def test_text_and_bad_device(tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(tiny).as_text()
    assert "tiny: 4 trials; 0 done in" in text
    assert "group  student             trials" in text
    assert "device prices are from memory" in text
    command = [sys.executable, "-c", "from ftcot_jax.cli import main; main()", "sweep", "plan", str(tiny)]
    done = subprocess.run([*command, "--device", "v5"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("ftcot: --device v5: not known (did you mean 'v5")
    assert done.stderr.count("\n") == 1


def test_hundreds_of_trials_share_few_programs(own: Path) -> None:
    axes = (
        "sweep.axes=[{task.train_questions: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]}, "
        "{student.checkpoint: [x/t5-small, x/gpt2, x/SmolLM2-135M]}, "
        "{method: [zs, zs_cot, fs_cot, ft, ft_cot, ft_cot_diverse]}]"
    )
    plan = planned(own, axes, "sweep.exclude=[]")
    assert len(plan.trials) == 216
    assert len(plan.groups) == 3
    assert sum(group.trials for group in plan.groups) == 108
    assert all(math.isfinite(group.seconds or math.inf) for group in plan.groups)


def test_devices_and_their_prices_agree_with_the_scripts() -> None:
    rows = [line.split("\t") for line in (ROOT / "tpu_scripts/prices.tsv").read_text().splitlines() if line[0] != "#"]
    names = {"v5litepod": "v5e"}
    assert len(rows) == 4
    for generation, price, spot in rows:
        device = named_device(names.get(generation, generation))
        assert (device.price, device.spot) == (float(price), float(spot))
        assert device.peaks["bfloat16"]
    assert jax.default_backend() == "cpu"
