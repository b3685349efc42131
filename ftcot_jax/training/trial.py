"""A trial, and who is told what happens to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from ftcot_jax.records.plan import TrialData
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.step import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """One student to train.

    Attributes:
      key: address of everything that decides the result.
      name: what people call it.
      data: records and their order.
      hyper: the optimizer's numbers.
      steps: optimizer steps.
      initial: makes the initial weights of those that are trained.
      looks: steps on the way after which `Listener.look` is called; 0 is before training.
    """

    key: str
    name: str
    data: TrialData
    hyper: Hyper
    steps: int
    initial: Callable[[], Params]
    looks: frozenset[int]


@dataclasses.dataclass(frozen=True)
class Look:
    """A trial that is due to be looked at: the slot it sits in, and how many steps it has taken."""

    slot: int
    trial: Trial
    step: int


@dataclasses.dataclass(frozen=True)
class Looked:
    """What is to be done after a look: the slots whose weights are to be kept, and those to be stopped early."""

    keep: list[int] = dataclasses.field(default_factory=list)
    stop: list[int] = dataclasses.field(default_factory=list)


class Listener(Protocol):
    """Told what happens to trials; `params` are one trial's trained ones, on the device.

    Of several processes all hear of looks, progress and failures; `keep` and `finished` only process 0, with params
    in its memory, while the others wait.
    """

    def look(self, due: Sequence[Look], params_S: Params) -> Looked:
        """Looks at all trials that are due at one moment, on their way and at their end.

        Args:
          due: the trials; those that have taken all their steps end whatever is said of them.
          params_S: trained params of all slots where the pool has them, every leaf with the slot axis first.

        Returns:
          What is to be done; of several processes process 0 decides.
        """

    def keep(self, trial: Trial, step: int, params: Params) -> None: ...

    def finished(self, trial: Trial, step: int, params: Params, summary: dict[str, Any]) -> None: ...

    def failed(self, trial: Trial, reason: str) -> None: ...

    def progress(self, trial: Trial, step: int, row: dict[str, Any]) -> None: ...


class Gate:
    """Whether this pool may train a trial, where several share a queue. This class is of one alone: it may.

    Of several processes only process 0 asks, and tells the others.
    """

    def admits(self, trial: Trial) -> bool:
        """Whether a trial may be given a slot now; asked right before it is, also of one that goes on."""
        return True

    def lost(self) -> Collection[str]:
        """Keys of trials that were admitted and that another has taken over since; asked before every step."""
        return ()

    def left(self, trial: Trial) -> None:
        """A lost trial has left its slot."""


OPEN = Gate()
