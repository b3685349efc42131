"""From settings to a student, and the one line that says what is wrong with them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from pydantic import ValidationError

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student

WORDS = ["Ida", "starts", "Thu", ".", "1", "later", "?"]
TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 100,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}


def scratch(**fields: Any) -> Student:
    return load_student(StudentSettings(scratch=TINY | fields), WORDS)


def test_a_student_from_scratch() -> None:
    student = scratch()
    assert (student.family, student.eos_id, student.pad_id, student.context_length) == ("Llama", 1, 0, 128)
    assert student.config.vocab_size == len(WORDS) + 2
    first, again, other = (student.init(jax.random.key(seed)) for seed in (0, 0, 1))
    assert first["layers"]["mlp"]["up"]["kernel"].shape == (2, 64, 100)
    assert np.array_equal(first["embed"], again["embed"])
    assert not np.array_equal(first["embed"], other["embed"])
    assert jax.tree.map(np.shape, first) == jax.tree.map(lambda leaf: leaf.shape, student.shapes)
    assert 0.018 < np.std(first["layers"]["mlp"]["up"]["kernel"]) < 0.022
    with pytest.raises(FtcotError, match="has no weights to load"):
        student.load()


def test_words_are_tokens_and_unknown_words_are_errors() -> None:
    student = scratch()
    assert student.encode(["Ida starts Thu . END", "1  later ?"]) == [[2, 3, 4, 5, 1], [6, 7, 8]]
    assert student.decode([[2, 3, 4, 5, 1, 0], [6]]) == ["Ida starts Thu .", "1"]
    with pytest.raises(FtcotError, match=r"lacks the word 'Idas' \(did you mean 'Ida'\?\), in 'Idas starts'"):
        student.encode(["Ida", "Idas starts"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"hiden_size": 3},
            r"student\.scratch\.hiden_size: no such field of llama \(did you mean 'hidden_size'\?\)",
        ),
        (
            {"model_type": "lama"},
            r"student\.scratch: model_type 'lama' is not supported.*\(did you mean 'llama'\?\)",
        ),
        ({"hidden_size": 30, "num_attention_heads": 4}, r"not a multiple of the number of attention heads"),
        ({"hidden_act": "mish"}, r"config field hidden_act='mish' of model_type 'llama' is not supported"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "rope_parameters"),
        ({"vocab_size": 5}, r"the tokenizer has 9 tokens and the config's vocab_size is 5"),
    ],
)
def test_a_bad_config_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FtcotError, match=message) as raised:
        scratch(**fields)
    assert "\n" not in str(raised.value)


def test_settings_take_one_source() -> None:
    for given in ({}, {"checkpoint": "x", "scratch": TINY}, {"checkpoint": "x", "tokenizer": "y"}):
        with pytest.raises(ValidationError):
            StudentSettings(**given)
    with pytest.raises(UsageError, match="model_type is missing"):
        load_student(StudentSettings(scratch={"hidden_size": 3}), WORDS)
    with pytest.raises(UsageError, match=r"set student\.tokenizer"):
        load_student(StudentSettings(scratch=TINY))


def test_a_scratch_student_with_a_tokenizer_of_its_own(
    written: Callable[[str], Student],
) -> None:
    folder = str(written("llama").folder)
    student = load_student(StudentSettings(scratch=TINY, tokenizer=folder))
    assert student.encode(["w1 w2"]) == written("llama").encode(["w1 w2"])
    assert student.config.vocab_size == 92


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: "),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "the tokenizer cannot be read"),
        (lambda f: _set(f, model_type="bert"), "model_type 'bert' is not supported; supported are llama"),
        (lambda f: _set(f, pretraining_tp=2), "config field pretraining_tp=2"),
        (lambda f: _set(f, vocab_size=50), "the tokenizer has 92 tokens and the config's vocab_size is 50"),
    ],
)
def test_a_bad_folder_is_named(
    spoil: Callable[[Path], Any], message: str, written: Callable[[str], Student], tmp_path: Path
) -> None:
    shutil.copytree(written("llama").folder, tmp_path, dirs_exist_ok=True)  # type: ignore[arg-type]
    spoil(tmp_path)
    with pytest.raises(FtcotError, match=message) as raised:
        load_student(StudentSettings(checkpoint=str(tmp_path)))
    assert "\n" not in str(raised.value)


def _set(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def test_no_such_folder_and_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"there is no folder \./nowhere"):
        load_student(StudentSettings(checkpoint="./nowhere"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FtcotError, match="hub cannot be reached") as raised:
        load_student(StudentSettings(checkpoint="nobody/no-such-student"))
    assert "\n" not in str(raised.value)


def test_importing_the_room_imports_neither_transformers_nor_torch() -> None:
    code = (
        "import sys, ftcot_jax.students.load, ftcot_jax.generation.generate\n"
        "print([m for m in ('transformers', 'torch', 'tensorflow') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_equal_students_share_a_hash_and_others_do_not() -> None:
    assert scratch() == scratch()
    assert hash(scratch()) == hash(scratch())
    assert scratch() != scratch(num_hidden_layers=3)
    bf16 = load_student(StudentSettings(scratch=TINY, dtype="bfloat16"), WORDS)
    assert scratch() != bf16


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [("llama", {}), ("gpt2", {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 128})],
)
def test_every_matrix_has_a_sharding_rule_of_its_rank(model_type: str, fields: dict[str, Any]) -> None:
    import re

    settings = StudentSettings(scratch=(fields or TINY) | {"model_type": model_type})
    student = load_student(settings, WORDS)
    for path, leaf in student.shapes_by_path.items():
        specs = [spec for pattern, spec in student.sharding_rules if re.search(pattern, path)]
        if path.endswith(("kernel", "embed")):
            assert specs, path
            assert {"fsdp", "tensor"} <= set(specs[0]), path
        assert all(len(spec) == len(leaf.shape) for spec in specs[:1]), path


def test_a_gguf_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(UsageError, match=r"model\.gguf is a GGUF file.*gguf_file=.*save_pretrained"):
        load_student(StudentSettings(checkpoint=str(tmp_path / "model.gguf")))
