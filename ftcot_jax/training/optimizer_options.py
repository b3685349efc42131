"""Which optimizers a recipe may name, and which of their options are data and which are compiled in.

The one place that decides it: an option that is a number by its nature (a decay, an epsilon) is data, so that one
program serves a grid over it. A switch, a count, a dtype or an absent number changes the computation itself: it is
static, and trials that differ in it are trained by different programs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ftcot_jax.errors import nearest

OPTIMIZERS = (
    *("adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad"),
    *("fromage", "lamb", "lars", "lion", "nadam", "nadamw", "novograd", "radam", "rmsprop", "sgd", "sign_sgd"),
    *("signum", "sm3", "yogi"),
)
"""Those of optax's that need the gradient alone (no line search, no loss value) and no full batch (rprop)."""

Option = bool | int | float | str | None
# Options that most optimizers have: their names in a recipe and optax's. (Adafactor's weight_decay_rate is not one:
# the learning rate does not scale it.)
_NAMED = {"weight_decay": "weight_decay", "beta1": "b1", "beta2": "b2", "epsilon": "eps"}
_PAPER = {"adamw": {"weight_decay": 0.01}}  # PyTorch's default, where optax's is 0.0001
_DTYPES = ("float32", "bfloat16", "float16")


class Optimizer(NamedTuple):
    """What is compiled: the optimizer's name, and its static options by name."""

    name: str
    static: tuple[tuple[str, Option], ...]


def optimizer_options(
    name: str, named: Mapping[str, float | None], options: Mapping[str, Option]
) -> tuple[Optimizer, dict[str, float]]:
    """Returns the static part of an optimizer, and every option of it that is data.

    Args:
      name: one of `OPTIMIZERS`.
      named: weight_decay, beta1, beta2, epsilon; None for the optimizer's own.
      options: others, by optax's names.

    Raises:
      ValueError: an option that the optimizer has not, or a value that is not of its kind.
    """
    taken = _parameters(name)
    given: dict[str, Option] = {**_PAPER.get(name, {})}
    for key, number in named.items():
        if number is not None:
            if _NAMED[key] not in taken:
                raise ValueError(f"{key}: {name} has no {key}; leave it out")
            given[_NAMED[key]] = number
    for key, value in options.items():
        shared = next((ours for ours, optaxes in _NAMED.items() if key in (ours, optaxes)), None)
        if shared is not None:
            raise ValueError(f"optimizer_options.{key}: write it as train.{shared}")
        if key not in taken:
            raise ValueError(f"optimizer_options: {name} has no option '{key}'{nearest(key, taken)}")
        given[key] = _checked(name, key, value, taken[key])
    static: dict[str, Option] = {}
    data: dict[str, float] = {}
    for key, default in taken.items():
        chosen = given.get(key, default)
        if isinstance(chosen, float):
            data[key] = chosen
        elif key in given:
            static[key] = chosen
    return Optimizer(name, tuple(sorted(static.items()))), data


def optimizer_function(name: str) -> Callable[..., Any]:
    """Optax's function of the learning rate and the options."""
    import optax  # late, so that reading a recipe does not start jax

    return getattr(optax, name)


def _parameters(name: str) -> dict[str, Any]:
    """Options a recipe can set, with their defaults. A mask is a function of the parameters and cannot be written."""
    parameters = inspect.signature(optimizer_function(name)).parameters
    return {key: p.default for key, p in parameters.items() if key != "learning_rate" and not key.endswith("mask")}


def _checked(name: str, key: str, value: Option, default: Any) -> Option:
    """The value as the kind the option's default tells, None where it may be absent."""
    where = f"optimizer_options.{key}"
    if key.endswith("dtype") or key.startswith("dtype"):
        if value not in _DTYPES:
            raise ValueError(f"{where}: {name} takes one of {', '.join(_DTYPES)}, got {value!r}")
        return value
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{where}: {name} takes true or false, got {value!r}")
        return value
    if isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{where}: {name} takes a whole number, got {value!r}")
        return value
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)  # YAML reads 1e-4 as text
    except (TypeError, ValueError):
        raise ValueError(f"{where}: {name} takes a number, got {value!r}") from None
