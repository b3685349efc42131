"""The pieces every family is built of: linear maps, norms, and a stack of layers that is scanned.

A module's weights are float32. Each cast happens where the weight is used, to the dtype of the activations
that flow in, so the embedding decides the precision of the whole student.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

Carry = TypeVar("Carry")
Output = TypeVar("Output")
Block = TypeVar("Block", bound=nnx.Module)


class Linear(nnx.Module):
    """A linear map from the last axes of its input, in the layout `inputs + outputs`.

    Args:
      inputs: sizes of the axes contracted, e.g. ``(heads, head_dim)``.
      outputs: sizes of the axes produced.
      bias: whether one is added.
      std: standard deviation of the initial weights; the bias starts at zero.
      rngs: source of the initial weights.
    """

    def __init__(
        self, inputs: tuple[int, ...], outputs: tuple[int, ...], *, bias: bool, std: float, rngs: nnx.Rngs
    ) -> None:
        self.kernel = nnx.Param(normal(rngs, (*inputs, *outputs), std))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.contracted = len(inputs)
        self.lora: LowRank | None = nnx.data(None)  # given to maps that are adapted

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jnp.tensordot(x, self.kernel[...].astype(x.dtype), axes=self.contracted)
        if self.lora is not None:
            y = y + self.lora(x)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class LowRank(nnx.Module):
    """What adaptation adds to a linear map's output: ``scale * (x a) b`` (arXiv:2106.09685).

    Args:
      shape: of the map's kernel.
      contracted: how many axes of the map's input it contracts.
      stacked: whether the kernel has a leading layer axis.
      rank: the width between a and b.
      scale: see above.
      key: of a's initial numbers, uniform as in a torch.nn.Linear; b starts at zero.
    """

    def __init__(
        self, shape: tuple[int, ...], contracted: int, stacked: bool, rank: int, scale: float, key: jax.Array
    ) -> None:
        layers, inputs, outputs = shape[:stacked], shape[stacked:][:contracted], shape[stacked:][contracted:]
        bound = math.prod(inputs) ** -0.5
        self.a = nnx.Param(jax.random.uniform(key, (*layers, *inputs, rank), jnp.float32, -bound, bound))
        self.b = nnx.Param(jnp.zeros((*layers, rank, *outputs)))
        self.contracted, self.scale = contracted, scale

    def __call__(self, x: jax.Array) -> jax.Array:
        narrow = jnp.tensordot(x, self.a[...].astype(x.dtype), axes=self.contracted)
        return self.scale * jnp.tensordot(narrow, self.b[...].astype(x.dtype), axes=1)


class RMSNorm(nnx.Module):
    """Divides by the root mean square over the last axis, in float32, then scales (arXiv:1910.07467)."""

    def __init__(self, size: int, epsilon: float) -> None:
        self.scale = nnx.Param(jnp.ones(size))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        return (wide * jax.lax.rsqrt(mean_square + self.epsilon) * self.scale[...]).astype(x.dtype)


class LayerNorm(nnx.Module):
    """Standardises over the last axis, in float32, then scales and shifts (arXiv:1607.06450)."""

    def __init__(self, size: int, epsilon: float) -> None:
        self.scale = nnx.Param(jnp.ones(size))
        self.bias = nnx.Param(jnp.zeros(size))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(variance + self.epsilon)
        return (normed * self.scale[...] + self.bias[...]).astype(x.dtype)


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], std: float) -> jax.Array:
    """Returns float32 normal numbers of the given standard deviation."""
    return std * jax.random.normal(rngs.params(), shape, jnp.float32)


def stack_layers(make: Callable[[nnx.Rngs], Block], count: int, rngs: nnx.Rngs) -> Block:
    """Makes `count` blocks as one, every weight with a leading layer axis."""
    keys = jax.random.split(rngs.params(), count)
    return nnx.vmap(lambda key: make(nnx.Rngs(params=key)))(keys)


def each_layer(stack: Block | nnx.List[Block], count: int) -> nnx.List[Block]:
    """Returns the stacked blocks one by one; of blocks that are apart already, themselves."""
    if isinstance(stack, nnx.List):
        return stack
    graphdef, weights = nnx.split(stack)
    return nnx.List([nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf[at], weights)) for at in range(count)])  # noqa: B023


def scan_layers(
    stack: Block,
    apply: Callable[[Block, Carry, Any], tuple[Carry, Output]],
    carry: Carry,
    per_layer: Any,
    remat: str,
) -> tuple[Carry, Output]:
    """Runs the stacked blocks one after the other as a single compiled loop.

    Args:
      stack: from `stack_layers`.
      apply: ``(block, carry, its part of per_layer) -> (carry, output)``.
      carry: what flows from layer to layer.
      per_layer: pytree of arrays with a leading layer axis.
      remat: what the backward pass recomputes: as in `StudentSettings`.

    Returns:
      The last carry, and the outputs stacked along a leading layer axis.
    """
    graphdef, weights = nnx.split(stack)

    def step(carry: Carry, layer: tuple[Any, Any]) -> tuple[Carry, Output]:
        return apply(nnx.merge(graphdef, layer[0]), rows_apart(carry), layer[1])

    if remat in _POLICIES:
        # A scan keeps the backward pass's recomputation apart from the forward pass by itself.
        step = jax.checkpoint(step, prevent_cse=False, policy=_POLICIES[remat])
    return jax.lax.scan(step, carry, (weights, per_layer))


# Products, exponentials and sums; activations, masks and norms are cheaper computed again than written and read. Of a
# softmax its exponentials are kept, from which its derivative needs nothing dear, so its scores are not.
_DEAR = frozenset({"dot_general", "exp", "reduce_sum", "rsqrt"})


def _is_dear(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name in _DEAR


_POLICIES: dict[str, Callable[..., bool] | None] = {
    "cheap": _is_dear,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": None,
}

ROW_AXES = ("data", "fsdp")


def rows_apart(activations: Any) -> Any:
    """Keeps rows of activations on the devices that have them: those along the mesh's `data` and `fsdp`.

    Weights are spread over `fsdp` too, by their width. Left alone, XLA may spread activations by their width as the
    weights are, put every row on every device and sum up in each layer; like this, it gathers each layer's weights.
    Nothing is done outside of `jax.sharding.use_abstract_mesh` of a mesh with these axes.

    Args:
      activations: pytree of (rows, ...).
    """
    sizes = dict(jax.sharding.get_abstract_mesh().shape)
    if math.prod(sizes.get(axis, 1) for axis in ROW_AXES) == 1:
        return activations
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec(ROW_AXES)), activations)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
}
"""Activation functions by the names checkpoints' configs use."""
