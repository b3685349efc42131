"""A real pretrained student, stories260K of llama2.c, against an independent numpy forward pass and PyTorch.

llama2.c (github.com/karpathy/llama2.c, run.c) turns neighbouring pairs of each head where checkpoints on the hub
turn halves, so the file's query and key rows are reordered on the way in: the numpy pass keeps the file's order.
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from ftcot_jax.generation.generate import generate
from ftcot_jax.students.load import load_student
from ftcot_jax.students.safetensors_file import write_safetensors
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from tests.students.torch_oracle import load_torch

TEXT = [1, 403, 407, 261, 378, 31, 5, 9, 77, 450, 31]


class Sizes(NamedTuple):
    """The header of a llama2.c file."""

    width: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int


SMALL = Sizes(24, 20, 2, 6, 3, 512, 32)


def tensor_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Every tensor, in the order of the file; the head is the embedding."""
    kv = sizes.width // sizes.heads * sizes.kv_heads
    layers, width, mlp = sizes.layers, sizes.width, sizes.mlp
    return {
        "embed": (sizes.vocabulary, width),
        "attention_norm": (layers, width),
        "q": (layers, width, width),
        "k": (layers, kv, width),
        "v": (layers, kv, width),
        "o": (layers, width, width),
        "mlp_norm": (layers, width),
        "gate": (layers, mlp, width),
        "down": (layers, width, mlp),
        "up": (layers, mlp, width),
        "norm": (width,),
    }


