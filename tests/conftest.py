"""Fixtures every room's tests use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Eight virtual CPU devices, so that sharding is tested wherever the suite runs. Set before jax starts.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of upstream data beside the checkout; skips, saying so, where it is absent."""
    folder = Path(os.environ.get("FTCOT_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}; set FTCOT_SHARED to run this test on the upstream files")
    return folder


@pytest.fixture(scope="session")
def real_student_folder() -> Path:
    """SmolLM2-135M on disk; skips, saying so, where it is absent."""
    folder = os.environ.get("FTCOT_REAL_STUDENT")
    if not folder:
        pytest.skip("FTCOT_REAL_STUDENT names no folder; shared/tools/real_student.sh makes one")
    return Path(folder)
