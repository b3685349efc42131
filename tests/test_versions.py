"""Pairs of jax and flax that cannot work are refused at import, in one line."""

from __future__ import annotations

import importlib.metadata

import pytest

from ftcot_jax.versions import check_versions


@pytest.mark.parametrize(("jax", "flax"), [("0.10.2", "0.12.8"), ("0.12.0.1", "0.12.12")])
def test_tested_pairs(jax: str, flax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", {"jax": jax, "flax": flax}.__getitem__)
    check_versions()


@pytest.mark.parametrize(("jax", "flax"), [("0.9.1", "0.12.8"), ("0.12.0", "0.12.8"), ("0.99.0", "0.12.12")])
def test_other_pairs(jax: str, flax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", {"jax": jax, "flax": flax}.__getitem__)
    with pytest.raises(ImportError, match=f"jax {jax} with flax {flax} is not a tested pair; install one of: jax 0.10"):
        check_versions()
