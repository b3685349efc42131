"""Artefacts: found by what made them, whole or not there, made once however many ask."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from ftcot_jax.artifacts import Store, address
from ftcot_jax.errors import FtcotError


def store(folder: Path) -> tuple[Store, list[str]]:
    lines: list[str] = []
    return Store(epath.Path(folder), lines.append), lines


def build(folder: epath.Path) -> dict[str, Any]:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text("content")
    return {"count": 1}


def test_made_once_then_reused(tmp_path: Path) -> None:
    ours, lines = store(tmp_path)
    first = ours.make("thing", {"a": 1}, build)
    assert first.fresh
    assert first.manifest["summary"] == {"count": 1}
    again = ours.make("thing", {"a": 1}, lambda folder: pytest.fail("made twice"))
    assert not again.fresh
    assert again.path == first.path
    assert (again.path / "sub" / "file").read_text() == "content"
    assert ours.make("thing", {"a": 2}, build).path != first.path
    assert [line.split()[1] for line in lines] == ["made", "made"]  # what was made just now is not said to be reused
    later, lines = store(tmp_path)
    for _ in range(2):
        later.make("thing", {"a": 1}, lambda folder: pytest.fail("made twice"))
    assert [line.split()[1] for line in lines] == ["reusing"]


def test_address_depends_on_kind_and_every_input() -> None:
    assert address("a", {"x": 1, "y": [2]}) == address("a", {"y": [2], "x": 1})
    assert len({address("a", {}), address("b", {}), address("a", {"x": None}), address("a", {"x": 0})}) == 4


def test_a_failed_build_leaves_nothing_to_reuse(tmp_path: Path) -> None:
    ours, _ = store(tmp_path)

    def fail(folder: epath.Path) -> None:
        (folder / "half").write_text("half")
        raise FtcotError("broken")

    with pytest.raises(FtcotError, match="broken"):
        ours.make("thing", {}, fail)
    assert ours.find("thing", {}) is None
    assert ours.make("thing", {}, build).fresh
    assert not (ours.find("thing", {}).path / "half").exists()  # type: ignore[union-attr]


def test_damage_is_named(tmp_path: Path) -> None:
    ours, _ = store(tmp_path)
    made = ours.make("thing", {}, build)
    (made.path / "sub" / "file").write_text("conten")
    with pytest.raises(FtcotError, match=r"sub/file has 6 bytes, not 7: damaged; delete .*thing-"):
        ours.find("thing", {})
    (made.path / "sub" / "file").unlink()
    with pytest.raises(FtcotError, match="sub/file is missing"):
        ours.find("thing", {})
    (made.path / "manifest.json").write_text("{")
    with pytest.raises(FtcotError, match=r"manifest\.json: not JSON"):
        ours.find("thing", {})


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, sys, time
        from etils import epath
        from ftcot_jax.artifacts import Store
        def build(folder):
            (folder / "by").write_text(str(os.getpid()))
            with open(sys.argv[1] + "/builds", "a") as log:
                log.write("x")
            time.sleep(0.5)
        print(Store(epath.Path(sys.argv[1]), print).make("thing", {}, build).fresh)
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1], env=os.environ)
        for _ in range(2)
    ]
    outputs = sorted(process.communicate(timeout=120)[0].splitlines()[-1] for process in running)
    assert outputs == ["False", "True"]
    assert (tmp_path / "builds").read_text() == "x"
