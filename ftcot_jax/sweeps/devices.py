"""What a device can do and costs: looked up by name, or that of this machine."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict

from ftcot_jax.errors import UsageError, nearest
from ftcot_jax.training.flops import peak_flops, peak_of_kind


class _Row(BaseModel):
    """One line of devices.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: tuple[str, ...]
    memory: float
    bandwidth: float
    price: float
    spot: float


@dataclasses.dataclass(frozen=True)
class Device:
    """One of `count` equal devices.

    Attributes:
      name: for a person.
      backend: jax's name of the platform, such as "cpu" or "tpu".
      count: how many there are.
      peaks: operations a second of one, by dtype; None where nobody knows.
      bandwidth: bytes a second from one's memory; None where nobody knows.
      memory: bytes of one; None where nobody knows.
      price, spot: US dollars a device and hour, on demand and preemptible; None for this machine's own.
    """

    name: str
    backend: str
    count: int
    peaks: Mapping[str, float | None]
    bandwidth: float | None
    memory: float | None
    price: float | None = None
    spot: float | None = None

    def has_kind(self, kind: str) -> bool:
        """Whether jax calls one of these so: `kind` is a device_kind."""
        row = _table().get(self.name)
        return kind == self.name if row is None else any(kind.startswith(known) for known in row.kinds)


def named_device(name: str, count: int = 1) -> Device:
    """A device of the package's table.

    Raises:
      UsageError: it is not in there.
    """
    row = _table().get(name)
    if row is None:
        raise UsageError(f"--device {name}: not known{nearest(name, _table())}; there are {', '.join(_table())}")
    peaks = {dtype: peak_of_kind(row.kinds[0], dtype) for dtype in ("float32", "bfloat16")}
    backend = "tpu" if row.kinds[0].startswith("TPU") else "gpu"
    return Device(name, backend, count, peaks, row.bandwidth * 1e9, row.memory * 2**30, price=row.price, spot=row.spot)


def listed_price(kind: str) -> float | None:
    """US dollars an hour, on demand, of what jax calls `kind`; None where the table has none."""
    return next((row.price for row in _table().values() if any(kind.startswith(known) for known in row.kinds)), None)


def this_machine(devices: Sequence[Any], dtypes: Sequence[str]) -> Device:
    """The devices jax sees here; a CPU's speed is measured, and its virtual devices are one.

    Args:
      devices: from `jax.devices()`.
      dtypes: those whose peak is asked for.
    """
    kind = str(devices[0].device_kind)
    if devices[0].platform != "cpu":
        name = next((name for name, row in _table().items() if any(kind.startswith(one) for one in row.kinds)), None)
        if name is not None:
            return named_device(name, len(devices))
        unknown: dict[str, float | None] = dict.fromkeys(dtypes)
        return Device(kind, devices[0].platform, len(devices), unknown, None, None)
    peaks = {dtype: peak_flops(devices[:1], dtype) for dtype in dtypes}
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return Device(kind, "cpu", 1, peaks, _measured_bandwidth(), memory)


def _measured_bandwidth() -> float:
    """Bytes a second that a sum over 64 MB reads; the fastest of three."""
    values = np.ones(8 * 2**20)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        values.sum()
        best = min(best, time.perf_counter() - began)
    return values.nbytes / best


@functools.cache
def _table() -> dict[str, _Row]:
    text = importlib.resources.files("ftcot_jax.sweeps").joinpath("devices.yaml").read_text(encoding="utf-8")
    return {name: _Row.model_validate(row) for name, row in yaml.safe_load(text).items()}
