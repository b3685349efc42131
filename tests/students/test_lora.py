"""Adapters: without effect when new, merged on saving, in the layout of the `peft` package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from ftcot_jax.errors import UsageError
from ftcot_jax.students.load import load_student
from ftcot_jax.students.lora import save_adapter
from ftcot_jax.students.save import save_student
from ftcot_jax.students.settings import LoraSettings, StudentSettings
from ftcot_jax.students.student import Student
from tests.students.test_parity import PACKED, logits

# Maps with one axis and several on either side, biased, stored as torch.nn.Linear and as transformers' Conv1D.
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("t5_v1_1", "llama_tied_biased_linear_rope")]
ADAPTED = pytest.mark.parametrize("case", ["gpt2", *SLOW])


def adapt(plain: Student, targets: str = ".") -> Student:
    lora = LoraSettings(rank=3, alpha=5, targets=targets)
    return load_student(StudentSettings(checkpoint=str(plain.folder), lora=lora))


def trained(student: Student) -> tuple[Any, Any]:
    """The base, and adapters as training might have left them."""
    frozen, adapters = student.split(student.load())
    leaves, tree = jax.tree.flatten(adapters)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return frozen, tree.unflatten([0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)])


@ADAPTED
def test_new_adapters_change_nothing_and_merged_ones_what_they_did(
    case: str, written: Callable[[str], Student], tmp_path: Path
) -> None:
    plain = written(case)
    student = adapt(plain)
    before = logits(plain, plain.load(), PACKED)
    np.testing.assert_allclose(logits(student, student.load(), PACKED), before, atol=1e-6)
    frozen, adapters = trained(student)
    params = student.join(frozen, adapters)
    changed = logits(student, params, PACKED)
    assert float(jnp.abs(changed - before).max()) > 0.1
    save_student(student, params, tmp_path)
    merged = load_student(StudentSettings(checkpoint=str(tmp_path)))
    assert merged == plain
    np.testing.assert_allclose(logits(merged, merged.load(), PACKED), changed, atol=1e-4)


def test_adapters_on_disk(written: Callable[[str], Student], tmp_path: Path) -> None:
    """Names, shapes and numbers: W + (alpha / rank) B A is the merged weight."""
    plain = written("gpt2")
    student = adapt(plain, r"attn\.c_attn|mlp\.c_proj")
    frozen, adapters = trained(student)
    save_adapter(student, adapters, tmp_path, "the/base")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["fan_in_fan_out"]) == (3, 5.0, True)
    assert config["base_model_name_or_path"] == "the/base"
    assert len(config["target_modules"]) == 6
    tensors = safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors")
    assert len(tensors) == 12
    save_student(student, student.join(frozen, adapters), tmp_path / "merged")
    merged = safetensors.numpy.load_file(tmp_path / "merged" / "model.safetensors")
    original = safetensors.numpy.load_file(plain.folder / "model.safetensors")  # type: ignore[operator]
    for name, weight in original.items():
        key = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.weight" in tensors:
            a, b = tensors[f"{key}.lora_A.weight"], tensors[f"{key}.lora_B.weight"]
            assert a.shape == (3, weight.shape[0])  # GPT-2's weights are (inputs, outputs)
            np.testing.assert_allclose(merged[name], weight + 5 / 3 * (b @ a).T, atol=1e-6)
        else:
            np.testing.assert_array_equal(merged[name], weight)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("(", r"targets: '\(' is not a regular expression"),
        ("q_project", r"'q_project' is in no name of a linear map, as model\.layers\.0\.self_attn\.q_proj is"),
        (r"layers\.[01]\..*q_proj", r"chooses model\.layers\.0\.self_attn\.q_proj and not model\.layers\.2\."),
    ],
)
def test_wrong_targets_are_one_line(targets: str, message: str, written: Callable[[str], Student]) -> None:
    with pytest.raises(UsageError, match=message):
        adapt(written("llama"), targets)


@pytest.mark.parity
@ADAPTED
def test_peft_computes_the_same(case: str, written: Callable[[str], Student], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="install peft to compare with it")
    import torch

    from tests.students.torch_oracle import load_torch

    plain = written(case)
    student = adapt(plain)
    frozen, adapters = trained(student)
    save_adapter(student, adapters, tmp_path / "adapter", str(plain.folder))
    save_student(student, student.join(frozen, adapters), tmp_path / "merged")
    theirs = peft.PeftModel.from_pretrained(load_torch(plain.folder), tmp_path / "adapter").eval()  # type: ignore[arg-type]
    fed = {"input_ids": torch.tensor([[5, 9, 33, 2]])}
    if student.kind == "encoder_decoder":
        fed["decoder_input_ids"] = torch.tensor([[0, 7, 8]])
    with torch.no_grad():
        adapted, merged = theirs(**fed).logits, load_torch(tmp_path / "merged")(**fed).logits
    np.testing.assert_allclose(adapted, merged, atol=1e-4)
