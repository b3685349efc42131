"""Work for a generation benchmark: prompts, and how long the text of each shall be.

A benchmark's student has random weights and would not stop by itself where a trained one does. Each text is
therefore ended after as many tokens as the published rationale of its question has, in every program alike.
"""

from __future__ import annotations

import dataclasses
import os

import jax
import numpy as np

from ftcot_jax.bench.machine import Machine
from ftcot_jax.errors import FtcotError
from ftcot_jax.students.student import Student
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import read_completions

LIMIT = 1024  # tokens of prompt and text together, as in the paper


@dataclasses.dataclass(frozen=True)
class Work:
    """Prompts and the tokens to write after each.

    Attributes:
      prompts: token ids.
      lengths: tokens of each text; where it ends with the end token, that one counts.
    """

    prompts: list[list[int]]
    lengths: list[int]

    @property
    def tokens(self) -> int:
        """Tokens to be written in all."""
        return sum(self.lengths)


def published_work(student: Student, completions: str | os.PathLike[str], count: int) -> Work:
    """Questions as Fine-tune-CoT asks them, and the lengths of the labels that the completions make.

    Args:
      student: whose tokenizer.
      completions: a file in the authors' form, with rationales.
      count: how many questions, evenly spaced.

    Raises:
      FtcotError: the file has fewer.
    """
    rows = [row for row in read_completions(completions).completions if row.completion_index == 0]
    if len(rows) < count:
        raise FtcotError(f"{completions} has {len(rows)} questions and the benchmark wants {count}; lower --prompts")
    rows = [rows[place * len(rows) // count] for place in range(count)]
    template = get_template("ft_cot_token", student.kind)
    prompts = student.encode_prompts([template.prompt(row.question) for row in rows])
    labels = student.encode([template.label(row.answer, row.reasoning_completion or "") for row in rows])
    limit = min(LIMIT, student.context_length)
    pairs = zip(prompts, labels, strict=True)
    return Work(prompts, [min(len(label) + 1, limit - len(prompt)) for prompt, label in pairs])


def with_runaways(work: Work, student: Student, every: int) -> Work:
    """One text in every so many never stops: it goes on to the limit, in every program the same one."""
    longest = min(LIMIT, student.context_length) - max(map(len, work.prompts))
    return Work(
        work.prompts,
        [longest if place % every == every // 2 else length for place, length in enumerate(work.lengths)],
    )


def needed_arithmetic(student: Student, work: Work) -> float:
    """Floating-point operations that the work needs of a decoder whatever the program: none of it for padding.

    Two for each weight of a linear map and token read or written, two for each number of the vocabulary projection
    and token written, and attention over the tokens there are. The last token written is not read.
    """
    return sum(_arithmetic(student, work))


def needed_seconds(student: Student, work: Work, rows: int, machine: Machine) -> float:
    """What the work takes at least on a machine that writes so many texts at a time.

    Reading prompts is bound by arithmetic. A step that writes one token of each row needs its arithmetic, reads all
    weights and the keys and values before each row, and takes what the slower of the two does; the steps are as few
    as if every row always wrote.
    """
    reading, writing = _arithmetic(student, work)
    weights, head = _weights(student)
    size = np.dtype(student.compute.activations).itemsize
    cache = jax.eval_shape(lambda: student.empty_cache(1, 1))
    column = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(cache)) * size
    before = sum(
        length * len(prompt) + length * (length - 1) / 2
        for prompt, length in zip(work.prompts, work.lengths, strict=True)
    )
    steps = max(work.tokens / rows, max(work.lengths))
    return reading / machine.flops + machine.seconds(writing, steps * (weights + head) * size + before * column)


def _weights(student: Student) -> tuple[int, int]:
    """Numbers in the linear maps that every token meets, and in the vocabulary projection."""
    shapes = student.shapes_by_path
    maps = sum(int(np.prod(leaf.shape)) for path, leaf in shapes.items() if path.endswith("/kernel"))
    return maps, int(np.prod(next(leaf.shape for path, leaf in shapes.items() if path == "embed")))


def _arithmetic(student: Student, work: Work) -> tuple[float, float]:
    """Of reading all prompts but their last tokens, and of writing."""
    weights, head = _weights(student)
    cache = jax.eval_shape(lambda: student.empty_cache(1, 1))
    attended = len(cache.layers) * student.config.num_attention_heads * cache.layers[0].keys.shape[-1]
    reading = writing = 0.0
    for prompt, length in zip(work.prompts, work.lengths, strict=True):
        before, read = len(prompt) - 1, len(prompt) + length - 1
        reading += 2 * weights * before + 4 * attended * before * (before + 1) / 2
        writing += 2 * weights * length + 2 * head * length
        writing += 4 * attended * (read * (read + 1) - before * (before + 1)) / 2
    return reading, writing
