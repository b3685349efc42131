"""XLA's flags for a platform, each with the reason it is set. Few: a flag earns its place by what it changes here.

Flags must be in the environment before jax starts, so launch scripts ask for them:
``XLA_FLAGS="$(python -m ftcot_jax.platform_flags gpu)"``. XLA ends the process at a flag it does not know; each
name here is tried in the tests.

TPU has none. The flags that public recipes set for asynchronous all-gathers (xla_tpu_enable_async_collective_fusion,
xla_tpu_enable_async_collective_fusion_fuse_all_gather, xla_tpu_overlap_compute_collective_tc,
xla_enable_async_all_gather) are what libtpu 0.0.42.1 does anyway: the train step of a llama (3 layers, 512 wide) with
fsdp over 16 chips of v5e, compiled with all of them on and with none set, has the same collectives (105
collective-permutes and all all-gathers while computing, 7 all-reduces, 2 all-to-alls) and needs the same memory; with
all of them off its all-gathers no longer overlap, and nothing else changes but 23 MiB less memory. Students over the
trial axis have no collective at all.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from ftcot_jax.errors import UsageError, nearest


class Flag(NamedTuple):
    """A flag, its value, and why it is set."""

    name: str
    value: str
    reason: str


VARIABLE = {"cpu": "XLA_FLAGS", "gpu": "XLA_FLAGS", "tpu": "LIBTPU_INIT_ARGS"}
FLAGS: dict[str, tuple[Flag, ...]] = {
    "cpu": (),
    "gpu": (
        Flag(
            "xla_gpu_enable_latency_hiding_scheduler",
            "true",
            "starts collectives early, so that gradients are summed (data) and parameters gathered (fsdp) while the "
            "GPU computes; nothing changes on one GPU or over the trial axis",
        ),
    ),
    "tpu": (),
}


def flags_text(platform: str) -> str:
    """The platform's flags as its environment variable (`VARIABLE`) takes them.

    Raises:
      UsageError: no such platform.
    """
    if platform not in FLAGS:
        raise UsageError(f"platform '{platform}': there are {', '.join(FLAGS)}{nearest(platform, FLAGS)}")
    return " ".join(f"--{flag.name}={flag.value}" for flag in FLAGS[platform])


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in FLAGS:
        sys.exit(f"python -m ftcot_jax.platform_flags {'|'.join(FLAGS)}")
    print(flags_text(sys.argv[1]))
