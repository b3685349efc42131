"""A worker's share: every trial once, about equal, next to each other; and known from whatever starts the worker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftcot_jax.errors import UsageError
from ftcot_jax.sweeps.shares import Share, find_share
from ftcot_jax.training.cluster import find_slice, part_slices


@given(costs=st.lists(st.floats(0, 1e12), max_size=40), count=st.integers(1, 9))
def test_shares_cover_every_trial_once_and_are_fair(costs: list[float], count: int) -> None:
    shares = [Share(number + 1, count).of(costs) for number in range(count)]
    assert [place for share in shares for place in share] == list(range(len(costs)))
    fair = sum(costs) / count + max(costs, default=0) + 1e-3
    assert all(sum(costs[place] for place in share) <= fair * (1 + 1e-9) for share in shares)


def test_costly_trials_make_a_small_share() -> None:
    assert [list(Share(number, 2).of([3, 1, 1, 1])) for number in (1, 2)] == [[0], [1, 2, 3]]
    assert [list(Share(number, 3).of([1, 1])) for number in (1, 2, 3)] == [[0], [], [1]]


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, Share(1, 1)),
        ({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_COUNT": "3"}, Share(3, 3)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "10",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_STEP": "5",
                "SLURM_ARRAY_TASK_COUNT": "4",
            },
            Share(3, 4),
        ),
        ({"JOB_COMPLETION_INDEX": "0", "FTCOT_WORKERS": "8"}, Share(1, 8)),
        ({"JOB_COMPLETION_INDEX": "0"}, Share(1, 1)),
        ({"FTCOT_WORKER": "8", "FTCOT_WORKERS": "8"}, Share(8, 8)),
        ({"MEGASCALE_SLICE_ID": "3", "MEGASCALE_NUM_SLICES": "4"}, Share(4, 4)),
        ({"MEGASCALE_SLICE_ID": "0", "MEGASCALE_NUM_SLICES": "1"}, Share(1, 1)),
    ],
)
def test_who_starts_a_worker_tells_its_share(environment: dict[str, str], share: Share) -> None:
    assert find_share(environment) == share


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "3"}, "has gaps"),
        ({"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "3"}, "say --worker"),
        ({"FTCOT_WORKERS": "8"}, "FTCOT_WORKERS is set and FTCOT_WORKER is not"),
        ({"FTCOT_WORKER": "8"}, "FTCOT_WORKER is set and FTCOT_WORKERS is not"),
        ({"FTCOT_WORKER": "0", "FTCOT_WORKERS": "8"}, "a number from 1"),
        ({"JOB_COMPLETION_INDEX": "8", "FTCOT_WORKERS": "8"}, "a number from 0"),
    ],
)
def test_contradictions_are_said(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_share(environment)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(UsageError, match="give i/n"):
        Share.parse(text)


def test_slices_part() -> None:
    environment = {"MEGASCALE_SLICE_ID": "3", "MEGASCALE_NUM_SLICES": "4", "MEGASCALE_COORDINATOR_ADDRESS": "slice0"}
    part_slices(environment)
    assert find_slice(environment) == (0, 1)
    assert not environment["MEGASCALE_COORDINATOR_ADDRESS"]
