"""How much arithmetic a step needs and a device can do: their ratio in time is the model FLOPs utilisation (MFU).

Counted is what the model needs, as in PaLM (arXiv:2204.02311, appendix B) but with attention over the tokens a token
really sees: no padding, no recomputation, and the vocabulary projection at label tokens only. A multiplication and an
addition are two.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_FORWARD = 2  # operations a weight and token, of which the gradient by the input and by the weight take as many each


@dataclasses.dataclass(frozen=True)
class StepFlops:
    """Operations of one optimizer step of one student.

    Attributes:
      text: a token that the decoder reads.
      source: a token that the encoder reads.
      label: a label token, at the vocabulary projection.
      causal: a pair of a decoder's token and one it sees among its own.
      full: a pair of tokens of the encoder.
      cross: a pair of a decoder's token and one of the encoder.
    """

    text: float
    source: float
    label: float
    causal: float
    full: float
    cross: float

    @classmethod
    def of(cls, shapes: Mapping[str, Any], head: Sequence[int]) -> StepFlops:
        """Counts a student's arithmetic.

        Args:
          shapes: its parameters' shapes by path, layers along the first axis; where some are of adapters, only
            those are trained.
          head: (V, E), the vocabulary projection's shape.
        """
        adapters = any("/lora/" in path for path in shapes)
        per = dict.fromkeys(("text", "source", "causal", "full", "cross"), 0.0)
        for path, leaf in shapes.items():
            if not (path.endswith("/kernel") or "/lora/" in path):
                continue
            of_source = path.startswith("encoder/") or "/cross/k/" in path or "/cross/v/" in path
            # A frozen weight needs no gradient of its own; what lies before it does need one by its input.
            passes = 2 if adapters and path.endswith("/kernel") else 3
            per["source" if of_source else "text"] += _FORWARD * passes * float(np.prod(leaf.shape))
            if path.endswith("/o/kernel"):  # (layers, heads, head width, out): scores, and their mean of values
                over = "full" if path.startswith("encoder/") else "cross" if "/cross/" in path else "causal"
                per[over] += 2 * _FORWARD * 3 * float(np.prod(leaf.shape[:-1]))
        return cls(label=_FORWARD * (2 if adapters else 3) * float(np.prod(head)), **per)

    def total(self, lengths_BxP: np.ndarray, label_lengths_B: np.ndarray) -> float:
        """Operations of a step on these records.

        Args:
          lengths_BxP: (B, P) tokens of each part: the text; or what the decoder reads, and what the encoder reads.
          label_lengths_B: (B,) label tokens.
        """
        lengths = lengths_BxP.astype(np.float64)
        text = lengths[:, 0]
        total = self.text * text.sum() + self.label * label_lengths_B.sum()
        total += self.causal * (text * (text + 1) / 2).sum()
        if lengths.shape[1] > 1:
            source = lengths[:, 1]
            total += self.source * source.sum() + self.full * (source**2).sum() + self.cross * (text * source).sum()
        return float(total)


@dataclasses.dataclass(frozen=True)
class Meter:
    """Tells the share of the devices' arithmetic that training uses.

    Attributes:
      step: the student's operations.
      peak: operations a second that all the devices can do; None where nobody knows, and then there is no share.
    """

    step: StepFlops
    peak: float | None


# Dense matrix products, 1e12 a second and device, from the makers' data sheets: bfloat16, and float32 without rounding
# of the inputs. A TPU multiplies float32 in six bfloat16 passes. The first name that the device's begins with counts.
_PEAKS = (
    ("TPU v4", 275, 275 / 6),
    ("TPU v5 lite", 197, 197 / 6),
    ("TPU v5e", 197, 197 / 6),
    ("TPU v5p", 459, 459 / 6),
    ("TPU v5", 459, 459 / 6),
    ("TPU v6 lite", 918, 918 / 6),
    ("TPU v6e", 918, 918 / 6),
    ("NVIDIA A100", 312, 19.5),
    ("NVIDIA H100 PCIe", 756, 51),
    ("NVIDIA H100 80GB", 989, 67),
    ("NVIDIA H200", 989, 67),
)


def peak_flops(devices: Sequence[Any], dtype: str) -> float | None:
    """Operations a second of matrix products on all these devices; None for a kind that is not known.

    A CPU's are measured, once; its virtual devices share what it has.

    Args:
      devices: of one kind.
      dtype: "float32" or "bfloat16".
    """
    first = devices[0]
    if first.platform == "cpu":
        return _measured(first, dtype)
    peak = peak_of_kind(first.device_kind, dtype)
    return None if peak is None else peak * len(devices)


def peak_of_kind(kind: str, dtype: str) -> float | None:
    """As `peak_flops`, of one device that jax calls `kind`; a CPU's is not known."""
    column = 1 if dtype == "bfloat16" else 2
    known = next((row[column] for row in _PEAKS if kind.startswith(str(row[0]))), None)
    return None if known is None else 1e12 * float(known)


def _measured(device: Any, dtype: str, size: int = 768, seconds: float = 0.1) -> float:
    """The fastest of the products that fit the time: others may want the processor too."""
    matrix = jax.device_put(jnp.ones((size, size), dtype), device)
    product = jax.jit(lambda a: a @ a)
    product(matrix).block_until_ready()
    best, until = float("inf"), time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        product(matrix).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
