"""Fixtures of the teacher's tests."""

from __future__ import annotations

import pytest

from ftcot_jax.teacher import buyer, endpoint


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buyer, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_SECONDS", 0.01)
