"""The teachers of a run's trials: who they are, what they get right, and what their completions cost."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from ftcot_jax.artifacts import NotMade
from ftcot_jax.config import Recipe
from ftcot_jax.evaluation.score_teacher import TeacherScore, score_teacher
from ftcot_jax.stages.data import COMPLETIONS, collect_completions
from ftcot_jax.stages.place import Place
from ftcot_jax.sweeps.table import Table
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import Completion, read_completions
from ftcot_jax.teacher.money import price_of, price_table, prompt_tokens
from ftcot_jax.teacher.paid import dollars_paid
from ftcot_jax.teacher.settings import Price


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Who wrote a set of completions.

    Attributes:
      name: of the model.
      template: it was asked with.
      task: the dataset.
      diversity: completions of the question that has most.
      scores: what it gets right, test questions first.
      dollars_by_degree: at D - 1, US dollars of every training question's first D completions, reckoned from their
        lengths; None without a price.
      bought: whether they were sampled here, so that the ledger knows what they cost; else they were imported.
      questions: training questions it has answered.
    """

    name: str
    template: str
    task: str
    diversity: int
    scores: tuple[TeacherScore, ...]
    dollars_by_degree: tuple[float, ...] | None
    bought: bool
    questions: int

    @property
    def accuracy(self) -> float | None:
        """Of the training questions, whose rationales the students learn; else of what there is."""
        parts = {score.part: score.accuracy for score in self.scores}
        return parts.get("train", next(iter(parts.values()), None))


@dataclasses.dataclass
class Teachers:
    """Teachers by the recipes that learn from them, each set of completions read once.

    Attributes:
      place: the run's folder.
      found: by the artefact's address.
    """

    place: Place
    found: dict[str, Teacher] = dataclasses.field(default_factory=dict)

    def of(self, recipe: Recipe) -> Teacher | None:
        """The recipe's teacher, one of whom nothing is known but the name while its completions are not there.

        Returns:
          None where the template teaches no rationales.
        """
        if recipe.teacher is None or not get_template(recipe.template).has_rationale:
            return None
        try:
            source = collect_completions(self.place, recipe)
        except NotMade:
            settings, key = recipe.teacher, self.place.task(recipe).task.key
            return Teacher(settings.model_name, settings.template, key, settings.diversity, (), None, False, 0)
        if source.address not in self.found:
            self.found[source.address] = _read(self.place, recipe, source.on_disk(COMPLETIONS))
        return self.found[source.address]

    def dollars(self, teacher: Teacher, diversity: int, questions: int) -> float | None:
        """US dollars of the first D completions of so many questions; of what was bought, as the ledger has it."""
        by_degree = teacher.dollars_by_degree
        if by_degree is None or not teacher.questions:
            return None
        reckoned = by_degree[min(diversity, len(by_degree)) - 1] * questions / teacher.questions
        paid = self._paid.get(teacher.task) if teacher.bought else None
        if paid is None:
            return reckoned
        of_all = sum(
            one.dollars_by_degree[-1]
            for one in self.found.values()
            if one.bought and one.task == teacher.task and one.dollars_by_degree
        )
        return paid * reckoned / of_all if of_all else reckoned

    @functools.cached_property
    def _paid(self) -> dict[str, float]:
        """What the run's ledger says was paid, by dataset."""
        folder = self.place.folder
        return {} if "://" in str(folder) else dollars_paid(Path(folder) / "ledger.sqlite")

    def accuracies(self) -> dict[tuple[str, str], float]:
        """What each gets right of each dataset, by name and dataset; mean over its sets of completions."""
        found: dict[tuple[str, str], list[float]] = {}
        for teacher in self.found.values():
            if teacher.accuracy is not None:
                found.setdefault((teacher.name, teacher.task), []).append(teacher.accuracy)
        return {key: sum(values) / len(values) for key, values in found.items()}

    def table(self) -> Table | None:
        """A row a teacher and part of its dataset; None where there is none."""
        rows = []
        for teacher in self.found.values():
            for score in teacher.scores:
                interval = score.interval
                rows.append(
                    [
                        f"{teacher.name} ({teacher.template})",
                        teacher.task,
                        score.part,
                        str(score.questions),
                        str(score.completions),
                        f"{100 * score.accuracy:.1f}",
                        "-" if interval is None else f"{100 * interval.low:.1f} - {100 * interval.high:.1f}",
                    ]
                )
        several = len({teacher.task for teacher in self.found.values()}) > 1
        head = ["teacher", "dataset", "split", "questions", "completions", "accuracy %", "95% interval"]
        if not several:
            head, rows = [head[0], *head[2:]], [[row[0], *row[2:]] for row in rows]
        return Table("teachers", "The teacher", head, rows, words=3 if several else 2) if rows else None


def _read(place: Place, recipe: Recipe, file: Path) -> Teacher:
    assert recipe.teacher is not None  # asked of recipes that have one
    data, read, settings = place.task(recipe), read_completions(file), recipe.teacher
    template = read.metadata.get("prediction_template") or "zs_cot"
    name = str(read.metadata.get("base_model") or settings.model_name)
    train = set(data.split.train)
    by_question: dict[int, list[Completion]] = {}
    for row in read.completions:
        if row.sample_index in train:
            by_question.setdefault(row.sample_index, []).append(row)
    counts = [len(rows) for rows in by_question.values()]
    price = price_table().get(name) if settings.import_path else price_of(settings)
    if settings.loopback is not None:
        price = Price(prompt=0, completion=0)
    return Teacher(
        name,
        template,
        data.task.key,
        max(counts, default=1),
        tuple(score_teacher(data, read.completions, get_template(template).answer_prefix, recipe.scoring)),
        None if price is None else _dollars(list(by_question.values()), max(counts, default=1), price),
        not settings.import_path and settings.loopback is None,
        len(by_question),
    )


def _dollars(questions: Sequence[Sequence[Completion]], degrees: int, price: Price) -> tuple[float, ...]:
    """At D - 1, dollars of every question's first D completions: its prompt once, then each text it led to."""
    added = [0.0] * degrees
    for rows in questions:
        first = rows[0]
        asked = first.prompt if first.reasoning_prompt is None else first.reasoning_prompt
        added[0] += prompt_tokens(asked) * price.prompt
        for place, row in enumerate(rows):
            written = prompt_tokens(row.completion) + prompt_tokens(row.reasoning_completion or "")
            again = 0.0 if row.reasoning_prompt is None else prompt_tokens(row.prompt)
            added[place] += written * price.completion + again * price.prompt
    totals, total = [], 0.0
    for more in added:
        total += more
        totals.append(total / 1e6)
    return tuple(totals)
