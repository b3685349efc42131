"""Weights in and out: every layout reads back bit for bit, and a wrong checkpoint is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ftcot_jax.errors import FtcotError
from ftcot_jax.students.load import load_student
from ftcot_jax.students.safetensors_file import read_safetensors, write_safetensors
from ftcot_jax.students.save import save_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from tests.students.cases import write_case


def reopen(folder: Path) -> Student:
    return load_student(StudentSettings(checkpoint=str(folder)))


def same(first: Any, second: Any) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), first, second))


def test_saved_weights_have_the_same_bits(case: str, written: Callable[[str], Student], tmp_path: Path) -> None:
    student = written(case)
    params = student.load()
    save_student(student, params, tmp_path / "out")
    again = reopen(tmp_path / "out")
    assert same(params, again.load())
    assert again == student
    original = safetensors.numpy.load_file(student.folder / "model.safetensors")  # type: ignore[operator]
    saved = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    assert original.keys() == saved.keys()
    assert all(np.array_equal(original[name], saved[name]) for name in original)


def test_sharded_files_with_an_index(written: Callable[[str], Student], tmp_path: Path) -> None:
    student = written("llama")
    params = student.load()
    save_student(student, params, tmp_path, shard_bytes=40_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 3
    assert sorted(set(index["weight_map"].values())) == files
    assert all(path.stat().st_size < 45_000 for path in tmp_path.glob("*.safetensors"))
    assert same(params, reopen(tmp_path).load())
    (tmp_path / files[1]).unlink()
    with pytest.raises(FtcotError, match=rf"names {files[1]}, which is missing"):
        reopen(tmp_path).load()


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_half_precision_files_become_float32(dtype: Any, tmp_path: Path) -> None:
    student = write_case("llama", tmp_path / "half", dtype)
    params = student.load()
    whole = write_case("llama", tmp_path / "whole").load()
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert same(params, jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype).astype(np.float32), whole))
    name = "bfloat16" if dtype is ml_dtypes.bfloat16 else "float16"
    save_student(student, params, tmp_path / "again", dtype=name)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "again" / "config.json").read_text())["dtype"] == name
    assert same(params, reopen(tmp_path / "again").load())


def test_loads_straight_onto_a_mesh(written: Callable[[str], Student]) -> None:
    student = written("llama")
    mesh = jax.make_mesh((1, 1, 1, 1), ("trial", "data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 4)
    shardings = jax.tree.map(lambda leaf: NamedSharding(mesh, PartitionSpec()), student.shapes)
    params = student.load(shardings)
    assert all(leaf.sharding.mesh == mesh for leaf in jax.tree.leaves(params))
    assert same(params, student.load())


def test_a_checkpoint_without_the_optional_prefix_loads(written: Callable[[str], Student], tmp_path: Path) -> None:
    """The hub's GPT-2 names its tensors without "transformer.", and stores attention masks as well."""
    student = written("gpt2")
    assert student.folder is not None
    shutil.copytree(student.folder, tmp_path, dirs_exist_ok=True)
    tensors = safetensors.numpy.load_file(student.folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): array for name, array in tensors.items()}
    bare["h.0.attn.bias"] = np.tril(np.ones((1, 1, 96, 96), np.float32))
    safetensors.numpy.save_file(bare, tmp_path / "model.safetensors")
    assert same(reopen(tmp_path).load(), student.load())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), r"1 missing \(first: model.norm.weight\)"),
        (lambda t: t.update(extra=np.zeros(2, np.float32)), r"1 unexpected \(first: extra\)"),
        (
            lambda t: t.update({"lm_head.weight": np.zeros((97, 5), np.float32)}),
            r"1 of another shape \(first: lm_head.weight is \[97, 5\], config.json asks for \[97, 48\]\)",
        ),
    ],
)
def test_wrong_tensors_are_named(change: Any, message: str, written: Callable[[str], Student], tmp_path: Path) -> None:
    student = written("llama")
    assert student.folder is not None
    shutil.copytree(student.folder, tmp_path, dirs_exist_ok=True)
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    change(tensors)
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(FtcotError, match=message):
        reopen(tmp_path).load()


@pytest.mark.parametrize("keep", [0, 5, 300, -10])
def test_a_damaged_file_is_named(keep: int, written: Callable[[str], Student], tmp_path: Path) -> None:
    student = written("llama")
    assert student.folder is not None
    shutil.copytree(student.folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(FtcotError, match=r"model\.safetensors: not a readable safetensors file"):
        reopen(tmp_path).load()


def test_no_weights_names_the_pickle(written: Callable[[str], Student], tmp_path: Path) -> None:
    student = written("llama")
    assert student.folder is not None
    shutil.copytree(student.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(FtcotError, match=r"no model\.safetensors .*pytorch_model\.bin is a pickle"):
        reopen(tmp_path).load()


def test_fingerprint_follows_the_weights(written: Callable[[str], Student], tmp_path: Path) -> None:
    student = written("llama")
    assert student.folder is not None
    shutil.copytree(student.folder, tmp_path / "copy")
    assert reopen(tmp_path / "copy").fingerprint == student.fingerprint
    params = student.load()
    params["norm"]["scale"] = params["norm"]["scale"] + 1e-3
    save_student(student, params, tmp_path / "other")
    assert reopen(tmp_path / "other") == student
    assert reopen(tmp_path / "other").fingerprint != student.fingerprint


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8, np.bool_])
def test_files_agree_with_the_library(dtype: Any, tmp_path: Path) -> None:
    arrays = {
        "b": np.arange(6).reshape(2, 3).astype(dtype),
        "a": np.ones((), dtype),
        "empty": np.ones((0, 2), dtype),
    }
    shapes = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    write_safetensors(tmp_path / "ours", iter(arrays.items()), shapes)
    safetensors.numpy.save_file(arrays, tmp_path / "theirs")
    library, ours = safetensors.numpy.load_file(tmp_path / "ours"), read_safetensors(tmp_path / "theirs")
    assert library.keys() == ours.keys() == arrays.keys()
    for name, array in arrays.items():
        for read in (library[name], ours[name]):
            assert read.dtype == array.dtype
            assert np.array_equal(read, array)


@pytest.mark.parity
def test_transformers_loads_what_we_save(case: str, written: Callable[[str], Student], tmp_path: Path) -> None:
    from tests.students.torch_oracle import load_torch

    student = written(case)
    save_student(student, student.load(), tmp_path)
    saved, original = load_torch(tmp_path), load_torch(student.folder)  # type: ignore[arg-type]
    assert type(saved).__name__ == student.architecture
    for (name, ours), theirs in zip(saved.named_parameters(), original.parameters(), strict=True):
        assert bool((ours == theirs).all()), name
