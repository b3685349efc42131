"""Optimizer and schedule with every hyper-parameter as data, so that one program serves a whole grid."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ftcot_jax.training.optimizer_options import Optimizer, optimizer_function
from ftcot_jax.training.settings import TrainSettings

SCHEDULES = ("constant", "linear", "cosine")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["learning_rate", "clip_norm", "schedule", "warmup_steps", "total_steps", "seed", "options"],
    meta_fields=["optimizer"],
)
@dataclasses.dataclass(frozen=True)
class Hyper:
    """One trial's hyper-parameters: scalars on the device, and what of the optimizer is compiled.

    Attributes:
      learning_rate: at its peak.
      clip_norm: infinity where gradients are not clipped.
      schedule: index into `SCHEDULES`.
      warmup_steps: steps of rising learning rate.
      total_steps: steps in all.
      seed: of dropout.
      options: the optimizer's own numbers, by optax's names.
      optimizer: the static part, the same for all trials of a program.
    """

    learning_rate: Any
    clip_norm: Any
    schedule: Any
    warmup_steps: Any
    total_steps: Any
    seed: Any
    options: dict[str, Any]
    optimizer: Optimizer

    @classmethod
    def of(cls, settings: TrainSettings, total_steps: int) -> Hyper:
        """The hyper-parameters a trial of `total_steps` optimizer steps runs with, as numpy scalars."""
        optimizer, options = settings.optimizer_parts
        return cls(
            learning_rate=np.float32(settings.learning_rate),
            clip_norm=np.float32(np.inf if settings.clip_norm is None else settings.clip_norm),
            schedule=np.int32(SCHEDULES.index(settings.schedule)),
            warmup_steps=np.float32(round(settings.warmup_fraction * total_steps)),
            total_steps=np.float32(total_steps),
            seed=np.uint32((settings.seed or 0) % 2**32),
            options={key: np.float32(value) for key, value in options.items()},
            optimizer=optimizer,
        )


def learning_rate(hyper: Hyper, step: jax.Array) -> jax.Array:
    """Learning rate of optimizer step `step` (from 0): linear warm-up, then the schedule's decay to zero."""
    done = (step.astype(jnp.float32) - hyper.warmup_steps) / jnp.maximum(hyper.total_steps - hyper.warmup_steps, 1)
    done = jnp.clip(done, 0, 1)
    decay = jnp.stack([jnp.ones_like(done), 1 - done, 0.5 * (1 + jnp.cos(jnp.pi * done))])[hyper.schedule]
    warmup = jnp.minimum((step + 1) / jnp.maximum(hyper.warmup_steps, 1), 1)
    return hyper.learning_rate * jnp.where(hyper.warmup_steps > 0, warmup, 1) * decay


def transformation(hyper: Hyper, step: jax.Array) -> optax.GradientTransformation:
    """The optimizer of step `step` (from 0), after global-norm clipping."""
    make = optimizer_function(hyper.optimizer.name)
    return optax.chain(
        optax.clip_by_global_norm(hyper.clip_norm),
        make(learning_rate(hyper, step), **hyper.options, **dict(hyper.optimizer.static)),
    )
