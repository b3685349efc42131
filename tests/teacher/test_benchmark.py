"""The client's benchmark runs, and its figures are of the order that is claimed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def run(*words: str) -> str:
    command = [sys.executable, "-m", "benchmarks.teacher_client", *words]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_memory_stays_small_and_a_ledger_is_resumed() -> None:
    peak = re.search(r"peak memory (\d+) MB", run("memory", "--seconds", "3"))
    assert peak is not None
    assert int(peak[1]) < 500
    said = run("resume", "--rows", "20000")
    assert "19968 samples written" in said
    assert "9984 completions read" in said
