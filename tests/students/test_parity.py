"""Students compute what PyTorch `transformers` computes: logits, loss, gradients, on padded and packed rows.

Plain pytest compares with stored goldens; ``-m parity`` recomputes them and compares every gradient in full.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.students.checkpoint import to_disk_layout
from ftcot_jax.students.leaf_paths import by_path
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from tests.students.cases import CASES, PROMPT_LENGTHS, TEXTS
from tests.students.torch_oracle import GOLDENS, compute, load_torch, project, summarise


class Rows(NamedTuple):
    """Texts in (3, 16) rows, and where each of their tokens lies, texts in order."""

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    row: np.ndarray
    column: np.ndarray


class Layout(NamedTuple):
    """The same texts as a decoder takes them, and as an encoder-decoder's sources and targets."""

    texts: Rows
    sources: Rows
    targets: Rows


def fill(texts: list[list[int]], arrangement: list[list[int]]) -> Rows:
    """Puts the texts of each list into one row, as segments of their numbers from 1."""
    tokens, segments, positions = np.zeros((3, 3, 16), np.int32)
    places = {}
    for row, members in enumerate(arrangement):
        at = 0
        for text in members:
            end = at + len(texts[text])
            tokens[row, at:end], segments[row, at:end] = texts[text], text + 1
            positions[row, at:end] = np.arange(end - at)
            places[text] = [(row, column) for column in range(at, end)]
            at = end
    row_column = np.array([place for text in sorted(places) for place in places[text]])
    return Rows(tokens, segments, positions, row_column[:, 0], row_column[:, 1])


def lay_out(arrangement: list[list[int]]) -> Layout:
    prompts = [text[:prompt] for text, prompt in zip(TEXTS, PROMPT_LENGTHS, strict=True)]
    targets = [[0, *text[prompt:-1]] for text, prompt in zip(TEXTS, PROMPT_LENGTHS, strict=True)]
    return Layout(*(fill(texts, arrangement) for texts in (TEXTS, prompts, targets)))


PADDED = lay_out([[0], [1], [2]])
PACKED = lay_out([[2, 1], [], [0]])
LAYOUTS = pytest.mark.parametrize("layout", [PADDED, PACKED], ids=["padded", "packed"])


@functools.partial(jax.jit, static_argnums=0)
def logits(student: Student, params: Any, layout: Layout) -> jax.Array:
    """(tokens of the decoder, V) logits at the real tokens, texts in order."""
    if student.kind == "decoder":
        rows = layout.texts
        h = student.hidden(params, *rows[:3])
    else:
        rows = layout.targets
        source = student.source_hidden(params, *layout.sources[:3])
        h = student.target_hidden(params, source, *layout.sources[1:3], *rows[:3])
    return h[rows.row, rows.column] @ student.head(params).T


def loss(student: Student, params: Any, layout: Layout) -> jax.Array:
    """Mean cross-entropy over the label tokens, as transformers computes it."""
    scores = jax.nn.log_softmax(logits(student, params, layout).astype(jnp.float32))
    place, label, at = [], [], 0
    for text, prompt in zip(TEXTS, PROMPT_LENGTHS, strict=True):
        label += text[prompt:]
        if student.kind == "decoder":
            place += range(at + prompt - 1, at + len(text) - 1)
            at += len(text)
    return -scores[np.array(place or range(len(label))), np.array(label)].mean()


loss_and_gradients = jax.jit(jax.value_and_grad(loss, argnums=1), static_argnums=0)


def gradients_on_disk(student: Student, gradients: Any) -> dict[str, np.ndarray]:
    """Our gradients under the names and in the shapes of the checkpoint."""
    out = {}
    for path, leaf in by_path(gradients).items():
        place = student.stored[path]
        for layer in range(leaf.shape[0] if place.stacked else 1):
            part = np.asarray(leaf[layer] if place.stacked else leaf)
            out[place.name.format(layer=layer)] = to_disk_layout(part, place)
    return out


def check_values(student: Student, expected: dict[str, np.ndarray], layout: Layout) -> Any:
    params = student.load()
    np.testing.assert_allclose(logits(student, params, layout), expected["logits"], atol=1e-4, rtol=0)
    value, gradients = loss_and_gradients(student, params, layout)
    np.testing.assert_allclose(value, expected["loss"], rtol=1e-5)
    return gradients_on_disk(student, gradients)


@LAYOUTS
def test_equals_golden(case: str, layout: Layout, written: Callable[[str], Student]) -> None:
    expected = dict(np.load(GOLDENS / f"{case}.npz", allow_pickle=False))
    ours = check_values(written(case), expected, layout)
    theirs = {name.removeprefix("gradient/"): v for name, v in expected.items() if name.startswith("gradient/")}
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        norm = max(np.linalg.norm(gradient), 1e-3)
        np.testing.assert_allclose(project(gradient) / norm, theirs[name] / norm, atol=1e-3, err_msg=name)


