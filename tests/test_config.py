"""Recipes: overrides, grids, seeds, and one clear line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcot_jax.config import load_recipe
from ftcot_jax.errors import UsageError
from ftcot_jax.recipe_file import overlaid

SMALL = """
name: small
seed: 4
task: {key: weekday_tracking}
teacher: {loopback: weekday_tracking, diversity: 4}
student: {scratch: {model_type: llama}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    return str(file)


def test_every_recipe_in_the_repository_loads() -> None:
    root = Path(__file__).parents[1]
    files = [*root.glob("configs/*.yaml"), *root.glob("ftcot_jax/recipes/*.yaml")]
    assert len(files) >= 2
    for file in files:
        load_recipe(str(file))


def test_overrides_and_seeds(recipe: str) -> None:
    whole, trials = load_recipe(recipe, ["train.learning_rate=1e-2", "train.batch.examples=4", "out=/x/y"])
    assert whole.train.learning_rate == 0.01
    assert whole.train.batch.examples == 4
    assert whole.folder == "/x/y"
    assert len(trials) == 1
    only = trials[0].recipe
    assert (only.task.seed, only.teacher.seed, only.train.seed) == (4, 4, 4)  # type: ignore[union-attr]
    assert load_recipe(recipe, ["train.seed=9"])[1][0].recipe.train.seed == 9


def test_grid_multiplies_axes_and_zips_keys(recipe: str) -> None:
    axes = "[{arm: [one, many], select.diversity: [1, 4]}, {seed: [5, 6, 7]}]"
    _, trials = load_recipe(recipe, [f"sweep.axes={axes}"])
    assert [trial.name for trial in trials][:2] == ["one, seed=5", "one, seed=6"]
    assert [trial.arm for trial in trials] == ["one"] * 3 + ["many"] * 3
    assert [trial.recipe.select.diversity for trial in trials] == [1, 1, 1, 4, 4, 4]
    assert [trial.recipe.teacher.seed for trial in trials] == [5, 6, 7] * 2  # type: ignore[union-attr]
    _, plain = load_recipe(recipe, ["sweep.axes=[{select.diversity: [1, 4]}]"])
    assert [trial.arm for trial in plain] == ["select.diversity=1", "select.diversity=4"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rat=1", r"unknown key 'train\.learning_rat' \(did you mean 'learning_rate'\?\)"),
        ("trian.steps=1", r"unknown key 'trian' \(did you mean 'train'\?\)"),
        ("teacher.imports=x", r"unknown key 'teacher\.imports' \(did you mean 'import'\?\)"),
        ("train.learning_rate=-1", r"train\.learning_rate: .*greater than 0, got -1"),
        ("train.learning_rate=fast", r"train\.learning_rate: .*number.*, got 'fast'"),
        ("train={steps: 1, epochs: 1}", "train: give epochs or steps, not both"),
        ("student={}", "student: give either checkpoint or scratch"),
        ("teacher.endpoint=http://x", "teacher: give exactly one of import, endpoint and loopback"),
        ("teacher.temperature=0", "at temperature 0 all rationales of a question are the same"),
        ("name=a/b", "name: .*pattern"),
        ("task=null", "task: .*"),
        ("nonsense", "override 'nonsense' is not of the form section.key=value"),
        ("train=[", "the value is not YAML"),
        ("name.x=1", "'name' is a value, not a section"),
        ("sweep.axes=[{a: [1], b: [1, 2]}]", "axis 0: lists must be of one length"),
        ("sweep.axes=[{train.step: [1]}]", r"sweep point .*unknown key 'train\.step' \(did you mean 'steps'\?\)"),
        ("sweep.axes=[{train.steps: [1, 1]}]", "two trials are called 'train.steps=1'"),
    ],
)
def test_mistakes_are_one_line(recipe: str, override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load_recipe(recipe, [override])
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_what_is_laid_over_an_alternative_takes_its_place() -> None:
    below = {"student": {"scratch": {"model_type": "gpt2"}, "dtype": "bfloat16"}, "train": {"steps": 9, "seed": 1}}
    above = {"student": {"checkpoint": "gpt2"}, "train": {"epochs": 2}}
    assert overlaid(below, above) == {
        "student": {"checkpoint": "gpt2", "dtype": "bfloat16"},
        "train": {"epochs": 2, "seed": 1},
    }
    assert overlaid(below, {"api_student": {"model": "m"}, "train": {"epochs": None}}) == {
        "api_student": {"model": "m"},
        "train": {"steps": 9, "seed": 1, "epochs": None},
    }


def test_a_recipe_is_laid_over_its_base(recipe: str, tmp_path: Path) -> None:
    (tmp_path / "above.yaml").write_text("base: small.yaml\nname: above\nteacher: {diversity: 8}\n")
    (tmp_path / "top.yaml").write_text("base: above.yaml\ntrain: {steps: 3}\n")
    whole, _ = load_recipe(str(tmp_path / "top.yaml"), ["train.batch.examples=2"])
    assert (whole.name, whole.seed, whole.train.steps, whole.train.batch.examples) == ("above", 4, 3, 2)
    assert whole.teacher is not None
    assert (whole.teacher.loopback, whole.teacher.diversity) == ("weekday_tracking", 8)
    (tmp_path / "above.yaml").write_text("base: top.yaml\n")
    with pytest.raises(UsageError, match=r"above\.yaml: base: top\.yaml is based on this recipe in turn"):
        load_recipe(str(tmp_path / "top.yaml"))
    (tmp_path / "above.yaml").write_text("base: gone.yaml\n")
    with pytest.raises(UsageError, match=r"above\.yaml: base: there is no recipe .*gone\.yaml"):
        load_recipe(str(tmp_path / "top.yaml"))
    (tmp_path / "above.yaml").write_text("base: [small.yaml]\n")
    with pytest.raises(UsageError, match="base: the file name of another recipe"):
        load_recipe(str(tmp_path / "top.yaml"))


def test_named_axes_are_replaced_one_by_one(recipe: str, tmp_path: Path) -> None:
    axes = "sweep: {axes: {seeds: {seed: [1, 2]}, degrees: {select.diversity: [1, 2, 4]}}}"
    (tmp_path / "grid.yaml").write_text(f"base: small.yaml\n{axes}\n")
    (tmp_path / "few.yaml").write_text("base: grid.yaml\nsweep: {axes: {degrees: {select.diversity: [4]}}}\n")
    assert len(load_recipe(str(tmp_path / "grid.yaml"))[1]) == 6
    assert [trial.name for trial in load_recipe(str(tmp_path / "few.yaml"))[1]] == [
        "select.diversity=4, seed=1",
        "select.diversity=4, seed=2",
    ]
    assert len(load_recipe(str(tmp_path / "grid.yaml"), ["sweep.axes.seeds=null"])[1]) == 3
    whole, _ = load_recipe(str(tmp_path / "few.yaml"), ["sweep.axes.seeds.seed=[7]"])
    assert whole.sweep.axes == [{"seed": [7]}, {"select.diversity": [4]}]


def test_sections_of_axes_are_laid_over_the_recipe(recipe: str) -> None:
    tasks = "[{label: few, train_questions: 9}, {label: many, train_questions: 30}]"
    _, trials = load_recipe(recipe, [f"sweep.axes=[{{task: {tasks}}}]", "task.test_questions=7"])
    assert [trial.arm for trial in trials] == ["few", "many"]
    assert [(trial.recipe.task.train_questions, trial.recipe.task.test_questions) for trial in trials] == [
        (9, 7),
        (30, 7),
    ]
    assert trials[0].recipe.task.key == "weekday_tracking"


def test_published_completions_are_found_by_task(recipe: str) -> None:
    changes = ["teacher={import: 'D_{task}.json'}", "sweep.axes=[{task.key: [addsub, svamp]}]"]
    _, trials = load_recipe(recipe, changes)
    assert [trial.recipe.teacher.import_path for trial in trials] == ["D_addsub.json", "D_svamp.json"]  # type: ignore[union-attr]


def test_an_override_that_the_grid_undoes_is_an_error(recipe: str) -> None:
    axes = "sweep.axes=[{method: [ft, ft_cot]}, {train.learning_rate: [1e-3, 1e-4]}]"
    for override in ("train.learning_rate=1", "template=zs"):
        with pytest.raises(UsageError, match=r"has no effect: the grid sets it in every trial; .*sweep\.only"):
            load_recipe(recipe, [axes, override])
    _, trials = load_recipe(recipe, [axes, "select.diversity=3"])  # ft_cot sets it, ft does not
    assert [trial.recipe.select.diversity for trial in trials] == [3, 3, 1, 1]
    assert len(load_recipe(recipe, [axes, "sweep.only={method: ft}"])[1]) == 2


@pytest.mark.parametrize(
    "axes",
    [
        "[{arm: [a, b], select.diversity: [2, 2]}]",
        "[{method: [ft]}, {select.diversity: [1, 2]}]",  # answers only: D changes nothing
    ],
)
def test_two_trials_that_are_the_same_are_named(recipe: str, axes: str) -> None:
    with pytest.raises(UsageError, match=r"are the same trial; sweep\.exclude one of them"):
        load_recipe(recipe, [f"sweep.axes={axes}"])


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.yaml: no such recipe"):
        load_recipe(str(tmp_path / "nowhere.yaml"))
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(UsageError, match="must be a mapping of keys to values, and is a list"):
        load_recipe(str(tmp_path / "list.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(UsageError, match=r"bad\.yaml: not YAML"):
        load_recipe(str(tmp_path / "bad.yaml"))
    (tmp_path / "part.yaml").write_text("name: x\nstudent: {scratch: {}}\n")
    with pytest.raises(UsageError, match="'task' is missing"):
        load_recipe(str(tmp_path / "part.yaml"))
