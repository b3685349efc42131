"""A trial, and who is told what happens to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
      looks: steps after which `Listener.look` is called; 0 is before training.
    """

    key: str
    name: str
    data: TrialData
    hyper: Hyper
    steps: int
    initial: Callable[[], Params]
    looks: frozenset[int]


class Listener(Protocol):
    """Told what happens to trials; `params` are one trial's trained ones, on the device.

    Of several processes only process 0 hears of looks and ends, with params in its memory, while the others wait.
    """

    def look(self, trial: Trial, step: int, params: Params) -> None: ...

    def finished(self, trial: Trial, params: Params, summary: dict[str, Any]) -> None: ...

    def failed(self, trial: Trial, reason: str) -> None: ...

    def progress(self, trial: Trial, step: int, row: dict[str, Any]) -> None: ...
