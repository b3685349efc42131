"""docs/teacher.md: its Python runs as it stands, its settings exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ftcot_jax.teacher.completion import read_completions
from ftcot_jax.teacher.settings import TeacherSettings
from tests.teacher.fault_server import FaultServer

PAGE = (Path(__file__).parents[2] / "docs/teacher.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_python_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    with FaultServer(models=[{"id": "NAME"}]).serving() as server:
        exec(compile(code.replace("http://127.0.0.1:8000/v1", server.url), "docs/teacher.md", "exec"), {})
    assert len(read_completions(tmp_path / "completions.json").completions) == 8
    assert (tmp_path / "completions.parquet").exists()


def test_the_settings_of_the_page() -> None:
    endpoint, money = (yaml.safe_load(block)["teacher"] for block in blocks("yaml"))
    assert TeacherSettings(**{**endpoint, **money}).budget == 20
    table = PAGE.split("| setting | what it does |")[1].split("\n\n")[0]
    named = re.findall(r"`(\w+)(?:: ([^`]+))?`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert len(named) == 7
    for name, default in named:
        assert name in TeacherSettings.model_fields
        if default and name != "api":
            assert TeacherSettings.model_fields[name].default == float(default)
