"""Flags that exist, each with its reason."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from ftcot_jax.errors import UsageError
from ftcot_jax.platform_flags import FLAGS, VARIABLE, flags_text

# Flags that the module says change nothing: they must at least exist, or the sentence is about nothing.
TRIED_ON_TPU = (
    "--xla_tpu_enable_async_collective_fusion=true --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true "
    "--xla_tpu_overlap_compute_collective_tc=true --xla_enable_async_all_gather=true"
)


def starts(code: str, variable: str, flags: str) -> bool:
    alone = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "true"}
    environment = os.environ | alone | {variable: flags}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0


@pytest.mark.parametrize("platform", [name for name, variable in VARIABLE.items() if variable == "XLA_FLAGS"])
def test_this_jaxlib_knows_them(platform: str) -> None:
    assert starts("import jax; jax.numpy.zeros(1)", VARIABLE[platform], flags_text(platform))


def test_a_flag_that_does_not_exist_would_be_noticed() -> None:
    assert not starts("import jax; jax.numpy.zeros(1)", "XLA_FLAGS", f"{flags_text('gpu')} --xla_gpu_no_such_flag=true")


@pytest.mark.slow
def test_libtpu_knows_them() -> None:
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("the tpu extra brings libtpu")
    code = "from jax.experimental import topologies as t; t.get_topology_desc(platform='tpu', topology_name='v5e:2x2')"
    assert starts(code, "LIBTPU_INIT_ARGS", f"{flags_text('tpu')} {TRIED_ON_TPU}".strip())
    assert not starts(code, "LIBTPU_INIT_ARGS", "--xla_tpu_no_such_flag=true")


def test_each_has_a_reason_and_the_shell_gets_them() -> None:
    assert set(FLAGS) == set(VARIABLE) == {"cpu", "gpu", "tpu"}
    assert all(len(flag.reason) > 40 for flags in FLAGS.values() for flag in flags)
    command = [sys.executable, "-m", "ftcot_jax.platform_flags"]
    done = subprocess.run([*command, "gpu"], capture_output=True, text=True, check=True)
    assert done.stdout == flags_text("gpu") + "\n" == "--xla_gpu_enable_latency_hiding_scheduler=true\n"
    assert subprocess.run([*command, "gpus"], capture_output=True).returncode == 1
    with pytest.raises(UsageError, match="did you mean 'gpu'"):
        flags_text("gpus")
