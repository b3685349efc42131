"""What is particular to T5: buckets of distance, and several targets reading one encoded prompt."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.students.student import Student
from ftcot_jax.students.t5 import _distance_buckets


def test_distance_buckets() -> None:
    """Of T5's 32 buckets one direction has 16: eight exact, the others to distance 128 by logarithm."""
    table = _distance_buckets(16, 128)
    assert table.tolist()[:17] == [*range(8), 8, 8, 8, 8, 9, 9, 9, 9, 10]
    assert [int(table[distance]) for distance in (31, 32, 63, 64, 127, 128)] == [11, 12, 13, 14, 15, 15]
    assert np.all(np.diff(table) >= 0)


@pytest.mark.parity
@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (8, 6), (16, 20)])
def test_distance_buckets_equal_torch(buckets: int, farthest: int) -> None:
    import torch
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(0, 4 * farthest)
    theirs = T5Attention._relative_position_bucket(-distance, False, buckets, farthest).numpy()
    ours = _distance_buckets(buckets, farthest)[np.minimum(distance.numpy(), farthest)]
    assert np.array_equal(ours, theirs)


def test_targets_may_share_a_source(written: Callable[[str], Student]) -> None:
    """Two targets that read source 1 get what they get when each brings its own copy of it."""
    student = written("t5")
    params = student.load()
    prompt, targets = [5, 9, 33], [[0, 7, 8], [0, 60]]

    def row(values: list[int]) -> jnp.ndarray:
        return jnp.asarray([values + [0] * (8 - len(values))])

    def run(source: list[int], segments: list[int], positions: list[int], reads: list[int]) -> np.ndarray:
        encoded = student.source_hidden(params, row(source), row(segments), row(positions))
        text, owner = row([*targets[0], *targets[1]]), row([1, 1, 1, 2, 2])
        place = row([0, 1, 2, 0, 1])
        h = student.target_hidden(params, encoded, row(segments), row(positions), text, owner, place, row(reads))
        return np.asarray(h[0, :5])

    shared = run(prompt, [1, 1, 1], [0, 1, 2], [1, 1, 1, 1, 1])
    copied = run(prompt + prompt, [1, 1, 1, 2, 2, 2], [0, 1, 2, 0, 1, 2], [1, 1, 1, 2, 2])
    np.testing.assert_allclose(shared, copied, atol=1e-6)


def test_a_decoders_methods_are_refused(written: Callable[[str], Student]) -> None:
    student = written("t5")
    token = jnp.ones((1, 4), jnp.int32)
    with pytest.raises(TypeError, match="T5 is of kind encoder_decoder, and this method is for decoders"):
        student.hidden(student.load(), token, token, token)
