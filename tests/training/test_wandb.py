"""Weights & Biases: one line for what is missing, and trouble that never reaches the training."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.errors import UsageError
from ftcot_jax.training.settings import WandbSettings
from ftcot_jax.training.wandb_run import WandbRun, require_wandb

SETTINGS = WandbSettings(project="p")


class Run:
    """A run of a package that fails at a chosen call."""

    def __init__(self, fails: str) -> None:
        self.fails, self.logged = fails, []  # type: ignore[var-annotated]

    def log(self, row: dict[str, Any], step: int) -> None:
        if self.fails == "log":
            raise RuntimeError("server said 500\nand more")
        self.logged.append((step, row))

    def finish(self) -> None:
        if self.fails == "finish":
            raise TimeoutError


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    fake: Any = types.ModuleType("wandb")
    fake.__spec__ = importlib.util.spec_from_loader("wandb", None)
    fake.Settings = dict
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    return fake


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^train\.wandb: the wandb package is missing; pip install wandb, or leave"):
        require_wandb()


def test_without_a_key(package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UsageError, match=r"there is no key; set WANDB_API_KEY, run `wandb login`, or set WANDB_MODE"):
        require_wandb()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0123\n")
    require_wandb()
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_MODE", "offline")
    require_wandb()


def test_one_run_a_trial_that_a_resume_goes_on_in(package: Any, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    run = Run("")
    package.init = lambda **words: asked.append(words) or run
    log = WandbRun(SETTINGS, "abc", "cot 1", tmp_path, print)
    log.write({"step": 3, "loss": 1.5})
    log.close()
    assert run.logged == [(3, {"loss": 1.5})]
    assert {"project": "p", "id": "abc", "name": "cot 1", "resume": "allow"}.items() <= asked[0].items()


@pytest.mark.parametrize(
    ("fails", "reason"), [("init", "no network"), ("log", "server said 500"), ("finish", "TimeoutError")]
)
def test_a_failure_is_said_once_and_stops_nothing(fails: str, reason: str, package: Any, tmp_path: Path) -> None:
    def init(**words: Any) -> Run:
        if fails == "init":
            raise OSError("no network")
        return Run(fails)

    package.init = init
    said: list[str] = []
    log = WandbRun(SETTINGS, "abc", "cot 1", tmp_path, said.append)
    for step in range(3):
        log.write({"step": step, "loss": 1.0})
    log.close()
    assert said == [f"train.wandb: cot 1 is not logged any further ({reason}); training goes on"]


def test_the_real_package_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    said: list[str] = []
    for first in (0, 4):
        logs = [WandbRun(SETTINGS, f"key{n}", f"trial {n}", tmp_path, said.append) for n in range(2)]
        for step in range(first, first + 4):
            for log in logs:
                log.write({"step": step, "loss": 1.0 / (1 + step)})
        for log in logs:
            log.close()
    assert said == []
    written = sorted(path.name for path in tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert written == ["run-key0.wandb"] * 2 + ["run-key1.wandb"] * 2
