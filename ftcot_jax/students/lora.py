"""Low-rank adaptation (arXiv:2106.09685) of any family's linear maps, and adapters in the PEFT layout.

An adapted map computes ``x W + (alpha / rank) x A B`` with W frozen, so neither W's gradient nor a merged copy of
it exists, and the slots of a sweep share one W. B starts at zero: an untrained adapter changes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from ftcot_jax.errors import UsageError
from ftcot_jax.students.family import Lora, Params, Stored
from ftcot_jax.students.layers import Linear, LowRank
from ftcot_jax.students.leaf_paths import by_path
from ftcot_jax.students.safetensors_file import write_safetensors

if TYPE_CHECKING:
    from ftcot_jax.students.student import Student

_KERNEL = "/kernel"
_A, _B = "/lora/a", "/lora/b"


@dataclasses.dataclass(frozen=True)
class Adapted:
    """One adapted map: its path among the params, and its module's name on disk (see `Stored`)."""

    path: str
    module: str
    stacked: bool


def adapted(stored: Mapping[str, Stored], layers: Mapping[str, int], lora: Lora) -> list[Adapted]:
    """Returns the linear maps that the settings' pattern chooses.

    Args:
      stored: parameter path -> its place on disk.
      layers: parameter path -> how many layers are stacked in it.
      lora: gives the pattern, searched in each module's name.

    Raises:
      UsageError: the pattern is not one, chooses nothing, or some layers of a stack and not others.
    """
    try:
        pattern = re.compile(lora.targets)
    except re.error as error:
        raise UsageError(f"student.lora.targets: {lora.targets!r} is not a regular expression ({error})") from error
    chosen, modules = [], []
    for path, place in stored.items():
        if not path.endswith(_KERNEL):
            continue
        module = place.name.removesuffix(".weight")
        modules.append(module.format(layer=0))
        numbers = range(layers[path]) if place.stacked else range(1)
        matches = [pattern.search(module.format(layer=number)) is not None for number in numbers]
        if any(matches) and not all(matches):
            raise UsageError(
                f"student.lora.targets: {lora.targets!r} chooses {module.format(layer=matches.index(True))} and not "
                f"{module.format(layer=matches.index(False))}; layers are adapted alike, so choose all of a kind"
            )
        if all(matches):
            chosen.append(Adapted(path.removesuffix(_KERNEL), module, place.stacked))
    if not chosen:
        raise UsageError(f"student.lora.targets: {lora.targets!r} is in no name of a linear map, as {modules[0]} is")
    return chosen


def add_adapters(module: nnx.Module, chosen: list[Adapted], lora: Lora, key: jax.Array) -> None:
    """Gives the chosen linear maps of a family's module an adapter each."""
    for number, target in enumerate(chosen):
        linear: Any = module
        for name in target.path.split("/"):
            linear = getattr(linear, name)
        assert isinstance(linear, Linear)
        linear.lora = LowRank(
            linear.kernel.shape,
            linear.contracted,
            target.stacked,
            lora.rank,
            lora.scale,
            jax.random.fold_in(key, number),
        )


def split(params: Params) -> tuple[Params, Params]:
    """Splits nested params into those without the adapters, and the adapters alone."""
    frozen: dict[str, Any] = {}
    adapters: dict[str, Any] = {}
    for name, child in params.items():
        if name == "lora":
            adapters[name] = child
        elif isinstance(child, Mapping):
            base, own = split(child)
            frozen[name] = base
            if own:
                adapters[name] = own
        else:
            frozen[name] = child
    return frozen, adapters


def join(frozen: Params, adapters: Params) -> Params:
    """Undoes `split`."""
    both = dict(frozen)
    for name, child in adapters.items():
        both[name] = child if name == "lora" else join(frozen[name], child)
    return both


def merged(path: str, leaves: Mapping[str, Any], lora: Lora | None) -> np.ndarray:
    """Returns one float32 parameter on the host, its adapter, if it has one, added in.

    Args:
      path: of the parameter.
      leaves: all parameters by path.
      lora: the student's.
    """
    weight = np.asarray(jax.device_get(leaves[path]))
    module = path.removesuffix(_KERNEL)
    if lora is None or module + _A not in leaves:
        return weight
    a, b = (np.asarray(jax.device_get(leaves[module + part]), np.float64) for part in (_A, _B))
    stacked = a.ndim + b.ndim == weight.ndim + 3  # both have the rank's axis, and the layers'
    flat = (a.shape[0],) if stacked else ()
    delta = a.reshape(*flat, -1, lora.rank) @ b.reshape(*flat, lora.rank, -1)
    return (weight + lora.scale * delta.reshape(weight.shape)).astype(np.float32)


def save_adapter(student: Student, params: Params, folder: Path, base: str) -> None:
    """Writes the adapters as the `peft` package does: adapter_config.json, adapter_model.safetensors.

    Args:
      student: whose; it has `lora`.
      params: its params, or the adapters alone.
      folder: made if need be.
      base: the base model's folder or hub name, which the config records.
    """

    lora, chosen = student.compute.lora, student.adapted
    assert lora is not None
    leaves = by_path(params)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(_on_disk(chosen, leaves, lora.rank))
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    write_safetensors(folder / "adapter_model.safetensors", iter(tensors.items()), shapes)
    transposed = student.stored[chosen[0].path + _KERNEL].transposed
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if student.kind == "decoder" else "SEQ_2_SEQ_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": not transposed,
        "target_modules": sorted({name.split(".lora_")[0].removeprefix(_PREFIX) for name in tensors}),
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


_PREFIX = "base_model.model."


def _on_disk(chosen: list[Adapted], leaves: Mapping[str, Any], rank: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each adapter's tensors: A as (rank, inputs), B as (outputs, rank)."""
    for target in chosen:
        a, b = (np.asarray(jax.device_get(leaves[target.path + part]), np.float32) for part in (_A, _B))
        for layer in range(a.shape[0] if target.stacked else 1):
            name = _PREFIX + target.module.format(layer=layer)
            one_a, one_b = (a[layer], b[layer]) if target.stacked else (a, b)
            yield f"{name}.lora_A.weight", np.ascontiguousarray(one_a.reshape(-1, rank).T)
            yield f"{name}.lora_B.weight", np.ascontiguousarray(one_b.reshape(rank, -1).T)
