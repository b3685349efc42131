"""What docs/sweeps.md and configs/README.md show works as shown."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from ftcot_jax.cli import main
from ftcot_jax.config import load_recipe
from tests.stages.test_road import TINY

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/sweeps.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.S)


def test_every_plan_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY)
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("ftcot sweep plan")]
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command.replace("RECIPE.yaml", str(recipe)))
        monkeypatch.setattr(sys, "argv", [*words, f"out={tmp_path / 'runs'}"])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        if "--json" in words:
            assert len(json.loads(said.out)["trials"]) == 4
        else:
            assert f"tiny: {2 if 'only' in command else 4} trials" in said.out
    assert not (tmp_path / "runs").exists()


def test_the_grid_shown_expands(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    head = "name: shown\ntask: {key: multiarith}\nteacher: {import: 'D_{task}.json'}\nstudent: {checkpoint: x}\n"
    base.write_text(head + blocks("yaml")[0])
    recipe, trials = load_recipe(str(base), ["student.remat=full"])
    assert recipe.sweep.product == 3 * 2 * 4 * 2 * 3
    assert len(trials) == 144 - 2 * 2 * 3 - 3 * 2 * 3 - 3 * 2 * 2
    own = [trial.recipe.own_student for trial in trials]
    assert {student.remat for student in own} == {"full"}
    assert {student.dtype for student in own} == {"float32", "bfloat16"}


def test_the_python_shown_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks("python")[0], {})
    assert "1 6.0 digitised" in capsys.readouterr().out


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "docs/sweeps.md", ROOT / "configs/README.md"):
        links = re.findall(r"\]\((\.\.?/[^)#]+)\)", page.read_text())
        assert links
        assert all((page.parent / link).exists() for link in links)
