"""What PyTorch computes for the cases. Run as a module to write the goldens again:

python -m tests.students.torch_oracle
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.students.cases import CASES, PROMPT_LENGTHS, TEXTS, write_case

GOLDENS = Path(__file__).parent / "goldens"
MAX_LENGTH = 24


def load_torch(folder: Path) -> Any:
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def compute(folder: Path) -> dict[str, np.ndarray]:
    """Logits at every real token, mean label loss, its gradients, and greedy continuations."""
    import torch

    model = load_torch(folder)
    width = max(map(len, TEXTS))
    tokens = torch.tensor([text + [0] * (width - len(text)) for text in TEXTS])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in TEXTS])
    labels = torch.full_like(tokens, -100)
    for row, (text, prompt) in enumerate(zip(TEXTS, PROMPT_LENGTHS, strict=True)):
        labels[row, prompt : len(text)] = tokens[row, prompt : len(text)]
    out = model(tokens, attention_mask=mask, labels=labels)
    out.loss.backward()
    result = {"loss": out.loss.detach().numpy()}
    result["logits"] = torch.cat([out.logits[r, : len(t)] for r, t in enumerate(TEXTS)]).detach().numpy()
    for name, parameter in model.named_parameters():
        result[f"gradient/{name}"] = parameter.grad.numpy()
    for row, (text, prompt) in enumerate(zip(TEXTS, PROMPT_LENGTHS, strict=True)):
        with torch.no_grad():
            whole = model.generate(torch.tensor([text[:prompt]]), max_length=MAX_LENGTH, do_sample=False)
        result[f"greedy/{row}"] = whole[0, prompt:].numpy().astype(np.int32)
    return result


def summarise(full: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same, with each gradient reduced to what `project` keeps, so that goldens stay small."""
    return {name: project(value) if name.startswith("gradient/") else value for name, value in full.items()}


def project(gradient: np.ndarray) -> np.ndarray:
    """Eight random projections of a gradient, each as large as its norm."""
    draw = np.random.Generator(np.random.Philox(gradient.size)).standard_normal((8, gradient.size))
    return (draw @ gradient.ravel().astype(np.float64)).astype(np.float32)


if __name__ == "__main__":
    GOLDENS.mkdir(exist_ok=True)
    for case in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            write_case(case, Path(scratch))
            np.savez_compressed(GOLDENS / f"{case}.npz", **summarise(compute(Path(scratch))))
            print(case)
