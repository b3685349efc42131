"""The sample study: one HTML page, complete in itself, to read what models wrote.

Whatever a model wrote is data on it: JSON in a script element that is no script, put on the page as text only. The
page's policy allows its own script and style, by their hashes, and nothing else: no network, no other script.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import hashlib
import importlib.resources
import json
from collections.abc import Iterable, Sequence, Sized
from typing import Any

from ftcot_jax.evaluation.categories import CATEGORIES, Findings, categorize
from ftcot_jax.tasks.scoring import Scoring, Verdict, score
from ftcot_jax.tasks.task import Task
from ftcot_jax.teacher.completion import Completion

# So that no text can end the script element it sits in, or break a line where a script may not.
_HARMLESS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclasses.dataclass(frozen=True)
class Sheet:
    """What one student wrote on one dataset.

    Attributes:
      student: its name on the page.
      task: the dataset.
      completions: its texts.
      answer_prefix: of the template it was asked with.
      scoring: whose rules.
    """

    student: str
    task: Task
    completions: Sequence[Completion]
    answer_prefix: str | None
    scoring: Scoring

    def judged(self) -> Iterable[tuple[Completion, Verdict, Findings]]:
        """Each text with the scorer's verdict and its categories."""
        for row in self.completions:
            verdict = score(self.task, row.completion, row.answer, self.answer_prefix, self.scoring, row.finish_reason)
            yield row, verdict, categorize(row, verdict)


@dataclasses.dataclass(frozen=True)
class Study:
    """A page and what is on it.

    Attributes:
      html: the page.
      texts: texts on it.
      left_out: texts that had no room.
      categories: texts of each category.
    """

    html: str
    texts: int
    left_out: int
    categories: dict[str, int]


def build_study(title: str, sheets: Sequence[Sheet], most_texts: int) -> Study:
    """Makes the page.

    Args:
      title: its heading.
      sheets: what is to be read.
      most_texts: where there are more texts, as many questions of each dataset as fit, evenly spaced.
    """
    total = sum(len(sheet.completions) for sheet in sheets)
    kept = _kept_questions(sheets, most_texts / total) if total > most_texts else None
    datasets: dict[str, int] = {}
    students: dict[str, int] = {}
    names = list(CATEGORIES)
    places: dict[tuple[str, str, str], int] = {}
    questions: list[list[Any]] = []
    texts: list[list[Any]] = []
    counts: collections.Counter[str] = collections.Counter()
    for sheet in sheets:
        dataset = datasets.setdefault(sheet.task.key, len(datasets))
        student = students.setdefault(sheet.student, len(students))
        for row, verdict, findings in sheet.judged():
            identity = _identity(sheet, row)
            if kept is not None and identity not in kept:
                continue
            if identity not in places:
                places[identity] = len(questions)
                questions.append([dataset, row.sample_index, row.question, row.answer])
            counts.update(findings.categories)
            texts.append(
                [
                    places[identity],
                    student,
                    row.completion_index,
                    row.reasoning_completion,
                    row.completion,
                    verdict.prediction,
                    verdict.correct,
                    [names.index(name) for name in findings.categories],
                    findings.slips,
                    row.finish_reason,
                ]
            )
    about = f"{_some(questions, 'question')}, {_some(texts, 'text')} by {_some(students, 'writer')}"
    if total > len(texts):
        about += f"; {total - len(texts)} more texts are left out: whole questions, evenly spaced"
    content = {
        "title": title,
        "about": about,
        "datasets": list(datasets),
        "students": list(students),
        "categories": list(CATEGORIES.items()),
        "questions": questions,
        "texts": texts,
    }
    return Study(_page(content), len(texts), total - len(texts), {name: counts[name] for name in names})


def _some(things: Sized, what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def _identity(sheet: Sheet, row: Completion) -> tuple[str, str, str]:
    return sheet.task.key, row.question.strip(), row.answer


def _kept_questions(sheets: Sequence[Sheet], share: float) -> set[tuple[str, str, str]]:
    """So large a share of each dataset's questions, evenly spaced."""
    by_task: dict[str, dict[tuple[str, str, str], None]] = {}
    for sheet in sheets:
        by_task.setdefault(sheet.task.key, {}).update(dict.fromkeys(_identity(sheet, row) for row in sheet.completions))
    kept = set()
    for found in by_task.values():
        identities = list(found)
        count = max(1, int(len(identities) * share))
        kept |= {identities[place * len(identities) // count] for place in range(count)}
    return kept


def _page(content: dict[str, Any]) -> str:
    files = importlib.resources.files("ftcot_jax.evaluation") / "page"
    shell, style, script = ((files / f"study.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    for sign, instead in _HARMLESS.items():
        data = data.replace(sign, instead)
    parts = {"style": style, "script": script, "style_hash": _hash(style), "script_hash": _hash(script), "data": data}
    pieces = []
    for piece in shell.split("{"):
        name, closed, rest = piece.partition("}")
        pieces.append(parts[name] + rest if closed and name in parts else piece)
    # Half a character, as a broken model may write, has no UTF-8.
    return "".join(pieces).encode(errors="replace").decode()


def _hash(text: str) -> str:
    """As a content security policy names a script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