@pytest.mark.parity
@LAYOUTS
def test_equals_torch(case: str, layout: Layout, written: Callable[[str], Student]) -> None:
    student = written(case)
    assert student.folder is not None
    expected = compute(student.folder)
    ours = check_values(student, expected, layout)
    for name, gradient in ours.items():
        theirs = expected[f"gradient/{name}"]
        scale = max(float(np.abs(theirs).max()), 1e-4)
        np.testing.assert_allclose(gradient / scale, theirs / scale, atol=1e-4, err_msg=name)


@pytest.mark.parity
def test_goldens_are_what_torch_computes_now(case: str, written: Callable[[str], Student]) -> None:
    folder = written(case).folder
    assert folder is not None
    now, stored = summarise(compute(folder)), np.load(GOLDENS / f"{case}.npz", allow_pickle=False)
    assert now.keys() == set(stored.files)
    for name, value in now.items():
        np.testing.assert_allclose(value, stored[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_there_is_a_golden_for_every_case_and_none_besides() -> None:
    assert {path.stem for path in GOLDENS.glob("*.npz")} == set(CASES)


@pytest.mark.parametrize("case", ["llama", "gpt2", "t5"])
def test_slots_equal_separate_students(case: str, written: Callable[[str], Student]) -> None:
    """vmap and lax.map over a leading slot axis give each slot what it gets alone."""
    student = written(case)
    first, second = student.load(), student.init(jax.random.key(3))
    slots = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    alone = np.stack([logits(student, params, PACKED) for params in (first, second)])
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    together = jax.jit(jax.vmap(lambda params: logits(student, params, PACKED)))(slots)
    np.testing.assert_allclose(together, alone, atol=2e-5)
    mapped = jax.jit(lambda slots: jax.lax.map(lambda params: logits(student, params, PACKED), slots))(slots)
    np.testing.assert_allclose(mapped, alone, atol=2e-5)


@pytest.mark.parametrize("case", ["llama", "smollm3", "gpt2"])
def test_cached_steps_equal_the_whole_row(case: str, written: Callable[[str], Student]) -> None:
    """`extend` by pieces of 4, 1 and 4 tokens, rows of unlike length, gives what `hidden` gives."""
    student = written(case)
    params = student.load()
    whole = logits(student, params, PADDED)
    cache, parts, length = student.empty_cache(3, 16), [], 16
    extend = jax.jit(student.extend)
    for begin, end in ((0, 4), (4, 5), (5, 9)):
        place = np.arange(begin, end)[None]
        positions = np.where(place < np.array([[len(text)] for text in TEXTS]), place, length)
        h, cache = extend(params, cache, PADDED.texts.tokens[:, begin:end], positions)
        parts.append(h @ student.head(params).T)
    stepped = np.concatenate(parts, axis=1)
    stepped = np.concatenate([stepped[row, : len(text)] for row, text in enumerate(TEXTS)])
    np.testing.assert_allclose(stepped, whole, atol=2e-5)


@pytest.mark.parametrize("case", ["llama", "gpt2", "t5"])
def test_bfloat16_computes_over_float32_weights(case: str, written: Callable[[str], Student]) -> None:
    plain = written(case)
    half = load_student(StudentSettings(checkpoint=str(plain.folder), dtype="bfloat16"))
    params = half.load()
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    exact, rough = logits(plain, params, PACKED), logits(half, params, PACKED)
    assert rough.dtype == jnp.bfloat16
    assert 0 < np.abs(exact - rough.astype(np.float32)).max() < 0.15
    _, gradients = loss_and_gradients(half, params, PACKED)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


@pytest.mark.parity
def test_real_student_equals_torch(real_student_folder: Any) -> None:
    """SmolLM2-135M: logits, and the loss and the gradient of a rationale's label tokens.

    The gradient is compared as one vector: of single scales in the middle of 30 layers, PyTorch's own float32 is
    up to 3e-5 from its float64 and ours up to 2e-4, where sums nearly cancel.
    """
    import torch

    student = load_student(StudentSettings(checkpoint=str(real_student_folder)))
    text = "Tom has 3 apples and buys 4 more. How many apples does he have? ### 3 + 4 = 7. --> 7"
    (ids,), prompt = student.encode([text]), 18
    tokens, places = np.array([ids]), np.arange(len(ids))[None]
    params = student.load()

    def scores(params: Any) -> jax.Array:
        return (student.hidden(params, tokens, np.ones_like(tokens), places) @ student.head(params).T)[0]

    def label_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        found = scores(params)
        chance = jax.nn.log_softmax(found)[np.arange(prompt - 1, len(ids) - 1), np.array(ids[prompt:])]
        return -chance.mean(), found

    (value, found), gradients = jax.jit(jax.value_and_grad(label_loss, has_aux=True))(params)
    model = load_torch(real_student_folder)
    labels = torch.tensor([[-100] * prompt + ids[prompt:]])
    out = model(torch.tensor(tokens), labels=labels)
    out.loss.backward()
    np.testing.assert_allclose(found, out.logits[0].detach().numpy(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(value, out.loss.item(), rtol=1e-5)
    ours = gradients_on_disk(student, gradients)
    theirs = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    assert ours.keys() == theirs.keys()
    apart = sum(np.linalg.norm(ours[name] - theirs[name]) ** 2 for name in theirs)
    assert apart < 1e-8 * sum(np.linalg.norm(theirs[name]) ** 2 for name in theirs)
