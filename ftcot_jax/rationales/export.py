"""Selected pairs in the forms other trainers read: OpenAI fine-tuning JSONL, plain JSONL, Parquet."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import OwnTemplate, get_template
from ftcot_jax.text_files import json_text

Form = Literal["openai-completion", "openai-chat", "jsonl", "parquet"]
_SUFFIX: dict[Form, str] = {
    "openai-completion": ".jsonl",
    "openai-chat": ".jsonl",
    "jsonl": ".jsonl",
    "parquet": ".parquet",
}


def export_pairs(
    pairs: Sequence[Pair], questions: dict[int, Question], chosen: str | OwnTemplate, form: Form, path: Path
) -> Path:
    """Writes pairs to a file beside `path` with the form's suffix, and returns it.

    Args:
      pairs: what a student would be trained on, in order.
      questions: by sample index.
      chosen: the recipe's template. The OpenAI forms are written in its "api" or "chat" variant, as the paper's
        API students were trained; the others hold prompt and label as they are, with their indices.
      form: which.
      path: file name without suffix.
    """
    target = path.with_name(path.name + _SUFFIX[form])
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    if form == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dataclasses.asdict(pair) for pair in pairs]), partial)
    else:
        rows = [_row(pair, questions[pair.sample_index], chosen, form) for pair in pairs]
        partial.write_text("".join(json_text(row) + "\n" for row in rows), encoding="utf-8")
    partial.replace(target)
    return target


def _row(pair: Pair, question: Question, chosen: str | OwnTemplate, form: Form) -> dict[str, Any]:
    if form == "openai-completion":
        template = get_template(chosen, "api")
        prompt, label = template.prompt(question.question), template.label(pair.answer, pair.rationale)
        return {"prompt": prompt, "completion": label}
    if form == "openai-chat":
        template = get_template(chosen, "chat")
        written = {"role": "assistant", "content": template.label(pair.answer, pair.rationale)}
        return {"messages": [*template.messages(question.question), written]}
    return dataclasses.asdict(pair)
