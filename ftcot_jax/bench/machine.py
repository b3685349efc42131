"""What the machine at hand can do at most, measured where a benchmark begins: the two terms of its roofline."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SIDE = 2048
_BYTES = 1 << 28  # beyond every cache
_TURNS = 5


@dataclasses.dataclass(frozen=True)
class Machine:
    """The limits of one device (a CPU with all its cores).

    Attributes:
      kind: what jax calls it.
      dtype: of the arithmetic.
      flops: operations a second of a large matrix product.
      bandwidth: bytes of main memory a second, read and written.
    """

    kind: str
    dtype: str
    flops: float
    bandwidth: float

    def __str__(self) -> str:
        return f"{self.flops / 1e9:.0f} GFLOP/s and {self.bandwidth / 1e9:.0f} GB/s"

    @classmethod
    def measure(cls, dtype: str) -> Machine:
        """The best of five large products, and of five passes over 256 MiB, which read and write them in place.

        In place, for a result in new memory is mostly the kernel clearing pages: several times as slow on a CPU.
        """
        side = 2 * _SIDE if jax.default_backend() != "cpu" else _SIDE
        a, b = (jnp.asarray(np.random.default_rng(n).normal(size=(side, side)), dtype) for n in range(2))
        precision = "float32" if dtype == "float32" else None  # as students compute
        product = jax.jit(functools.partial(jnp.matmul, precision=precision))
        add = jax.jit(lambda x: x + 1, donate_argnums=0)
        held = [jnp.zeros(_BYTES // 4, jnp.float32)]

        def add_in_place() -> Any:
            held[0] = add(held[0])
            return held[0]

        return cls(
            kind=jax.devices()[0].device_kind,
            dtype=dtype,
            flops=2 * side**3 / _fastest(lambda: product(a, b)),
            bandwidth=2 * _BYTES / _fastest(add_in_place),
        )

    def seconds(self, flops: float, moved: float) -> float:
        """What so many operations and bytes of main memory take at least, both at once."""
        return max(flops / self.flops, moved / self.bandwidth)


def _fastest(run: Callable[[], Any]) -> float:
    """Seconds; the first run, which compiles, does not count."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(_TURNS):
        began = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - began)
    return min(seconds)
