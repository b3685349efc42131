"""What the machine has; and jax started without a TPU that is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax import accelerator as room
from ftcot_jax.accelerator import accelerator, leave_out_absent_tpu


def machine(monkeypatch: pytest.MonkeyPatch, folder: Path, files: str, packages: str) -> None:
    for name in files.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    monkeypatch.setattr(room, "DEVICES", folder)
    find: Any = lambda name: name if name in packages.split() else None  # noqa: E731
    monkeypatch.setattr(room.importlib.util, "find_spec", find)


@pytest.mark.parametrize(
    ("files", "packages", "has", "before", "after"),
    [
        ("null", "libtpu", "cpu", None, "cpu"),
        ("null", "", "cpu", None, None),
        ("null", "libtpu", "cpu", "tpu,cpu", "tpu,cpu"),
        ("null", "libtpu jax_plugins", "cpu", None, None),
        ("accel0 accel1", "libtpu", "tpu", None, None),
        ("vfio/vfio vfio/0", "libtpu", "tpu", None, None),
        ("vfio/vfio", "libtpu", "cpu", None, "cpu"),
        ("vfio/0 nvidia0 nvidiactl", "", "gpu", None, None),
        ("nvidia0", "libtpu", "gpu", None, None),
    ],
)
def test_a_tpu_that_is_not_there_is_left_out(
    files: str, packages: str, has: str, before: str | None, after: str | None, tmp_path: Path, monkeypatch: Any
) -> None:
    machine(monkeypatch, tmp_path, files, packages)
    assert accelerator() == has
    environment = {} if before is None else {"JAX_PLATFORMS": before}
    leave_out_absent_tpu(environment)
    assert environment.get("JAX_PLATFORMS") == after


def test_the_command_starts_jax_without_a_word() -> None:
    """Really started, with libtpu where the tests have it."""
    if accelerator() != "cpu":
        pytest.skip("this machine has an accelerator")
    program = "from ftcot_jax import cli, launch\ncli.main = lambda: print(__import__('jax').devices())\nlaunch.main()"
    environment = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[CpuDevice(id=0)]\n", "")
