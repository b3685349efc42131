"""Pairs for other trainers, read back by the libraries that would read them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from ftcot_jax.errors import UsageError
from ftcot_jax.rationales.export import export_pairs
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import OwnTemplate

QUESTIONS = {4: Question(4, "3 + 4?", "7")}
PAIRS = [Pair(4, 1, "3 + 4? ###", " three é --> 7", True, " three é ", "7", "7")]


def test_openai_completion_form_is_the_papers(tmp_path: Path) -> None:
    file = export_pairs(PAIRS, QUESTIONS, "ft_cot_token", "openai-completion", tmp_path / "a")
    row = {"prompt": "3 + 4?\n\n###\n\n", "completion": " three é\n\n-->\n\n7 END"}
    assert [json.loads(line) for line in file.read_text().splitlines()] == [row]


def test_openai_chat_form(tmp_path: Path) -> None:
    file = export_pairs(PAIRS, QUESTIONS, "ft_cot_token", "openai-chat", tmp_path / "a")
    said = [{"role": "user", "content": "3 + 4?"}, {"role": "assistant", "content": "three é --> 7"}]
    assert [json.loads(line) for line in file.read_text().splitlines()] == [{"messages": said}]


def test_jsonl_and_parquet_hold_every_field(tmp_path: Path) -> None:
    file = export_pairs(PAIRS, QUESTIONS, "ft_cot_token", "jsonl", tmp_path / "a.b")
    assert file.name == "a.b.jsonl"
    assert [Pair(**json.loads(line)) for line in file.read_text().splitlines()] == PAIRS
    file = export_pairs(PAIRS, QUESTIONS, "ft_cot_token", "parquet", tmp_path / "a.b")
    assert pyarrow.parquet.read_table(file).to_pylist() == [dataclasses.asdict(pair) for pair in PAIRS]


def test_own_templates_and_templates_without_that_form(tmp_path: Path) -> None:
    own = OwnTemplate(prompt="<{question}>", label="{rationale}|{answer}")
    file = export_pairs(PAIRS, QUESTIONS, own, "openai-completion", tmp_path / "a")
    assert json.loads(file.read_text()) == {"prompt": "<3 + 4?>", "completion": "three é|7"}
    with pytest.raises(UsageError, match="'ft_natural' has no form for models of kind 'api'"):
        export_pairs(PAIRS, QUESTIONS, "ft_natural", "openai-completion", tmp_path / "b")
