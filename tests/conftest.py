"""Fixtures every room's tests use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_gcs import FakeGcs

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


@pytest.fixture(scope="session")
def service() -> Iterator[FakeGcs]:
    """A bucket service for all tests of a process; skips, saying so, where the package that speaks to it is absent."""
    pytest.importorskip("gcsfs", reason="buckets need the gcs extra")
    with FakeGcs() as fake:
        yield fake
    assert not fake.strange


@pytest.fixture
def bucket(service: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    """An empty ``gs://bucket`` that this process sees."""
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    service.buckets["bucket"].clear()
    service.requests.clear()
    yield service
    service.unplugged = service.forbidden = None


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A window of headless Chromium; skips, saying so, where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install '.[test]'")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium and chromedriver here; apt-get install chromium chromium-driver to run this test")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    window = webdriver.Chrome(options=options, service=Service(driver))
    yield window
    window.quit()
