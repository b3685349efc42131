"""Weights of a Hugging Face folder: finding the tensors, checking them against the student, reading them.

Reading goes parameter by parameter and, with shardings, shard by shard: each host touches only the bytes its
devices hold.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ftcot_jax.errors import FtcotError
from ftcot_jax.students.family import Family, Stored
from ftcot_jax.students.safetensors_file import forget, read_safetensors

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_EMBEDDINGS = ("shared.weight", "model.embed_tokens.weight", "transformer.wte.weight", "wte.weight")
_SAMPLE = 1 << 16
_SAMPLES = 64

Index = tuple[slice, ...]


def weight_files(folder: Path) -> list[Path]:
    """Returns the safetensors files of a folder, in order.

    Raises:
      FtcotError: there are none, or the index names one that is missing.
    """
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise FtcotError(f"{folder / INDEX}: not a safetensors index ({error}); fetch it again") from error
        for name in names:
            if not (folder / name).is_file():
                raise FtcotError(f"{folder}: {INDEX} names {name}, which is missing; fetch it again")
        return [folder / name for name in names]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    pickled = next(folder.glob("*.bin"), None)
    hint = f"; {pickled.name} is a pickle, save it again as safetensors" if pickled else ""
    raise FtcotError(f"{folder}: no {SINGLE} and no {INDEX}{hint}")


def open_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Returns every tensor of the folder's weight files as a memory-mapped view."""
    tensors: dict[str, np.ndarray] = {}
    for path in weight_files(folder):
        tensors.update(read_safetensors(path))
    return tensors


def head_is_tied(folder: Path) -> bool:
    """Whether the folder's weights have no vocabulary projection that differs from the embedding."""
    tensors = open_tensors(folder)
    head = tensors.get("lm_head.weight")
    return head is None or any(np.array_equal(head, tensors[name]) for name in _EMBEDDINGS if name in tensors)


def weights_identity(folder: Path) -> str:
    """Returns a digest of the weight files: their sizes, and 64 blocks of 64 KiB spread over each.

    Training changes every block, so samples tell checkpoints apart at a fraction of the reading, and unlike
    modification times they agree between machines.
    """
    digest = hashlib.sha256()
    for path in weight_files(folder):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size};".encode())
        with path.open("rb") as file:
            for start in np.unique(np.linspace(0, max(size - _SAMPLE, 0), _SAMPLES, dtype=np.int64)):
                file.seek(int(start))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def match_tensors(
    where: str,
    tensors: Mapping[str, np.ndarray],
    family: Family,
    stored: Mapping[str, Stored],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, list[np.ndarray]]:
    """Finds each parameter's tensors: one, or one a layer.

    Args:
      where: the folder, for messages.
      tensors: name -> array of the whole checkpoint.
      family: gives the names to ignore and the prefixes that may be absent.
      stored: parameter path -> its place on disk.
      shapes: parameter path -> shape, with the layer axis first where stacked.

    Raises:
      FtcotError: tensors are missing, left over, or of another shape; the message names the first.
    """
    found: dict[str, list[np.ndarray]] = {}
    missing, misshapen, used = [], [], set()
    for path, place in stored.items():
        shape = shapes[path]
        layers = range(shape[0]) if place.stacked else range(1)
        wanted = place.shape(shape[1:] if place.stacked else shape)
        found[path] = []
        for layer in layers:
            name = _present(place.name.format(layer=layer), tensors, family.prefixes)
            if name not in tensors:
                missing.append(name)
                continue
            used.add(name)
            if tensors[name].shape != wanted:
                misshapen.append(f"{name} is {list(tensors[name].shape)}, config.json asks for {list(wanted)}")
            found[path].append(tensors[name])
    extra = [
        name for name in tensors if name not in used and not any(re.search(pattern, name) for pattern in family.ignored)
    ]
    if missing or misshapen or extra:
        parts = [
            f"{len(names)} {what} (first: {sorted(names)[0]})"
            for what, names in (("missing", missing), ("of another shape", misshapen), ("unexpected", extra))
            if names
        ]
        raise FtcotError(f"{where}: tensors do not fit the {family.name} student: {', '.join(parts)}")
    return found


def read_parameter(
    tensors: list[np.ndarray], place: Stored, shape: tuple[int, ...], sharding: jax.sharding.Sharding | None
) -> jax.Array:
    """Reads one parameter as float32, whole or shard by shard.

    Args:
      tensors: from `match_tensors`.
      place: how they are stored.
      shape: the parameter's shape.
      sharding: where it goes; None puts it whole on the default device.
    """

    def read(index: Index | None) -> np.ndarray:
        index = index or (slice(None),) * len(shape)
        if not place.stacked:
            return _fetch(tensors[0], place, shape, index)
        chosen = tensors[index[0]]
        own = tuple(len(range(*part.indices(size))) for part, size in zip(index[1:], shape[1:], strict=True))
        out = np.empty((len(chosen), *own), np.float32)
        for layer, tensor in enumerate(chosen):
            out[layer] = _fetch(tensor, place, shape[1:], index[1:])
        return out

    if sharding is None:
        return jax.numpy.asarray(read(None))
    return jax.make_array_from_callback(shape, sharding, read)


def _fetch(tensor: np.ndarray, place: Stored, shape: tuple[int, ...], index: Index) -> np.ndarray:
    """Reads one tensor's part as float32, and lets go of the file's pages it came from."""
    part = np.array(_in_our_layout(tensor, place, shape)[index], np.float32)
    forget(tensor)
    return part


def to_disk_layout(parameter: np.ndarray, place: Stored) -> np.ndarray:
    """Lays one parameter (one layer's part) out as the checkpoint stores it."""
    shape = place.shape(parameter.shape)
    if place.inputs is None or not place.transposed:
        return parameter.reshape(shape)
    axes = list(range(parameter.ndim))
    return parameter.transpose(axes[place.inputs :] + axes[: place.inputs]).reshape(shape)


def _in_our_layout(tensor: np.ndarray, place: Stored, shape: tuple[int, ...]) -> np.ndarray:
    """A view of the stored tensor in the parameter's axes; nothing is read yet."""
    if place.inputs is None or not place.transposed:
        return tensor.reshape(shape)
    outputs = len(shape) - place.inputs
    view = tensor.reshape(shape[place.inputs :] + shape[: place.inputs])
    axes = list(range(len(shape)))
    return view.transpose(axes[outputs:] + axes[:outputs])


def _present(name: str, tensors: Mapping[str, Any], prefixes: tuple[str, ...]) -> str:
    """The name under which the checkpoint has the tensor: with or without an optional prefix."""
    if name not in tensors:
        for prefix in prefixes:
            if name.startswith(prefix) and name[len(prefix) :] in tensors:
                return name[len(prefix) :]
    return name
