"""Which accelerator this machine has, found without starting jax; and jax started without a TPU that is not there."""

from __future__ import annotations

import importlib.util
from collections.abc import MutableMapping
from pathlib import Path
from typing import Literal

DEVICES = Path("/dev")


def accelerator() -> Literal["tpu", "gpu", "cpu"]:
    """What the machine has, by its device files."""
    if list(DEVICES.glob("accel*")) or (list(DEVICES.glob("vfio/[0-9]*")) and importlib.util.find_spec("libtpu")):
        return "tpu"
    return "gpu" if list(DEVICES.glob("nvidia[0-9]*")) else "cpu"


def leave_out_absent_tpu(environment: MutableMapping[str, str]) -> None:
    """Lets jax use the CPU at once where libtpu is installed to compile (`ftcot compile`, the tests).

    Otherwise every command tries to start a TPU first: five lines of complaint on stderr, and a lock and logs in the
    temporary folder. A choice of the user's, and other accelerators, stay as they are.
    """
    if "JAX_PLATFORMS" in environment or importlib.util.find_spec("libtpu") is None:
        return
    if accelerator() == "cpu" and importlib.util.find_spec("jax_plugins") is None:
        environment["JAX_PLATFORMS"] = "cpu"
