"""What docs/evaluation.md shows works as shown."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from ftcot_jax.cli import main
from ftcot_jax.evaluation.categories import CATEGORIES
from ftcot_jax.evaluation.settings import EvaluateSettings
from ftcot_jax.tasks.templates import TEMPLATE_NAMES

PAGE = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.S)


@pytest.mark.slow
def test_the_recipe_and_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recipe,) = blocks("yaml")
    (tmp_path / "RECIPE.yaml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    commands = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 5
    for number, command in enumerate(commands):
        predictions = next(iter(tmp_path.glob("runs/methods/artifacts/scores-*/predictions.json")), Path())
        shown = {"PAGE": f"{number}.html", "FILE": str(predictions)}
        monkeypatch.setattr(sys, "argv", [shown.get(word, word) for word in shlex.split(command)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    report = (tmp_path / "runs/methods/report/report.md").read_text()
    for arm in ("Zero-shot", "Fine-tune", "Fine-tune-CoT", "Diverse reasoning"):
        assert f"| {arm} |" in report
    assert (tmp_path / "3.html").is_file()
    assert (tmp_path / "4.html").is_file()


def test_tables_name_what_there_is() -> None:
    assert set(re.findall(r"^\| ([a-z, ]+) \| [a-z]", PAGE, flags=re.M)) >= set(CATEGORIES)
    assert set(re.findall(r"`template: (\w+)`", PAGE)) < set(TEMPLATE_NAMES)
    assert set(re.findall(r"`evaluate\.(\w+)", PAGE)) <= set(EvaluateSettings.model_fields)
