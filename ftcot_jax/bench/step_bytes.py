"""Bytes of main memory that a train step moves at least, whatever the program."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

# Weights are read forward, backward and by the update, which writes them; gradients and moments are written and read.
_WEIGHT, _GRADIENT, _MOMENT, _FROZEN, _ACTIVATION = 4, 2, 2, 2, 2


@dataclasses.dataclass(frozen=True)
class StepBytes:
    """Bytes of one optimizer step of one student.

    A program for a CPU names every small array that it makes, most of which never leave a cache: its own sum of bytes
    is no bound there (for the quickstart it asks for more than the whole step takes). This is one wherever weights do
    not stay in a cache from one use to the next.

    Attributes:
      state: of weights, their gradients and moments, and what is frozen.
      text: of a token that the decoder reads: each layer's input is written, and read by the backward pass.
      source: of a token that the encoder reads.
    """

    state: float
    text: float
    source: float

    @classmethod
    def of(cls, shapes: Mapping[str, Any], trained: Any, moments: Any, frozen: Any, activations: np.dtype) -> StepBytes:
        """Counts a student's bytes.

        Args:
          shapes: its parameters' shapes by path, layers along the first axis.
          trained: shapes of those that are trained.
          moments: shapes of the optimizer's state.
          frozen: shapes of those that are not trained; None for none.
          activations: their dtype.
        """
        state = (_WEIGHT + _GRADIENT) * _bytes(trained) + _MOMENT * _bytes(moments) + _FROZEN * _bytes(frozen)
        widths = {"text": 0.0, "source": 0.0}
        for path, leaf in shapes.items():
            if path.endswith("/o/kernel") and "/cross/" not in path:  # (layers, heads, head width, width)
                widths["source" if path.startswith("encoder/") else "text"] += leaf.shape[0] * leaf.shape[-1]
        size = _ACTIVATION * activations.itemsize
        return cls(state, size * widths["text"], size * widths["source"])

    def total(self, lengths_BxP: np.ndarray) -> float:
        """Of a step on these records: (B, P) tokens of each part, the text; or what decoder and encoder read."""
        text, *source = lengths_BxP.sum(0).tolist()
        return self.state + self.text * text + self.source * sum(source)


def _bytes(tree: Any) -> float:
    return float(sum(np.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree)))
