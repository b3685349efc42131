"""From a student's shapes to seconds and bytes: what training and answering take of a device, reckoned, not run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ftcot_jax.sweeps.devices import Device

# What an accelerator takes at least for a step, and for a token of all rows, however small: calls and kernels' starts.
LEAST_STEP_SECONDS, LEAST_TOKEN_SECONDS = 2e-3, 0.5e-3
# Bytes kept for the backward pass for each value counted: so that XLA's TPU compiler's 3.9 and 2.9 GiB, gradients
# and all, come out for GPT-2 124M with 4 rows of 384 tokens. It keeps more than products' inputs and outputs.
_KEPT_BYTES = {"float32": 9.3, "bfloat16": 6.7}
ITEM_BYTES = {"float32": 4, "bfloat16": 2}


def tree_bytes(shapes: Any) -> int:
    """Bytes of a pytree of arrays or of their shapes."""
    return sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(shapes))


def activation_bytes(
    shapes: Mapping[str, Any], width: int, row_length: float, dtype: str, remat: str, attention: str
) -> float:
    """Bytes that the backward pass keeps of one token, about.

    Counted are each matrix product's input and output, and attention's probabilities before and after the softmax
    where the kernel keeps them; with "cheap" no inputs, and probabilities once.

    Args:
      shapes: the parameters' shapes by path, layers along the first axis.
      width: E of the residual stream.
      row_length: tokens of the rows that attention sees.
      dtype: of the computation.
      remat: as `Student.on` has chosen it; "dots" keeps outputs of products only, "full" each layer's input.
      attention: as student.attention; only "xla" keeps probabilities.
    """
    kept = probabilities = 0.0
    for path, leaf in shapes.items():
        if not path.endswith("/kernel"):
            continue
        layers, other = leaf.shape[0], math.prod(leaf.shape[1:]) / width
        kept += layers * (other if remat in ("cheap", "dots") else other + width)
        if path.endswith("/o/kernel"):
            probabilities += layers * leaf.shape[1] * row_length
            if remat == "full":
                kept += layers * width
    if remat == "full":
        kept /= 8
    times = {"none": 2, "cheap": 1}.get(remat, 0) if attention == "xla" else 0
    return _KEPT_BYTES[dtype] * (kept + times * probabilities)


def training_seconds(flops: float, turns: float, device: Device, dtype: str, utilisation: float) -> float | None:
    """Seconds that all the devices take for operations in `turns` steps; None where their speed is not known."""
    peak = device.peaks.get(dtype)
    if peak is None:
        return None
    least = 0.0 if device.backend == "cpu" else turns * LEAST_STEP_SECONDS
    return max(least, flops / (peak * device.count * utilisation))


def writing_seconds(
    texts: float, tokens: float, rows: int, weights: int, prompt_flops: float, device: Device, dtype: str, share: float
) -> float | None:
    """Seconds that one device takes to write texts; None where its speed is not known.

    Each token of all rows needs the weights once from memory, and two operations a weight and row.

    Args:
      texts: how many.
      tokens: of one, on average.
      rows: written side by side.
      weights: parameters that every token goes through.
      prompt_flops: operations to read one prompt.
      device: where.
      dtype: of the computation.
      share: of the device's bandwidth and arithmetic that is used.
    """
    peak, bandwidth = device.peaks.get(dtype), device.bandwidth
    if peak is None or bandwidth is None:
        return None
    side_by_side = max(1.0, min(rows, texts))
    token = max(ITEM_BYTES[dtype] * weights / bandwidth, 2 * weights * side_by_side / peak) / share
    token = token if device.backend == "cpu" else max(token, LEAST_TOKEN_SECONDS)
    return texts / side_by_side * tokens * token + texts * prompt_flops / peak / share
