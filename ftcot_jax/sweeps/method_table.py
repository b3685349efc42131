"""The paper's form of table: a row a method and size, a column a dataset; a table a family of students."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

from ftcot_jax.sweeps.conditions import (
    Condition,
    Labels,
    in_paper_order,
    method_order,
    part_text,
    student_order,
    task_title,
)
from ftcot_jax.sweeps.overlay import MAIN_TABLES, METHODS, comparable
from ftcot_jax.sweeps.published import published_figures
from ftcot_jax.sweeps.results import ArmResult
from ftcot_jax.sweeps.table import Table

Row = tuple[str, str, str]  # method, student, size
_UNFINISHED, _NOT_PLANNED = "…", "-"


def method_tables(arms: Sequence[ArmResult], planned: Sequence[Condition]) -> list[Table]:
    """Accuracy in per cent with its 95% interval; below it the paper's figures, where it ran a student like these.

    Args:
      arms: what is finished.
      planned: the condition of every trial of the sweep, finished or not.
    """
    labels = Labels.of(planned)
    tasks = in_paper_order([condition.task for condition in planned])
    families = dict.fromkeys(condition.family for condition in sorted(planned, key=student_order))
    tables = []
    for family in families:
        own = [condition for condition in planned if condition.family == family]
        finished = [arm for arm in arms if arm.condition.family == family]
        rows = _own_rows(own, finished, labels, tasks)
        published = _published_rows(own, tasks)
        name = re.sub("[^a-z0-9]+", "_", family.lower()).strip("_")
        tables.append(
            Table(
                f"methods_{name}" if len(families) > 1 else "methods",
                f"Methods and datasets: {family} students, accuracy %",
                ["method", "student", "size", *(task_title(task) for task in tasks)],
                [*rows, *published],
                words=3,
                quiet=frozenset(range(len(rows), len(rows) + len(published))),
                notes=_notes(rows, published),
            )
        )
    return tables


def _own_rows(
    planned: Sequence[Condition], arms: Sequence[ArmResult], labels: Labels, tasks: Sequence[str]
) -> list[list[str]]:
    extras = _extras(planned, labels)

    def row_of(condition: Condition) -> Row:
        parts = dict(labels.identity(condition))
        texts = [part_text(key, parts[key]) for key in extras[condition.method]]
        return (", ".join([condition.method, *filter(None, texts)]), condition.student, condition.size)

    expected: dict[tuple[Row, str], int] = {}
    for condition in planned:
        place = (row_of(condition), condition.task)
        expected[place] = expected.get(place, 0) + 1
    found: dict[tuple[Row, str], list[ArmResult]] = {}
    for arm in arms:
        found.setdefault((row_of(arm.condition), arm.condition.task), []).append(arm)
    order = dict.fromkeys(row_of(condition) for condition in sorted(planned, key=_order))
    return [
        [*row, *(_cell(found.get((row, task), []), expected.get((row, task), 0)) for task in tasks)] for row in order
    ]


def _extras(conditions: Sequence[Condition], labels: Labels) -> dict[str, list[str]]:
    """Of each method, what tells its rows apart beside the student: what one student has several of on one dataset.

    So the paper's Diverse reasoning is one row, though its D is not the same on all datasets.
    """
    seen: dict[tuple[str, str, str, str], set[Hashable]] = {}
    for condition in conditions:
        for key, value in labels.identity(condition, ("task", "method", "student")):
            seen.setdefault((condition.method, condition.student, condition.task, key), set()).add(value)
    extras: dict[str, list[str]] = {condition.method: [] for condition in conditions}
    for (method, _, _, key), values in seen.items():
        if len(values) > 1 and key != "family" and key not in extras[method]:
            extras[method].append(key)
    return extras


def _order(condition: Condition) -> tuple[Hashable, ...]:
    return (
        method_order(condition.method),
        condition.diversity or 0,
        condition.train_questions or 0,
        student_order(condition),
    )


def _cell(arms: Sequence[ArmResult], expected: int) -> str:
    """An accuracy and its interval; marked where seeds are missing."""
    if not arms:
        return _UNFINISHED if expected else _NOT_PLANNED
    texts = [f"{100 * arm.accuracy:.1f} ({100 * arm.interval.low:.1f}–{100 * arm.interval.high:.1f})" for arm in arms]
    return " / ".join(texts) + "*" * (sum(len(arm.trials) for arm in arms) < expected)


def _published_rows(conditions: Sequence[Condition], tasks: Sequence[str]) -> list[list[str]]:
    """The paper's figures of its students that are most like these, by the methods that these have."""
    rows = []
    methods = {condition.method for condition in conditions}
    for method in [name for name in METHODS if name in methods]:
        for family, size in comparable(conditions):
            figures = published_figures(table=MAIN_TABLES, family=family, size=size, method=METHODS[method])
            values = {row.dataset: row.value for row in figures if row.measure == "accuracy"}
            cells = [f"{values[task]:.1f}" if task in values else _NOT_PLANNED for task in tasks]
            if set(cells) != {_NOT_PLANNED}:
                student = next(str(row.student) for row in figures)
                rows.append([f"paper: {method}", student, size, *cells])
    return rows


def _notes(rows: Sequence[Sequence[str]], published: Sequence[Sequence[str]]) -> list[str]:
    notes = ["In brackets: 95% interval, over seeds and questions."]
    cells = [cell for row in rows for cell in row[3:]]
    if any(cell.endswith("*") for cell in cells):
        notes.append("With an asterisk: not all of its seeds are finished.")
    if _UNFINISHED in cells:
        notes.append(f"{_UNFINISHED}: not finished yet.")
    if published:
        notes.append(
            "Rows of the paper are its own figures (arXiv 2212.10071): one run each, of open students the best of 20 "
            "epochs on the test set; its Diverse reasoning has D = 64 on MultiArith and SVAMP and D = 8 elsewhere."
        )
    return notes
