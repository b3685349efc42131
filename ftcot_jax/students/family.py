"""What a family of architectures gives: a module, its tensors' names on disk, and how to shard it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from ftcot_jax.errors import UsageError
from ftcot_jax.students.dropout import Dropout
from ftcot_jax.students.kv_cache import Cache, LayerKV

Config = Any  # a transformers PretrainedConfig: which fields it has depends on its model_type
Params = Any  # nested dict of arrays
Kind = Literal["decoder", "encoder_decoder"]
Rules = Sequence[tuple[str, tuple[str | None, ...]]]

UNLIMITED = 1 << 30  # the context of a student with relative positions only


@dataclasses.dataclass(frozen=True)
class Lora:
    """Which linear maps are adapted, and how; see `LoraSettings`."""

    rank: int
    alpha: float
    targets: str

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a student computes.

    Attributes:
      dtype: of the activations.
      remat: what the backward pass recomputes; "auto", which is "none" until `on` chooses.
      dropout: whether the config's dropout rates count where a caller asks for dropout.
      lora: what is trained instead of the weights; None trains the weights.
      attention: which kernel attends over packed rows.
    """

    dtype: str = "float32"
    remat: str = "auto"
    dropout: bool = True
    lora: Lora | None = None
    attention: str = "xla"

    def on(self, platform: str) -> Compute:
        """The same on devices of a platform, such as "tpu": what was left open is chosen."""
        if self.remat != "auto":
            return self
        elsewhere = "cheap" if self.attention == "xla" else "none"  # another kernel would run twice
        return dataclasses.replace(self, remat="dots" if platform == "tpu" else elsewhere)

    @property
    def activations(self) -> jnp.dtype:
        return jnp.dtype(self.dtype)

    def exact(self) -> AbstractContextManager[Any]:
        """Makes float32 mean float32: GPUs and TPUs would multiply in fewer bits by default.

        Products of bfloat16 are exact in any case, and the compiler of TPU kernels refuses to be asked for more.
        """
        return jax.default_matmul_precision("float32") if self.dtype == "float32" else contextlib.nullcontext()


@dataclasses.dataclass(frozen=True)
class Stored:
    """How one parameter lies in a Hugging Face checkpoint.

    Attributes:
      name: the tensor's name; ``{layer}`` stands for the layer's number when the parameter is stacked.
      inputs: None when the shapes agree. Otherwise the tensor is flattened to (inputs, outputs), the first
        `inputs` axes of the parameter being inputs; with 0 it is a vector of outputs.
      transposed: stored as (outputs, inputs), as torch.nn.Linear does.
    """

    name: str
    inputs: int | None = None
    transposed: bool = False

    @property
    def stacked(self) -> bool:
        return "{layer}" in self.name

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape on disk of a parameter (one layer's part) of this shape."""
        if self.inputs is None:
            return shape
        if self.inputs == 0:
            return (math.prod(shape),)
        sides = (math.prod(shape[: self.inputs]), math.prod(shape[self.inputs :]))
        return sides[::-1] if self.transposed else sides


def linear(name: str, inputs: int = 1) -> Stored:
    """A torch.nn.Linear weight."""
    return Stored(name, inputs, transposed=True)


def bias(name: str) -> Stored:
    """A bias vector, flattened."""
    return Stored(name, 0)


class Writer(Protocol):
    """What every family's module can do to write text; `Student` says what each method means."""

    def head(self) -> jax.Array: ...

    def empty_cache(self, rows: int, length: int, prompt_length: int) -> Cache: ...

    def layers_apart(self) -> None: ...

    def read(self, tokens: jax.Array, length: jax.Array, prefix: tuple[LayerKV, ...]) -> Cache: ...

    def extend(self, cache: Any, tokens: jax.Array, positions: jax.Array) -> tuple[jax.Array, Any]: ...


class Decoder(Writer, Protocol):
    """A decoder-only module."""

    def hidden(
        self,
        tokens: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        reads: jax.Array | None,
        dropout: Dropout | None,
    ) -> jax.Array: ...


class EncoderDecoder(Writer, Protocol):
    """A module that reads the prompt with an encoder."""

    def source_hidden(
        self, tokens: jax.Array, segments: jax.Array, positions: jax.Array, dropout: Dropout | None
    ) -> jax.Array: ...

    def target_hidden(
        self,
        source: jax.Array,
        source_segments: jax.Array,
        source_positions: jax.Array,
        tokens: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        reads: jax.Array,
        dropout: Dropout | None,
    ) -> jax.Array: ...


@dataclasses.dataclass(frozen=True)
class Family:
    """One file's architectures.

    Attributes:
      name: what users call it.
      kind: whether the prompt is read by the decoder itself or by an encoder.
      architectures: the `model_type`s of transformers configs it covers, each with the name that
        transformers and vLLM give the class that computes it.
      check: raises UsageError naming the first config field it cannot honour.
      module: builds the Flax NNX module.
      stored: parameter path -> how it lies on disk.
      ignored: patterns of tensor names that carry no weight of their own.
      prefixes: prefixes of tensor names that some checkpoints leave out.
      sharding_rules: (pattern over the "/"-joined path, mesh axis of each dimension), first match wins.
      context_length: positions the student can take.
    """

    name: str
    kind: Kind
    architectures: Mapping[str, str]
    check: Callable[[Config], None]
    module: Callable[[Config, Compute, nnx.Rngs], nnx.Module]
    stored: Callable[[Config], dict[str, Stored]]
    ignored: tuple[str, ...]
    prefixes: tuple[str, ...]
    sharding_rules: Rules
    context_length: Callable[[Config], int]


def require(config: Config, field: str, allowed: Sequence[Any]) -> None:
    """Raises UsageError unless the config's field is absent or has one of the allowed values."""
    value = getattr(config, field, allowed[0])
    if value not in allowed:
        choices = " or ".join(repr(choice) for choice in allowed)
        raise UsageError(
            f"config field {field}={value!r} of model_type {config.model_type!r} is not supported; it must be {choices}"
        )
