"""The grid: products, zips, sections, methods and what is left out, counted by hand and by chance."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pydantic
import pytest
from hypothesis import given

from ftcot_jax.errors import UsageError
from ftcot_jax.sweeps.grid import METHODS, SweepSettings, expand


def points(**sweep: Any) -> list[dict[str, Any]]:
    return [point.overlay for point in expand(SweepSettings(**sweep))]


@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    zipped=st.integers(1, 3),
    cut=st.lists(st.integers(0, 3), min_size=1, max_size=4),
)
def test_counts_of_products_zips_and_exclusions(lengths: list[int], zipped: int, cut: list[int]) -> None:
    axes = [
        {f"k{number}.z{twin}": list(range(length)) for twin in range(zipped)} for number, length in enumerate(lengths)
    ]
    everything = expand(SweepSettings(axes=axes))
    assert len(everything) == SweepSettings(axes=axes).product == math.prod(lengths)
    assert len({point.name for point in everything}) == len(everything)
    assert all(len({point.overlay[f"k0.z{twin}"] for twin in range(zipped)}) == 1 for point in everything)

    chosen = [min(wanted, length - 1) for wanted, length in zip(cut, lengths, strict=False)]
    condition = {f"k{number}.z0": value for number, value in enumerate(chosen)}
    gone = math.prod(lengths[len(chosen) :])
    if gone < len(everything):
        left = expand(SweepSettings(axes=axes, exclude=[condition]))
        assert len(left) == len(everything) - gone
        assert not any(all(point.overlay[key] == value for key, value in condition.items()) for point in left)
    kept = expand(SweepSettings(axes=axes, only=condition))
    assert len(kept) == gone
    assert {point.name for point in kept} <= {point.name for point in everything}


def test_a_list_in_a_condition_is_any_of_it() -> None:
    axes = [{"method": ["ft", "ft_cot", "ft_cot_diverse"]}, {"train.seed": [1, 2]}]
    left = points(axes=axes, exclude=[{"method": ["ft", "ft_cot"], "train.seed": 2}])
    assert [point["train.seed"] for point in left] == [1, 1, 1, 2]
    assert left[-1]["template"] == "ft_cot_token"
    assert [point["template"] for point in points(axes=axes, only={"method": "ft"})] == ["ft_token"] * 2


def test_methods_are_what_the_paper_calls_them() -> None:
    made = expand(SweepSettings(axes=[{"method": list(METHODS)}]))
    assert [point.arm for point in made] == ["zs", "zs_cot", "fs_cot", "ft", "ft_cot", "ft_cot_diverse"]
    assert made[4].overlay == {"template": "ft_cot_token", "select.diversity": 1}
    assert made[5].overlay == {"template": "ft_cot_token"}
    zipped = points(axes=[{"method": ["ft_cot", "ft_cot"], "select.diversity": [1, 2]}])
    assert [point["select.diversity"] for point in zipped] == [1, 2], "a key of its own goes before the method's"


def test_sections_are_values_with_a_label() -> None:
    axes = [
        {"student": [{"label": "small", "checkpoint": "a"}, {"checkpoint": "b", "dtype": "bfloat16"}]},
        {"seed": [1, 2]},
    ]
    made = expand(SweepSettings(axes=axes))
    assert made[0].name == "small, seed=1"
    assert made[0].overlay == {"student": {"checkpoint": "a"}, "seed": 1}
    assert made[2].arm == "student.checkpoint=b, student.dtype=bfloat16"
    for condition in ({"student": "small"}, {"student.checkpoint": "a"}):
        assert len(points(axes=axes, exclude=[condition])) == 2


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (
            {"exclude": [{"task.kye": "a"}]},
            r"r\.yaml: sweep\.exclude\.0: no axis sets 'task\.kye' \(did you mean 'task",
        ),
        ({"exclude": [{"task.key": "c"}]}, r"exclude\.0: no point has task\.key=c; there are a, b"),
        ({"exclude": [{"task.key": "a"}, {"task.key": ["a", "d"]}]}, r"exclude\.1: no point has task\.key=d"),
        ({"exclude": [{"task.key": "b", "other.x": 1}]}, r"exclude\.0: no axis sets 'other\.x'"),
        ({"exclude": [{}]}, r"exclude\.0: empty"),
        ({"exclude": [{"task.key": ["a", "b"]}]}, "all 4 points are left out"),
        ({"only": {"seed": 1, "task.key": "e"}}, r"sweep\.only: no point has task\.key=e"),
        ({"exclude": [{"seed": True}]}, "no point has seed=True"),
    ],
)
def test_conditions_that_meet_nothing_are_named(sweep: dict[str, Any], message: str) -> None:
    settings = SweepSettings(axes=[{"task.key": ["a", "b"]}, {"seed": [1, 2]}], **sweep)
    with pytest.raises(UsageError, match=message) as error:
        expand(settings, "r.yaml")
    assert "\n" not in str(error.value)


def test_a_condition_whose_parts_never_meet_is_named() -> None:
    axes = [{"a": [1, 2], "b": [3, 4]}]
    with pytest.raises(UsageError, match=r"sweep\.exclude\.0: no point meets all of \{'a': 1, 'b': 4\}"):
        points(axes=axes, exclude=[{"a": 1, "b": 4}])


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ([{"method": ["ft", "ftcot"]}], r"no method 'ftcot' \(did you mean 'ft_cot'\?\)"),
        ([{"seed": [1]}, {"seed": [2]}], "two axes set 'seed'"),
        ([{"seed": []}], "not empty"),
    ],
)
def test_axes_that_cannot_be(axes: list[dict[str, list[Any]]], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        SweepSettings(axes=axes)
