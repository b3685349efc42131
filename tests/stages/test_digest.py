"""Digests name what is on people's disks: they stay what they were, however the values are given."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from ftcot_jax.stages.place import digest


@pytest.mark.parametrize("count", [0, 1, 1024, 1025, 5000])
def test_an_iterator_is_the_list_of_what_it_gives(count: int) -> None:
    rows = [(number, f'é "{number}', None) for number in range(count)]
    text = json.dumps((rows, list(range(count)), {"b": 1, "a": [2]}), sort_keys=True, ensure_ascii=False)
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert digest(rows, range_list := list(range(count)), {"b": 1, "a": [2]}) == expected
    assert digest(iter(rows), map(int, np.array(range_list, np.int64)), {"a": [2], "b": 1}) == expected


def test_it_is_that_of_the_first_runs() -> None:
    assert digest() == "4f53cda18c2baa0c"
    assert digest([1, 2], "x") == hashlib.sha256(b'[[1, 2], "x"]').hexdigest()[:16]
