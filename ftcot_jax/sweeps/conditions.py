"""What a trial is, apart from its seed, and in what trials differ: by their recipes, not by their names."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

PAPER_METHODS = (
    "Zero-shot",
    "Zero-shot-CoT",
    "Few-shot-CoT",
    "Fine-tune",
    "Fine-tune-CoT",
    "Diverse reasoning",
)
PAPER_TASKS = {
    "single_eq": "SingleEq",
    "addsub": "AddSub",
    "multiarith": "MultiArith",
    "gsm8k": "GSM8K",
    "aqua": "AQuA",
    "svamp": "SVAMP",
    "date_understanding": "Date",
    "tracking_shuffled_objects": "Shuffled",
    "last_letter_concatenation": "Last Letter",
    "coin_flip": "Coin Flip",
    "commonsense_qa": "CSQA",
    "strategy_qa": "StrategyQA",
}
Axis = Literal["task", "method", "student", "teacher", "diversity", "subset"]
_NAMED: tuple[Axis, ...] = ("task", "method", "student", "teacher", "diversity", "subset")


@dataclasses.dataclass(frozen=True)
class Condition:
    """One trial's place in the sweep.

    Attributes:
      task: the dataset's key.
      method: the paper's name of it, by template and D.
      student: its name.
      family: of architectures.
      parameters: how many it has; None where an API does not say.
      teacher: who wrote the rationales; None where there are none.
      diversity: D; None where there are no rationales.
      subset: which part of the training split it learns from, such as "128 questions"; None for all of it.
      train_questions: how many these are; None where nothing is trained.
      settings: every other setting of its recipe that may decide its result, by dotted key; seeds are not among them.
    """

    task: str
    method: str
    student: str
    family: str
    parameters: int | None
    teacher: str | None
    diversity: int | None
    subset: str | None
    train_questions: int | None
    settings: Mapping[str, Any]

    @property
    def size(self) -> str:
        """Its parameters as papers write them; empty where nobody knows."""
        return "" if self.parameters is None else size_text(self.parameters)

    def named(self) -> tuple[Hashable, ...]:
        return tuple(getattr(self, name) for name in _NAMED)


def size_text(parameters: float) -> str:
    """124439808 as 124M."""
    for unit, sign in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= unit:
            value = parameters / unit
            return f"{value:.0f}{sign}" if value >= 9.95 else f"{value:.1f}{sign}"
    return f"{parameters:.0f}"


def task_title(task: str) -> str:
    """A dataset's name in a heading."""
    return PAPER_TASKS.get(task, task)


def in_paper_order(tasks: Sequence[str]) -> list[str]:
    """The paper's datasets in its order, then the others in theirs."""
    known = list(PAPER_TASKS)
    found = list(dict.fromkeys(tasks))
    return sorted(found, key=lambda task: known.index(task) if task in known else len(known) + found.index(task))


def factors(conditions: Sequence[Condition]) -> list[str]:
    """The settings in which trials differ though dataset, method, student, teacher, D and number of questions agree.

    A setting that these decide already (a path of each dataset's completions, a learning rate of each student) tells no
    two trials apart and is none.
    """
    keys = dict.fromkeys(key for condition in conditions for key in condition.settings)
    found = []
    for key in keys:
        seen: dict[Hashable, Any] = {}
        for condition in conditions:
            value = condition.settings.get(key)
            if seen.setdefault(condition.named(), value) != value:
                found.append(key)
                break
    return found


@dataclasses.dataclass(frozen=True)
class Labels:
    """Says in few words what tells one group of trials from the others.

    Attributes:
      factors: settings that count, beside what a condition names.
    """

    factors: tuple[str, ...]

    @classmethod
    def of(cls, conditions: Sequence[Condition]) -> Labels:
        return cls(tuple(factors(conditions)))

    def identity(self, condition: Condition, without: Sequence[str] = ()) -> tuple[tuple[str, Hashable], ...]:
        """What the condition is, `without` some axes; equal for trials that differ in those only.

        Without D, Fine-tune-CoT and Diverse reasoning are one method; without a student, its family is left.
        """
        named: dict[str, Hashable] = {name: getattr(condition, name) for name in _NAMED}
        if "student" in without:
            named["family"] = condition.family
        if "diversity" in without and condition.diversity is not None:
            named["method"] = "Fine-tune-CoT"
        others = {key: _hashable(condition.settings.get(key)) for key in self.factors}
        return tuple((key, value) for key, value in {**named, **others}.items() if key not in without)

    def texts(self, identities: Sequence[tuple[tuple[str, Hashable], ...]]) -> list[str]:
        """A label for each: only that in which they differ; the method where they differ in nothing."""
        varied = []
        for place, (key, _) in enumerate(identities[0] if identities else ()):
            values = {identity[place][1] for identity in identities}
            if key in ("teacher", "diversity"):
                values.discard(None)  # that there is none, the method says
            if key != "task" and len(values) > 1:
                varied.append(place)
        found = []
        for identity in identities:
            parts = [part_text(*identity[place]) for place in varied]
            found.append(", ".join(part for part in parts if part) or str(dict(identity).get("method", "")))
        return found


def _hashable(value: Any) -> Hashable:
    return value if isinstance(value, Hashable) else repr(value)


def part_text(key: str, value: Hashable) -> str:
    """One part of a label; empty where the condition has nothing of the kind."""
    if key in ("method", "student", "family"):
        return str(value)
    if key == "subset":
        return str(value or "all questions")
    if value is None and key in _NAMED:
        return ""
    if key == "teacher":
        return f"teacher {value}"
    if key == "diversity":
        return f"D={value}"
    return f"{key.rpartition('.')[2]}={'none' if value is None else value}"


def method_order(method: str) -> tuple[int, str]:
    """Sorts methods as the paper's tables do."""
    return (PAPER_METHODS.index(method) if method in PAPER_METHODS else len(PAPER_METHODS), method)


def student_order(condition: Condition) -> tuple[str, float, str]:
    """Sorts students by family, then by size."""
    return (condition.family, condition.parameters or math.inf, condition.student)
