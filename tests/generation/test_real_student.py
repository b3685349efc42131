"""SmolLM2-135M writes what PyTorch `transformers` writes, token for token, on the 180 test questions of MultiArith."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.generation.generate import generate
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.settings import TaskSettings
from tests.students.torch_oracle import load_torch

NEW_TOKENS = 64


def torch_texts(model: Any, prompts: list[list[int]], eos: int) -> list[list[int]]:
    """Greedy continuations by `generate`, in batches of 36 padded on the left; the end token included."""
    import torch

    texts: dict[int, list[int]] = {}
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    for begin in range(0, len(order), 36):
        numbers = order[begin : begin + 36]
        width = max(len(prompts[number]) for number in numbers)
        padded = torch.tensor([[eos] * (width - len(prompts[number])) + prompts[number] for number in numbers])
        mask = torch.tensor([[0] * (width - len(prompts[n])) + [1] * len(prompts[n]) for n in numbers])
        with torch.no_grad():
            whole = model.generate(
                padded, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=eos
            )
        for number, row in zip(numbers, whole[:, width:].tolist(), strict=True):
            texts[number] = row[: row.index(eos) + 1] if eos in row else row
    return [texts[number] for number in range(len(prompts))]


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_equals_transformers_on_multiarith(real_student_folder: Path, shared: Path) -> None:
    import torch

    data = load_task(TaskSettings(key="multiarith", mirror=str(shared / "data" / "upstream")))
    questions = data.of(data.split.test)
    assert len(questions) == 180
    student = load_student(StudentSettings(checkpoint=str(real_student_folder)))
    prompts = student.encode([f"{question.question} ###" for question in questions])
    results = generate(student, student.load(), prompts, max_length=1024, max_new_tokens=NEW_TOKENS)
    ours = [[*result.tokens, *[student.eos_id] * (result.finish_reason == "stop")] for result in results]
    model = load_torch(real_student_folder)
    theirs = torch_texts(model, prompts, student.eos_id)
    differ = []
    for number in [number for number in range(180) if ours[number] != theirs[number]]:
        pair = zip(ours[number], theirs[number], strict=False)
        at = next(place for place, (one, other) in enumerate(pair) if one != other)
        with torch.no_grad():
            logits = model(torch.tensor([prompts[number] + ours[number][:at]])).logits[0, -1]
        gap = abs(float(logits[ours[number][at]] - logits[theirs[number][at]]))
        differ.append(f"question {number}, token {at}: {ours[number][at]} or {theirs[number][at]}, {gap:.1e} apart")
    print(f"{180 - len(differ)} of 180 texts are equal, {sum(map(len, theirs))} tokens")
    assert not differ  # there was no tie among the 8763 tokens; a gap far below 1e-4 would be one
