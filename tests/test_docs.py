"""What docs/tasks.md shows works as shown."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.scaling.parts import SIZES
from ftcot_jax.cli import main
from ftcot_jax.rationales.settings import SelectSettings
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.templates import TEMPLATE_NAMES, OwnTemplate
from tests.stages.test_road import TINY

PAGES = Path(__file__).parents[1] / "docs"
PAGE = (PAGES / "tasks.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.S)


def test_every_data_command(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCOT_MIRROR", str(shared / "data/upstream"))
    published = shared / "data/completions/B_text-davinci-002__C_zs_cot/D_svamp.json"
    commands = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        words = [{"OUT": str(tmp_path), "FILE": str(published)}.get(word, word) for word in shlex.split(command)]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    assert (tmp_path / "multiarith__template.json").is_file()


def test_other_pages_name_commands_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = ("api_students.md", "evaluation.md", "performance.md", "tpu_compile.md", "../README.md")
    text = "".join((PAGES / page).read_text() for page in pages)
    commands = sorted(set(re.findall(r"`?ftcot ([a-z-]+) ", text)))
    assert {"api-student", "sample", "run", "train"} <= set(commands)
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["ftcot", command, "--help"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        assert "Usage" in capsys.readouterr().out


def test_the_performance_page_names_what_there_is() -> None:
    text = (PAGES / "performance.md").read_text()
    modules = {name.replace(".", "/") for name in re.findall(r"python -m (benchmarks[a-z._]*)", text)}
    assert len(modules) >= 3
    for module in modules:
        root = PAGES.parent / module
        assert root.with_suffix(".py").is_file() or (root / "__main__.py").is_file(), module
    assert all((PAGES / name).is_file() for name in re.findall(r"!\[.*?\]\((.*?)\)", text))
    begins, ends = (re.findall(rf"<!-- (.*?): {word} -->", text) for word in ("begin", "end"))
    assert begins == ends
    assert {f"scaling {part}" for part in SIZES} < set(begins)


def test_the_riddles(tmp_path: Path) -> None:
    definition, template = blocks("yaml")
    (tmp_path / "riddles.yaml").write_text(definition)
    (tmp_path / "riddles.jsonl").write_text(blocks("json")[0])
    data = load_task(TaskSettings(key=str(tmp_path / "riddles.yaml")))
    assert (data.task.choices, data.split.train, data.split.test) == (("A", "B"), (0,), (1,))
    own = OwnTemplate(**yaml.safe_load(template)["template"])
    assert own.template.label("3", "r") == " r\nAnswer: 3"


def test_every_training_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    text = (PAGES / "training.md").read_text()
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        TINY.replace("{seed: [1, 2]}", "{seed: [1]}")
        .replace("[answers, cot]", "[cot]")
        .replace("[ft_token, ft_cot_token]", "[ft_cot_token]")
    )
    monkeypatch.setenv("WANDB_MODE", "offline")
    commands = [line for block in re.findall(r"```sh\n(.*?)```", text, flags=re.S) for line in block.splitlines()]
    assert len(commands) == 10
    for command in commands:
        words = shlex.split(command.replace("RECIPE.yaml", str(recipe)).replace("BEST", str(tmp_path / "best")))
        out = [f"out={tmp_path / 'runs'}"]
        monkeypatch.setattr(sys, "argv", [*words[:3], *out, *words[3:]])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        if "wandb" in command and importlib.util.find_spec("wandb") is None:
            assert (ended.value.code, "the wandb package is missing; pip install wandb" in said.err) == (2, True)
        else:
            assert not ended.value.code, said.err
    assert (tmp_path / "best" / "model.safetensors").is_file()
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_tables_name_what_there_is() -> None:
    cells = set(re.findall(r"`([a-z_]+)`", PAGE))
    assert set(TEMPLATE_NAMES) <= cells
    of_questions = {"max_questions", "question_share", "subset_seed", "decontaminate"}
    assert set(SelectSettings.model_fields) - of_questions <= cells
    for key in of_questions:
        assert f"select.{key}" in PAGE
