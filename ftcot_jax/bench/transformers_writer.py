"""The same work done by `transformers` on PyTorch, as the paper's reference code does it. Needs the parity extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftcot_jax.bench.writing_work import LIMIT, Work

BATCH = 32  # as in the reference


class TransformersWriter:
    """A checkpoint in `transformers`, in batches of 32 in the order given.

    A batch's prompts are padded on the left to its longest, and it goes on until its last text has ended: rows that
    have ended are computed all the same, as `generate` does. (The reference pads to the longest prompt of the whole
    test set; that is not held against it here.)

    Args:
      folder: the student in the Hugging Face layout.
      dtype: "float32" or "bfloat16".
    """

    def __init__(self, folder: Path, dtype: str) -> None:
        import torch
        import transformers

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self._model = model.eval().to(self._device)

    @property
    def name(self) -> str:
        import torch
        import transformers

        return f"transformers {transformers.__version__} (torch {torch.__version__}, {self._device})"

    def write(self, work: Work) -> list[list[int]]:
        """Returns the texts."""
        return write_texts(self._model, work)


def write_texts(model: Any, work: Work) -> list[list[int]]:
    """Has a model of `transformers` write each text, as `TransformersWriter` does; it is in evaluation already."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Lengths(StoppingCriteria):
        """Ends each row after its own number of tokens."""

        def __init__(self, width: int, lengths: list[int], device: Any) -> None:
            self._ends = width + torch.tensor(lengths, device=device)

        def __call__(self, tokens: Any, scores: Any, **_: Any) -> Any:
            return self._ends <= tokens.shape[1]

    texts: list[list[int]] = []
    for begin in range(0, len(work.prompts), BATCH):
        prompts, lengths = work.prompts[begin : begin + BATCH], work.lengths[begin : begin + BATCH]
        width = max(map(len, prompts))
        tokens = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            whole = model.generate(
                tokens.to(model.device),
                attention_mask=mask.to(model.device),
                do_sample=False,
                max_length=LIMIT,
                pad_token_id=0,
                eos_token_id=None,
                stopping_criteria=StoppingCriteriaList([Lengths(width, lengths, model.device)]),
            )
        rows = whole[:, width:].tolist()
        texts += [row[:length] for row, length in zip(rows, lengths, strict=True)]
    return texts
