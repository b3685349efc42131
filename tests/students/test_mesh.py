"""On eight devices: a checkpoint loads shard by shard, and a sharded student computes what a whole one does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from ftcot_jax.students.student import Student

PROGRAM = """
import re, sys
import jax, numpy as np
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ftcot_jax.generation.generate import generate
from ftcot_jax.students import checkpoint
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings

student = load_student(StudentSettings(checkpoint=sys.argv[1]))
sizes = (1, 1, 4, 2)
mesh = jax.make_mesh(sizes, ("trial", "data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 4)

def sharding(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    axes = next((spec for pattern, spec in student.sharding_rules if re.search(pattern, name)), ())
    axes = [a if a and n % mesh.shape[a] == 0 else None for a, n in zip(axes, leaf.shape)]
    return NamedSharding(mesh, PartitionSpec(*axes))

sharded = student.load(jax.tree_util.tree_map_with_path(sharding, student.shapes))
whole = student.load()
for one, other in zip(jax.tree.leaves(sharded), jax.tree.leaves(whole), strict=True):
    assert np.array_equal(one, other)
split = sum(leaf.addressable_shards[0].data.size for leaf in jax.tree.leaves(sharded))
total = sum(leaf.size for leaf in jax.tree.leaves(whole))
print("share", split / total)

if student.kind == "decoder":
    rows = jnp.arange(3, 35).reshape(2, 16), jnp.ones((2, 16), int), jnp.arange(32).reshape(2, 16) % 16
    run = jax.jit(lambda params: student.hidden(params, *rows))
    np.testing.assert_allclose(run(sharded), run(whole), atol=2e-5)
prompts = [[5, 9, 33, 2], [40, 3], [7, 7, 7]]
assert generate(student, sharded, prompts, max_length=20) == generate(student, whole, prompts, max_length=20)
print("equal")
"""


@pytest.mark.slow
@pytest.mark.parametrize("case", ["llama", "gpt2", "t5"])
def test_eight_devices_equal_one(case: str, written: Callable[[str], Student]) -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(written(case).folder)],
        capture_output=True,
        text=True,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    share, equal = run.stdout.strip().splitlines()
    assert float(share.split()[1]) < 0.4  # the odd shapes leave some dimensions whole
    assert equal == "equal"