def read_bin(file: Path) -> tuple[Sizes, dict[str, np.ndarray]]:
    raw = file.read_bytes()
    sizes = Sizes(*struct.unpack("7i", raw[:28]))
    flat, tensors, at = np.frombuffer(raw, "<f4", offset=28), {}, 0
    for name, shape in tensor_shapes(sizes).items():
        size = int(np.prod(shape))
        tensors[name], at = flat[at : at + size].reshape(shape), at + size
    assert len(flat) - at == sizes.context * (sizes.width // sizes.heads)  # tables of cosine and sine follow
    return sizes, tensors


def draw(sizes: Sizes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = tensor_shapes(sizes)
    return {name: (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32) for name, shape in shapes.items()}


def run_c(sizes: Sizes, w: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """(T, V) logits, one token after another, as run.c computes them, in float64."""
    head = sizes.width // sizes.heads
    w = {name: tensor.astype(np.float64) for name, tensor in w.items()}
    keys: list[list[np.ndarray]] = [[] for _ in range(sizes.layers)]
    values: list[list[np.ndarray]] = [[] for _ in range(sizes.layers)]

    def norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return scale * x / np.sqrt((x * x).mean() + 1e-5)

    def turn(x: np.ndarray, position: int) -> np.ndarray:
        pair = x.reshape(-1, head // 2, 2)
        angle = position * 10000.0 ** (-np.arange(0, head, 2) / head)
        cos, sin = np.cos(angle), np.sin(angle)
        turned = [pair[..., 0] * cos - pair[..., 1] * sin, pair[..., 0] * sin + pair[..., 1] * cos]
        return np.stack(turned, -1).reshape(-1, head)

    rows = []
    for position, token in enumerate(tokens):
        x = w["embed"][token]
        for layer in range(sizes.layers):
            h = norm(x, w["attention_norm"][layer])
            query = turn(w["q"][layer] @ h, position)
            keys[layer].append(turn(w["k"][layer] @ h, position))
            values[layer].append((w["v"][layer] @ h).reshape(-1, head))
            mixed = []
            for number in range(sizes.heads):
                group = number // (sizes.heads // sizes.kv_heads)
                score = np.array([key[group] @ query[number] for key in keys[layer]]) / np.sqrt(head)
                weight = np.exp(score - score.max())
                past = np.array([value[group] for value in values[layer]])
                mixed.append(weight / weight.sum() @ past)
            x = x + w["o"][layer] @ np.concatenate(mixed)
            h = norm(x, w["mlp_norm"][layer])
            gate = w["gate"][layer] @ h
            x = x + w["down"][layer] @ (gate / (1 + np.exp(-gate)) * (w["up"][layer] @ h))
        rows.append(w["embed"] @ norm(x, w["norm"]))
    return np.array(rows)


def write_folder(sizes: Sizes, w: dict[str, np.ndarray], folder: Path) -> Student:
    """Writes the weights as a checkpoint in the Hugging Face layout."""
    fields = {
        "model_type": "llama",
        "hidden_size": sizes.width,
        "intermediate_size": sizes.mlp,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "max_position_embeddings": sizes.context,
        "vocab_size": sizes.vocabulary,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }
    scratch = load_student(StudentSettings(scratch=fields), [f"t{number}" for number in range(400)])
    scratch.config.architectures = [scratch.architecture]
    scratch.config.save_pretrained(folder)
    scratch.tokenizer.save_pretrained(folder)

    def halves(kernel: np.ndarray) -> np.ndarray:
        head = sizes.width // sizes.heads
        return kernel.reshape(-1, head // 2, 2, sizes.width).swapaxes(1, 2).reshape(kernel.shape)

    tensors = {"model.embed_tokens.weight": w["embed"], "model.norm.weight": w["norm"]}
    for layer in range(sizes.layers):
        at = f"model.layers.{layer}."
        for name in ("q", "k", "v", "o"):
            kernel = w[name][layer]
            tensors[f"{at}self_attn.{name}_proj.weight"] = halves(kernel) if name in "qk" else kernel
        for name in ("gate", "up", "down"):
            tensors[f"{at}mlp.{name}_proj.weight"] = w[name][layer]
        tensors[f"{at}input_layernorm.weight"] = w["attention_norm"][layer]
        tensors[f"{at}post_attention_layernorm.weight"] = w["mlp_norm"][layer]
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    write_safetensors(folder / "model.safetensors", iter(tensors.items()), shapes)
    return load_student(StudentSettings(checkpoint=str(folder)))


@functools.partial(jax.jit, static_argnums=0)
def our_logits(student: Student, params: Any, tokens_1xT: Any) -> jax.Array:
    places = np.arange(tokens_1xT.shape[1])[None]
    return (student.hidden(params, tokens_1xT, np.ones_like(places), places) @ student.head(params).T)[0]


def check(sizes: Sizes, weights: dict[str, np.ndarray], folder: Path) -> Student:
    student = write_folder(sizes, weights, folder)
    ours = our_logits(student, student.load(), np.array([TEXT]))
    np.testing.assert_allclose(ours, run_c(sizes, weights, TEXT), atol=1e-4, rtol=0)
    return student


def test_random_weights_equal_run_c(tmp_path: Path) -> None:
    check(SMALL, draw(SMALL), tmp_path)


def test_stories260k_equals_run_c_and_tells_its_story(shared: Path, tmp_path: Path) -> None:
    sizes, weights = read_bin(shared / "models" / "stories260k" / "stories260K.bin")
    student = check(sizes, weights, tmp_path)
    (written,) = generate(student, student.load(), [[1]], max_length=60)
    text = "".join(pieces(shared / "models" / "stories260k" / "tok512.bin")[token] for token in written.tokens)
    assert text.startswith(" Once upon a time, there was a little girl named Lily.")


@pytest.mark.parity
def test_stories260k_equals_torch(shared: Path, tmp_path: Path) -> None:
    import torch

    student = write_folder(*read_bin(shared / "models" / "stories260k" / "stories260K.bin"), tmp_path)
    with torch.no_grad():
        theirs = load_torch(tmp_path)(torch.tensor([TEXT])).logits[0].numpy()
    np.testing.assert_allclose(our_logits(student, student.load(), np.array([TEXT])), theirs, atol=1e-4, rtol=0)


def pieces(file: Path) -> list[str]:
    """The texts of the tokens of a llama2.c tokenizer."""
    raw, found, at = file.read_bytes(), [], 4
    while at < len(raw):
        (size,) = struct.unpack_from("i", raw, at + 4)
        found.append(raw[at + 8 : at + 8 + size].decode())
        at += 8 + size
    return found
