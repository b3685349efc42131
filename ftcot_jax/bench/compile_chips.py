"""The devices of a pod that is not here, and what each can do."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from ftcot_jax.accelerator import accelerator
from ftcot_jax.errors import FtcotError, UsageError, nearest

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one device has, from its maker's data sheet; `training.flops.peak_flops` knows its arithmetic.

    Attributes:
      memory: bytes of main memory, of which the compiler keeps a little for itself.
      bandwidth: bytes a second to and from it.
      interconnect: bytes a second from other chips, over all its links.
      example: the shape of a small pod of it; all its pods have as many sides.
      most: chips in its largest pod.
    """

    memory: float
    bandwidth: float
    interconnect: float
    example: str
    most: int


# https://cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e: the pages give interconnect in Gbit/s a chip.
CHIPS = {
    "v4": Chip(32 * GIB, 1.2e12, 2400e9 / 8, "2x2x4", 4096),
    "v5e": Chip(16 * GIB, 0.819e12, 1600e9 / 8, "4x4", 256),
    "v5p": Chip(95 * GIB, 2.765e12, 4800e9 / 8, "4x4x4", 8960),
    "v6e": Chip(32 * GIB, 1.64e12, 3584e9 / 8, "4x4", 256),
}
_EXAMPLES = "v5e:4x4, v5e:16x16, v6e:16x16, v4:2x2x4, v5p:4x4x4, cpu:8, gpu:8"


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices to compile for.

    Attributes:
      name: as the user gave it.
      devices: in the order in which a mesh takes them.
      chip: what each can do; None where nobody said (a CPU, a GPU).
    """

    name: str
    devices: Sequence[Any]
    chip: Chip | None

    @property
    def platform(self) -> str:
        return str(self.devices[0].platform)


def find_topology(name: str) -> Topology:
    """The topology of this name: a kind of chip and its shape, such as v5e:16x16, or cpu:8.

    Raises:
      UsageError: no such name.
      FtcotError: this machine cannot compile for it.
    """
    kind, colon, shape = name.partition(":")
    if not colon or not shape:
        raise UsageError(f"--topology {name}: give a chip and its shape: {_EXAMPLES}")
    if kind in ("cpu", "gpu"):
        if not shape.isdigit() or int(shape) < 1:
            raise UsageError(f"--topology {name}: after '{kind}:' comes how many devices, as in {kind}:8")
        return Topology(name, _cpus(int(shape)) if kind == "cpu" else _gpus(int(shape)), None)
    if kind.lower() in ("v7x", "tpu7x"):
        raise UsageError(
            f"--topology {name}: ftcot has no data sheet of TPU7x, so nothing can be said of it; it is rented through "
            f"GKE only (tpu_scripts/gke.sh, xpk.sh). There are {_EXAMPLES}"
        )
    if kind not in CHIPS:
        raise UsageError(f"--topology {name}: no such chip '{kind}'{nearest(kind, CHIPS)}; there are {_EXAMPLES}")
    return Topology(name, _tpus(kind, shape), CHIPS[kind])


def _cpus(count: int) -> list[Any]:
    """Virtual devices of this machine's CPU; they must be asked for before jax starts."""
    with contextlib.suppress(RuntimeError):  # jax has started: there are as many as there are
        jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise FtcotError(
            f"--topology cpu:{count}: jax has started with {len(devices)} CPU devices; set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        )
    return devices[:count]


def _gpus(count: int) -> list[Any]:
    try:
        devices = jax.devices("gpu")
    except RuntimeError:
        devices = []
    if len(devices) < count:
        raise FtcotError(
            f"--topology gpu:{count}: XLA compiles for GPUs only where they are, and tunes on them; this machine has "
            f"{len(devices)} that jax can use. Run it on the GPU host, with the cuda extra"
        )
    return devices[:count]


def _tpus(kind: str, shape: str) -> list[Any]:
    name, chip = f"{kind}:{shape}", CHIPS[kind]
    sides = [int(side) for side in shape.split("x") if side.isdigit()]
    if len(sides) != chip.example.count("x") + 1 or "x".join(map(str, sides)) != shape or math.prod(sides) > chip.most:
        raise UsageError(f"--topology {name}: a {kind} pod is like {kind}:{chip.example}, of at most {chip.most} chips")
    if importlib.util.find_spec("libtpu") is None:  # jax's own message is long
        raise FtcotError(
            f"--topology {name}: the TPU's compiler is not installed; pip install 'ftcot_jax[tpu]' brings it"
        )
    from jax.experimental import topologies

    try:
        # Both cores of a v4 chip are one device, as on its own hosts; later chips say so by themselves.
        more: dict[str, Any] = {"chip_config_name": "megacore"} if kind == "v4" else {}
        if sides == [1, 1]:
            more["chips_per_host_bounds"] = [1, 1, 1]  # a machine with a single chip; else libtpu takes four
        with _as_a_compiler():
            return list(topologies.get_topology_desc(platform="tpu", topology_name=name, **more).devices)
    except Exception as error:  # the plug-in raises jax's runtime error for each of many reasons
        said = " ".join(str(error).split())[:200]
        if "lockfile" in said or "already in use" in said:
            raise FtcotError(
                f"--topology {name}: another process on this machine uses its TPU; wait for it, or compile elsewhere"
            ) from error
        raise UsageError(f"--topology {name}: there is no such pod ({said}); try one of {_EXAMPLES}") from error


# What libtpu reads when it is loaded. Without these it asks the cloud's metadata server, for minutes, which machine it
# is on, complains of every answer it does not get, and lets one process a machine load it.
_COMPILER = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_HOST_BOUNDS": "1,1,1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
}


@contextlib.contextmanager
def _as_a_compiler() -> Iterator[None]:
    """Loads libtpu to compile only, where there is no TPU that it could start."""
    added = (
        {} if accelerator() == "tpu" else {name: value for name, value in _COMPILER.items() if name not in os.environ}
    )
    os.environ |= added
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
