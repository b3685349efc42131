"""Optimizer and schedule with every hyper-parameter as data, so that one program serves a whole grid."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ftcot_jax.training.settings import TrainSettings

SCHEDULES = ("constant", "linear", "cosine")


class Hyper(NamedTuple):
    """One trial's hyper-parameters, scalars on the device; `schedule` indexes `SCHEDULES`, `seed` is of dropout."""

    learning_rate: Any
    weight_decay: Any
    beta1: Any
    beta2: Any
    epsilon: Any
    clip_norm: Any
    schedule: Any
    warmup_steps: Any
    total_steps: Any
    seed: Any

    @classmethod
    def of(cls, settings: TrainSettings, total_steps: int) -> Hyper:
        """The hyper-parameters a trial of `total_steps` optimizer steps runs with, as numpy scalars."""
        return cls(
            learning_rate=np.float32(settings.learning_rate),
            weight_decay=np.float32(settings.weight_decay),
            beta1=np.float32(settings.beta1),
            beta2=np.float32(settings.beta2),
            epsilon=np.float32(settings.epsilon),
            clip_norm=np.float32(np.inf if settings.clip_norm is None else settings.clip_norm),
            schedule=np.int32(SCHEDULES.index(settings.schedule)),
            warmup_steps=np.float32(round(settings.warmup_fraction * total_steps)),
            total_steps=np.float32(total_steps),
            seed=np.uint32((settings.seed or 0) % 2**32),
        )


def learning_rate(hyper: Hyper, step: jax.Array) -> jax.Array:
    """Learning rate of optimizer step `step` (from 0): linear warm-up, then the schedule's decay to zero."""
    done = (step.astype(jnp.float32) - hyper.warmup_steps) / jnp.maximum(hyper.total_steps - hyper.warmup_steps, 1)
    done = jnp.clip(done, 0, 1)
    decay = jnp.stack([jnp.ones_like(done), 1 - done, 0.5 * (1 + jnp.cos(jnp.pi * done))])[hyper.schedule]
    warmup = jnp.minimum((step + 1) / jnp.maximum(hyper.warmup_steps, 1), 1)
    return hyper.learning_rate * jnp.where(hyper.warmup_steps > 0, warmup, 1) * decay


def adamw(hyper: Hyper, step: jax.Array) -> optax.GradientTransformation:
    """AdamW after global-norm clipping, as PyTorch's (decay on every weight, epsilon outside the root)."""
    return optax.chain(
        optax.clip_by_global_norm(hyper.clip_norm),
        optax.adamw(
            learning_rate(hyper, step),
            b1=hyper.beta1,
            b2=hyper.beta2,
            eps=hyper.epsilon,
            weight_decay=hyper.weight_decay,
        ),
    )
