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

    config = transformers.AutoConfig.from_pretrained(folder)
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def pad(texts: list[list[int]], value: int) -> Any:
    import torch

    width = max(map(len, texts))
    return torch.tensor([text + [value] * (width - len(text)) for text in texts])


def compute(folder: Path) -> dict[str, np.ndarray]:
    """Logits at every token of the decoder, mean label loss, its gradients, and greedy continuations."""
    import torch

    model = load_torch(folder)
    prompts = [text[:prompt] for text, prompt in zip(TEXTS, PROMPT_LENGTHS, strict=True)]
    labels = [text[prompt:] for text, prompt in zip(TEXTS, PROMPT_LENGTHS, strict=True)]
    sources = prompts if model.config.is_encoder_decoder else TEXTS
    if not model.config.is_encoder_decoder:
        labels = [[-100] * prompt + rest for prompt, rest in zip(PROMPT_LENGTHS, labels, strict=True)]
    mask = pad([[1] * len(source) for source in sources], 0)
    out = model(pad(sources, 0), attention_mask=mask, labels=pad(labels, -100))
    out.loss.backward()
    result = {"loss": out.loss.detach().numpy()}
    real = [logits[: len(label)] for logits, label in zip(out.logits, labels, strict=True)]
    result["logits"] = torch.cat(real).detach().numpy()
    for name, parameter in model.named_parameters():
        result[f"gradient/{name}"] = parameter.grad.numpy()
    for row, prompt in enumerate(prompts):
        with torch.no_grad():
            # Without the cache: transformers' fails where encoder and decoder differ in depth.
            whole = model.generate(torch.tensor([prompt]), max_length=MAX_LENGTH, do_sample=False, use_cache=False)
        written = whole[0, 1 if model.config.is_encoder_decoder else len(prompt) :]
        result[f"greedy/{row}"] = written.numpy().astype(np.int32)
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
