"""Optimizers and schedules: with every number as data they compute what optax computes with constants."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pydantic
import pytest

from ftcot_jax.training.optimizer import Hyper, learning_rate, transformation
from ftcot_jax.training.optimizer_options import OPTIMIZERS
from ftcot_jax.training.settings import TrainSettings

STEPS = 5
rng = np.random.default_rng(0)
PARAMS = {
    "w": jnp.asarray(rng.normal(size=(3, 130, 4)), jnp.float32),
    "b": jnp.asarray(rng.normal(size=7), jnp.float32),
}
GRADIENTS = [jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), PARAMS) for _ in range(STEPS)]


@jax.jit
def ours(hyper: Hyper, step: jax.Array, moments: Any, gradients: Any, params: Any) -> tuple[Any, Any]:
    updates, moments = transformation(hyper, step).update(gradients, moments, params)
    return optax.apply_updates(params, updates), moments


def train(settings: TrainSettings) -> Any:
    hyper, params = jax.tree.map(jnp.asarray, Hyper.of(settings, STEPS)), PARAMS
    moments = transformation(hyper, jnp.int32(0)).init(params)
    for step, gradients in enumerate(GRADIENTS):
        params, moments = ours(hyper, jnp.int32(step), moments, gradients, params)
    return params


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # by name: as in a recipe, and as optax takes them
    "adamw": ({"beta2": 0.95, "weight_decay": 0.1}, {"b2": 0.95, "weight_decay": 0.1}),
    "sgd": ({"optimizer_options": {"momentum": 0.8, "nesterov": True}}, {"momentum": 0.8, "nesterov": True}),
    "lion": (
        {"weight_decay": 0.2, "optimizer_options": {"mu_dtype": "bfloat16"}},
        {"weight_decay": 0.2, "mu_dtype": "bfloat16"},
    ),
    "adafactor": (
        {"optimizer_options": {"min_dim_size_to_factor": 3, "clipping_threshold": None, "momentum": "5e-1"}},
        {"min_dim_size_to_factor": 3, "clipping_threshold": None, "momentum": 0.5},
    ),
    "lamb": ({"beta1": 0.8, "epsilon": 1e-3}, {"b1": 0.8, "eps": 1e-3}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_by_name_is_optaxs(name: str) -> None:
    recipe, options = OPTIONS.get(name, ({}, {}))
    schedule: Any = "constant" if name == "sm3" else "cosine"  # optax's sm3 alone takes no schedule
    settings = TrainSettings(optimizer=name, learning_rate=0.02, clip_norm=3.0, schedule=schedule, **recipe)
    rate: Any = 0.02 if name == "sm3" else optax.cosine_decay_schedule(0.02, STEPS)
    theirs: Any = optax.chain(optax.clip_by_global_norm(3.0), getattr(optax, name)(rate, **options))
    params, moments = PARAMS, theirs.init(PARAMS)
    update = jax.jit(theirs.update)
    for gradients in GRADIENTS:
        updates, moments = update(gradients, moments, params)
        params = optax.apply_updates(params, updates)
    assert float(jnp.abs(params["w"] - PARAMS["w"]).max()) > 1e-6
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), train(settings), params)


def test_numbers_are_data_and_switches_are_compiled() -> None:
    before = ours._cache_size()
    base = {"optimizer": "adamw", "learning_rate": 0.01}
    numbers = {"weight_decay": 0.3, "beta1": 0.5, "epsilon": 1e-3, "clip_norm": 0.1, "schedule": "linear"}
    first, second = train(TrainSettings(**base)), train(TrainSettings(**base, **numbers, warmup_fraction=0.4))
    assert ours._cache_size() <= before + 1
    assert float(jnp.abs(first["w"] - second["w"]).max()) > 1e-3
    again = ours._cache_size()
    third = train(TrainSettings(**base, optimizer_options={"nesterov": True}))
    assert ours._cache_size() == again + 1
    assert float(jnp.abs(first["w"] - third["w"]).max()) > 1e-4


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({"weight_decay": 0.3, "beta1": 0.5, "schedule": "linear", "clip_norm": 1.0, "seed": 4}, True),
        ({"optimizer_options": {"eps_root": 1e-3}}, True),
        ({"optimizer": "adam"}, False),
        ({"optimizer_options": {"nesterov": True}}, False),
        ({"optimizer_options": {"mu_dtype": "bfloat16"}}, False),
    ],
)
def test_trials_share_a_program_if_their_states_have_one_structure(change: dict[str, Any], shared: bool) -> None:
    """What groups trials into pools tells the same apart as jit does."""
    base, other = TrainSettings(), TrainSettings(**change)
    programs = [(parts[0], sorted(parts[1])) for parts in (base.optimizer_parts, other.optimizer_parts)]
    structures = [jax.tree.structure(Hyper.of(settings, 5)) for settings in (base, other)]
    assert (programs[0] == programs[1]) == (structures[0] == structures[1]) == shared


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": "adamww"}, "no such optimizer (did you mean 'adamw'?); optax's are adabelief, "),
        ({"optimizer": "sgd", "beta1": 0.9}, "beta1: sgd has no beta1; leave it out"),
        (
            {"optimizer": "sgd", "optimizer_options": {"momentun": 0.9}},
            "optimizer_options: sgd has no option 'momentun' (did you mean 'momentum'?)",
        ),
        ({"optimizer_options": {"b1": 0.9}}, "optimizer_options.b1: write it as train.beta1"),
        ({"optimizer_options": {"mask": True}}, "optimizer_options: adamw has no option 'mask'"),
        ({"optimizer_options": {"nesterov": 1}}, "optimizer_options.nesterov: adamw takes true or false, got 1"),
        ({"optimizer_options": {"eps_root": "x"}}, "optimizer_options.eps_root: adamw takes a number, got 'x'"),
        (
            {"optimizer_options": {"mu_dtype": "int8"}},
            "optimizer_options.mu_dtype: adamw takes one of float32, bfloat16, float16, got 'int8'",
        ),
        (
            {"optimizer": "adafactor", "optimizer_options": {"min_dim_size_to_factor": 2.5}},
            "optimizer_options.min_dim_size_to_factor: adafactor takes a whole number, got 2.5",
        ),
    ],
)
def test_a_wrong_option_is_one_clear_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=re.escape(message)) as raised:
        TrainSettings(**given)
    assert "\n" not in raised.value.errors()[0]["msg"]


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedules_are_optaxs(schedule: Any, warmup: int) -> None:
    steps, peak = 30, 0.3
    settings = TrainSettings(learning_rate=peak, schedule=schedule, warmup_fraction=warmup / steps)
    hyper = Hyper.of(settings, steps)
    rates = jax.vmap(lambda step: learning_rate(hyper, step))(jnp.arange(steps))
    decay = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, 0, steps - warmup),
        "cosine": optax.cosine_decay_schedule(peak, steps - warmup),
    }[schedule]
    rise = optax.linear_schedule(peak / max(warmup, 1), peak, warmup - 1)  # the first step is not wasted on a rate of 0
    expected = optax.join_schedules([rise, decay], [warmup]) if warmup else decay
    np.testing.assert_allclose(rates, [expected(step) for step in range(steps)], rtol=1e-5, atol=1e-7)
