"""What docs/sweeps.md says of running on many machines works as shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ftcot_jax.sweeps.grid import SweepSettings
from tests.stages.test_road import ROOT, TINY
from tests.stages.test_sweep_workers import results

PAGE = (ROOT / "docs" / "sweeps.md").read_text()


def section(title: str) -> list[str]:
    """The shell blocks of a section."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, flags=re.S | re.M)
    assert found
    return re.findall(r"```sh\n(.*?)```", found[1], flags=re.S)


@pytest.mark.slow
def test_every_command(tmp_path: Path) -> None:
    (tmp_path / "RECIPE.yaml").write_text(TINY)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ftcot").write_text(
        f'#!/bin/bash\nexec {sys.executable} -c "from ftcot_jax.cli import main; main()" "$@"\n'
    )
    (tools / "ftcot").chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    (alone, again), (two, submits), (status,) = section("Run"), section("Many machines"), section("Status")
    said = []
    for place, block in (("one", alone + again), ("two", two + submits + status)):
        (tmp_path / place).mkdir()
        os.link(tmp_path / "RECIPE.yaml", tmp_path / place / "RECIPE.yaml")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path / place,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert len(results(tmp_path / place / "OUT")) == 4
        said.append(done.stdout)
    assert "tiny: 4 trials: 4 done, 0 running, 0 failed, 0 waiting; 0 workers" in said[1]
    assert {path.name for path in (tmp_path / "two").iterdir()} >= {
        "tiny.slurm.sbatch",
        "tiny.k8s.yaml",
        "tiny.skypilot.yaml",
    }


def test_the_lease_is_as_said() -> None:
    assert f"`sweep.lease_seconds` ({SweepSettings().lease_seconds:g})" in PAGE
