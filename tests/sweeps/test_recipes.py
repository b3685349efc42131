"""The recipes in configs/: they load, expand to as many trials as they say, and are planned with and without data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ftcot_jax.config import load_recipe
from ftcot_jax.stages.sweep_plan import plan_sweep
from ftcot_jax.sweeps.devices import named_device
from ftcot_jax.sweeps.plan import SweepPlan
from ftcot_jax.sweeps.published import published_figures

CONFIGS = Path(__file__).parents[2] / "configs"
TRIALS = {
    "answer_lengths": 12,
    "d_sweep": 2 * 9 * 7,
    "data_size": 4 * 3 * 4,
    "epochs": 4 * 2,
    "few_shot_finetune": 12 * 3,
    "filter": 3 * 4 - 2,
    "lr_batch": 4 * 4 * 2 * 6 * 6,
    "main_flan_t5": 12 * 3 * 5 - 3 - 9,
    "main_gpt2": 12 * 3 * 5 - 3 - 9,
    "main_llama": 12 * 4 * 5 - 4 - 12,
    "main_openai": 12 * 2 * 6 - 2 - 6,
    "main_t5": 12 * 3 * 5 - 3 - 9,
    "multiarith_smollm2": 1,
    "paper": 1,
    "rationale_length": 4 * 2,
    "repeats": 3 * 4 * 5,
    "size_x_d": 3 * 6 * 4,
    "student_size": 9 * 3 * 4,
    "teacher_comparison": 4 * 4 - 1,
    "template_split": 2 * 3 * 2,
}


def planned(name: str, overrides: Sequence[str] = ()) -> SweepPlan:
    recipe, trials = load_recipe(str(CONFIGS / f"{name}.yaml"), overrides)
    return plan_sweep(recipe, trials, named_device("v5e"), 0.3)


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without questions, completions or checkpoints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FTCOT_MIRROR", raising=False)
    monkeypatch.setenv("FTCOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_every_recipe_is_counted_and_in_the_table() -> None:
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == set(TRIALS)
    rows = re.findall(r"^\| `(\w+)\.yaml` \|.*?\| (\d+) \|", (CONFIGS / "README.md").read_text(), flags=re.M)
    assert {name: int(count) for name, count in rows} == TRIALS


@pytest.mark.parametrize("name", sorted(TRIALS))
def test_recipes_are_planned_where_nothing_is_here(name: str, nothing_here: Path) -> None:
    plan = planned(name)
    assert len(plan.trials) == TRIALS[name]
    assert len(plan.groups) == len({trial.student for trial in plan.trials if trial.group is not None})
    assert any("its questions are not here" in line for line in plan.unknown)
    assert plan.seconds is not None
    assert plan.as_text().startswith(f"{name}: {TRIALS[name]} trials")
    assert not list(nothing_here.rglob("*.json"))
    head = "".join(line for line in (CONFIGS / f"{name}.yaml").read_text().splitlines(True) if line.startswith("#"))
    assert re.search(rf"ftcot (run|api-student) configs/{name}\.yaml", head)
    assert "To compare with:" in head
    if plan.groups and name != "multiarith_smollm2":
        assert f"(`ftcot sweep plan configs/{name}.yaml --device v5e`): {plan.summary()}." in head


@pytest.mark.parametrize(("recipe", "table"), [("main_t5", "6b"), ("main_flan_t5", "6c"), ("main_gpt2", "6d")])
def test_main_tables_have_a_trial_for_each_published_figure(recipe: str, table: str) -> None:
    _, trials = load_recipe(str(CONFIGS / f"{recipe}.yaml"))
    ours = {tuple(trial.name.removeprefix("task.key=").split(", ")) for trial in trials}
    theirs = {(row.dataset, row.student, row.method) for row in published_figures(table=table)}
    assert ours == theirs


def test_d_sweep_has_a_trial_for_each_published_point() -> None:
    _, trials = load_recipe(str(CONFIGS / "d_sweep.yaml"))
    ours = {(trial.recipe.task.key, trial.name.split(", ")[1], trial.recipe.select.diversity) for trial in trials}
    points = published_figures(table="6e", max_tokens=1024, family=["t5", "flan-t5", "gpt2"])
    assert ours == {(row.dataset, row.student, row.diversity) for row in points}


def test_the_papers_settings_on_data_of_ones_own(nothing_here: Path) -> None:
    (nothing_here / "plums.jsonl").write_text(
        '{"question": "1 + 1?", "answer": "2"}\n{"question": "2?", "answer": "2"}\n'
    )
    (nothing_here / "plums.yaml").write_text("key: plums\nfile: plums.jsonl\nanswer_type: integer\n")
    changes = ["task.key=plums.yaml", "template=ft_token"]
    (trial,) = planned("paper", changes).trials
    assert (trial.questions, trial.asked, trial.records, trial.steps) == (1, 1, (1, "exact"), (20, "exact"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(TRIALS) - {"main_openai"}))
def test_recipes_are_planned_with_the_shared_data(
    name: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(shared / "data/completions")
    monkeypatch.setenv("FTCOT_MIRROR", str(shared / "data/upstream"))
    plan = planned(name)
    assert len(plan.trials) == TRIALS[name]
    assert not any("its questions are not here" in line for line in plan.unknown)
    known = [trial for trial in plan.trials if trial.task == "multiarith" and trial.template == "ft_cot_token"]
    greedy = [trial.records for trial in known if trial.diversity == 1 and trial.questions == 420]
    if name in ("paper", "main_t5", "student_size", "epochs"):
        assert greedy
        assert {count.value for count in greedy if count is not None} == {332}, "rationales of 420 that are right"
