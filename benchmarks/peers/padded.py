"""The reference recipe's batches: every record padded on the left to the longest of the whole set."""

from __future__ import annotations

import dataclasses

import numpy as np

IGNORED = -100  # PyTorch's label of a token without loss


@dataclasses.dataclass(frozen=True)
class Padded:
    """N records as rows of W tokens, all int64.

    Attributes:
      input_ids: (N, W), pads on the left.
      attention_mask: (N, W), 0 on pads.
      position_ids: (N, W), from 0 at each record's first token.
      labels: (N, W), `IGNORED` on pads and prompts.
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    position_ids: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, records: list[np.ndarray], prompt_lengths: np.ndarray, pad: int) -> Padded:
        width = max(map(len, records))
        tokens = np.full((len(records), width), pad, np.int64)
        mask, labels = np.zeros_like(tokens), np.full_like(tokens, IGNORED)
        for number, (record, prompt) in enumerate(zip(records, prompt_lengths.tolist(), strict=True)):
            begin = width - len(record)
            tokens[number, begin:], mask[number, begin:] = record, 1
            labels[number, begin + prompt :] = record[prompt:]
        return cls(tokens, mask, np.maximum(mask.cumsum(1) - 1, 0), labels)
