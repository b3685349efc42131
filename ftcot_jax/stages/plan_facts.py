"""What can be known of a trial before it runs: from artefacts, from files that are here, or from declared sizes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ftcot_jax.artifacts import LookedInto, NotMade
from ftcot_jax.config import Recipe, TrialRecipe
from ftcot_jax.rationales.judge import judge
from ftcot_jax.rationales.pair_table import PairColumns, PairTable
from ftcot_jax.rationales.pairs import Pair, answer_pairs, rationale_pairs
from ftcot_jax.rationales.select import question_subset, sieve
from ftcot_jax.records.sizes import part_lengths
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.trials import PAPER_EXAMPLES, Job, prepare
from ftcot_jax.students.known import here, student_without_network
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.sweeps.plan import Count, How
from ftcot_jax.sweeps.published import PublishedFigure, published_figures
from ftcot_jax.tasks.fetch import is_here
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.own_task import is_definition
from ftcot_jax.tasks.registry import get_task
from ftcot_jax.tasks.scoring import Scoring
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.splits import default_split
from ftcot_jax.tasks.task import Split, TaskData
from ftcot_jax.tasks.templates import Template, get_template
from ftcot_jax.teacher.completion import Completion, StoredCompletions, checked

CHARACTERS_PER_TOKEN = 4.0
QUESTION_TOKENS, RATIONALE_TOKENS, ANSWER_TOKENS, EXEMPLAR_TOKENS = 60, 60, 4, 700
PACKED_SHARE = 0.95  # of a budget of tokens that a batch fills
_DRAWN = "_t70"  # ends the authors' name for completions drawn at temperature 0.7, several a question
_SAMPLED = 128  # texts tokenised to know how long the others are


class Unknown(NamedTuple):
    """What could not be known: of what, and why."""

    what: str
    why: str


NO_QUESTIONS = "its questions are not here; `ftcot data fetch`"


class LookingPlace(Place):
    """A run's folder that is only looked into."""

    @functools.cached_property
    def store(self) -> LookedInto:
        return LookedInto(self.folder / "artifacts", self.say, local=self.copies)


@dataclasses.dataclass(frozen=True, eq=False)
class Lengths:
    """Tokens of a trial's records, or of a sample of them.

    Attributes:
      parts_NxP: (N, P) int, as `part_lengths`.
      labels_N: (N,) int.
    """

    parts_NxP: np.ndarray
    labels_N: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """What is known of one trial.

    Attributes:
      spec: its recipe.
      student: of ours; None where not even its shapes are known, or where it lives at an API.
      job: it, ready to train, where all that it is made from is there.
      split: None where nobody knows how many questions there are.
      questions: training questions it may use; None where it trains on none.
      records, steps: None where nothing is trained, or nobody knows.
      epochs: passes over the records; 0 where nothing is trained.
      lengths: of its records; None where nothing is trained.
      unknown: what could not be known, and why; or what to do about it.
    """

    spec: TrialRecipe
    student: Student | None
    job: Job | None
    split: Split | None
    questions: int | None
    records: Count | None
    steps: Count | None
    epochs: float
    lengths: Lengths | None
    unknown: tuple[Unknown, ...]

    @property
    def trains(self) -> bool:
        return get_template(self.spec.recipe.template).trains

    @property
    def asked(self) -> int | None:
        """Test questions."""
        if self.split is None:
            return None
        limit = self.spec.recipe.evaluate.questions
        return len(self.split.test) if limit is None else min(limit, len(self.split.test))

    @property
    def texts(self) -> int:
        """Texts to be written in all, at every look; 0 where nobody knows."""
        settings = self.spec.recipe.evaluate
        every = settings.look_epochs
        looks = max(1, math.ceil(self.epochs / every)) if every and self.trains else 1
        looks += settings.before and self.trains
        validation = len(self.split.validation) if self.split and settings.selection == "best_on_validation" else 0
        return looks * ((self.asked or 0) + validation) * settings.samples


class FactFinder:
    """Finds the facts of many trials, looking at each file once.

    Args:
      place: the run's folder; nothing is written there.
    """

    def __init__(self, place: LookingPlace) -> None:
        self._place = place
        self._known: dict[object, Lengths] = {}
        # What is here now may not be what was here when another plan was made.
        self._data = functools.cache(_data)
        self._load = functools.cache(_load)

    def of(self, spec: TrialRecipe) -> Facts:
        """The facts of one trial.

        Raises:
          FtcotError: the recipe cannot run: a setting or a file that is here is wrong.
        """
        recipe, unknown = spec.recipe, list[Unknown]()
        template = get_template(recipe.template)
        data = self._data(recipe.task)
        split = data.split if data is not None else _declared(recipe.task)
        if data is None:
            unknown.append(Unknown(recipe.task.key, NO_QUESTIONS))
        elif data.missing:
            unknown.append(Unknown(recipe.task.key, f"without {data.missing}"))
        if recipe.api_student is not None:
            unknown.append(Unknown(student_name(recipe), "what the API takes and costs"))
            return Facts(spec, None, None, split, None, None, None, 0, None, tuple(unknown))
        spec, student, is_local = self._student(spec, data, unknown)
        questions = None
        if template.trains and split is not None:
            questions = len(question_subset(split.train, recipe.select))
        job = self._job(spec, data) if is_local and data is not None else None
        if job is not None and job.trains:
            chosen = job.records.selection.chosen
            table, count = job.records.table, Count(len(chosen), "exact")
            lengths = Lengths(part_lengths(table, job.student.kind)[chosen], table.label_lengths[chosen])
            steps, epochs = Count(job.steps, "exact"), job.data.epochs_at(job.steps)
            return Facts(spec, student, job, split, questions, count, steps, epochs, lengths, tuple(unknown))
        if not template.trains or split is None:
            return Facts(spec, student, job, split, questions, None, None, 0, None, tuple(unknown))
        count, lengths = self._records(spec.recipe, data, split, student, is_local, unknown)
        steps, epochs = _steps(recipe, count, lengths)
        return Facts(spec, student, None, split, questions, count, steps, epochs, lengths, tuple(unknown))

    def _student(
        self, spec: TrialRecipe, data: TaskData | None, unknown: list[Unknown]
    ) -> tuple[TrialRecipe, Student | None, bool]:
        """The spec with folders for hub names, the student as far as it is known, and whether it is here."""
        recipe = spec.recipe
        settings = here(recipe.own_student) or recipe.own_student
        spec = spec.model_copy(update={"recipe": recipe.model_copy(update={"student": settings})})
        student, is_local = self._load(settings.model_dump_json(), tuple(data.vocabulary) if data is not None else ())
        name = student_name(recipe)
        if student is None:
            unknown.append(Unknown(name, "neither here nor in the package's table of shapes, so no time and no memory"))
        elif not is_local:
            unknown.append(Unknown(name, "not here; shapes from the package's table, tokens counted by characters"))
        return spec, student, is_local

    def _job(self, spec: TrialRecipe, data: TaskData) -> Job | None:
        recipe = spec.recipe
        template = get_template(recipe.template)
        import_path = None if recipe.teacher is None else recipe.teacher.import_path
        if template.has_rationale and import_path is not None and not Path(import_path).is_file():
            return None
        if template.needs_exemplars or data.missing:  # their file, or their questions, may not be here
            return None
        try:
            return prepare(self._place, [spec])[0]
        except NotMade:
            return None

    def _records(
        self,
        recipe: Recipe,
        data: TaskData | None,
        split: Split,
        student: Student | None,
        is_local: bool,
        unknown: list[Unknown],
    ) -> tuple[Count, Lengths]:
        kind = "decoder" if student is None else student.kind
        template = get_template(recipe.template, "chat" if recipe.chat else kind)
        subset = question_subset(split.train, recipe.select)
        parts = 1 if kind == "decoder" else 2
        path = None if recipe.teacher is None else recipe.teacher.import_path
        written = path is not None and Path(path).is_file() if template.has_rationale else data and not data.missing
        if data is None or not written:
            return self._without_texts(recipe, data, subset, template, parts, unknown)
        if template.has_rationale:
            own_answer = recipe.select.filter == "majority"
            pairs = _imported(str(path), recipe.task, recipe.scoring, template, own_answer)
        else:
            pairs = _answers(recipe.task, recipe.scoring, template)
        chosen = sieve(pairs, recipe.select).chosen
        if not len(chosen):
            unknown.append(Unknown(recipe.task.key, "the selection keeps nothing of its file, which will stop the run"))
            return Count(0, "exact"), Lengths(np.ones((1, parts), int), np.ones(1, int))
        count = Count(len(chosen), _sure_of_lengths(recipe, pairs.texts(chosen)))
        key = (id(pairs), recipe.select.model_dump_json(), student_name(recipe), is_local)
        if key not in self._known:
            shown = list(pairs.texts(chosen[np.linspace(0, len(chosen) - 1, _SAMPLED).astype(int)]))
            self._known[key] = _measured(shown, student if is_local else None, parts)
        return count, self._known[key]

    def _without_texts(
        self,
        recipe: Recipe,
        data: TaskData | None,
        subset: np.ndarray,
        template: Template,
        parts: int,
        unknown: list[Unknown],
    ) -> tuple[Count, Lengths]:
        """Of a teacher who has not written yet, or questions that are not here."""
        asked = QUESTION_TOKENS
        if data is not None:
            texts = [data.questions[index].question for index in subset[:_SAMPLED].tolist() if index in data.questions]
            asked = round(sum(map(len, texts)) / max(1, len(texts)) / CHARACTERS_PER_TOKEN) or QUESTION_TOKENS
        if not template.has_rationale:
            return Count(len(subset), "exact"), _same_lengths(asked, ANSWER_TOKENS, parts)
        key, lengths = recipe.task.key, _same_lengths(asked, RATIONALE_TOKENS + ANSWER_TOKENS, parts)
        teacher = recipe.teacher
        if teacher is not None and teacher.import_path:
            folder = Path(teacher.import_path).parent
            unknown.append(Unknown(key, f"not in {folder} here; as many rationales as were right in the paper"))
            right = _paper("teacher", key) if recipe.select.filter == "answer" else None
            share = 1.0 if right is None else right.value / 100
            return Count(max(1, round(share * _degree(recipe) * len(subset))), "about"), lengths
        unknown.append(Unknown(key, "its teacher has not been asked here yet; as many rationales as it will write"))
        return Count(_degree(recipe) * len(subset), "at most"), lengths


def student_name(recipe: Recipe) -> str:
    """What a recipe's student is called in a table."""
    if recipe.api_student is not None:
        return f"{recipe.api_student.model} (API)"
    settings = recipe.own_student
    if settings.checkpoint is not None:
        name = Path(settings.checkpoint).name
    else:
        name = f"{(settings.scratch or {}).get('model_type', '?')} from scratch"
    return f"{name}, LoRA" if settings.lora is not None else name


@functools.cache
def _paper(method: str, dataset: str) -> PublishedFigure | None:
    return next(iter(published_figures(table="6a", method=method, dataset=dataset)), None)


def _degree(recipe: Recipe) -> int:
    """The most rationales a question can have; of a file of the authors' that is not here, as many as they bought."""
    teacher, select = recipe.teacher, recipe.select
    if teacher is not None and not teacher.import_path:
        most: int | None = teacher.diversity
    else:
        drawn = teacher is not None and Path(str(teacher.import_path)).parent.name.endswith(_DRAWN)
        paper = _paper("ft_cot_diverse", recipe.task.key)
        most = paper.diversity if drawn and paper is not None else None
    return min((number for number in (select.diversity, select.per_question, most) if number), default=1)


def _sure_of_lengths(recipe: Recipe, pairs: Iterable[Pair]) -> How:
    """Whether any of the pairs may be left out for its length: a token is a byte at least, and mostly four."""
    if recipe.records.too_long == "error" or recipe.records.max_length is None:
        return "exact"
    longest = max(len(pair.prompt.encode()) + len(pair.label.encode()) for pair in pairs)
    return "exact" if longest < recipe.records.max_length else "about"


def _steps(recipe: Recipe, records: Count, lengths: Lengths) -> tuple[Count, float]:
    """Steps in all, and how many passes they are."""
    train = recipe.train
    if train.batch.tokens is None:
        per_epoch, how = math.ceil(records.value / (train.batch.examples or PAPER_EXAMPLES)), records.how
    else:
        tokens = records.value * float(lengths.parts_NxP.sum(1).mean())
        per_epoch = math.ceil(tokens / (PACKED_SHARE * train.batch.tokens))
        how = "about" if records.how == "exact" else records.how
    per_epoch = max(1, per_epoch)
    if train.steps is not None:
        return Count(train.steps, "exact"), train.steps / per_epoch
    return Count(per_epoch * train.total_epochs, how), float(train.total_epochs)


def _measured(pairs: Sequence[Pair], student: Student | None, parts: int) -> Lengths:
    if student is None:
        prompts = [round(len(pair.prompt) / CHARACTERS_PER_TOKEN) for pair in pairs]
        labels = [round(len(pair.label) / CHARACTERS_PER_TOKEN) + 1 for pair in pairs]
    else:
        prompts = [len(ids) for ids in student.encode([pair.prompt for pair in pairs])]
        labels = [len(ids) + 1 for ids in student.encode([pair.label for pair in pairs])]
    return _lengths(np.array(prompts), np.array(labels), parts)


def _same_lengths(prompt: int, label: int, parts: int) -> Lengths:
    return _lengths(np.array([prompt]), np.array([label]), parts)


def _lengths(prompts_N: np.ndarray, labels_N: np.ndarray, parts: int) -> Lengths:
    both = (prompts_N + labels_N,) if parts == 1 else (labels_N, prompts_N + 1)
    return Lengths(np.stack(both, 1), labels_N)


def _data(settings: TaskSettings) -> TaskData | None:
    """The task, if all of its files are here."""
    if not is_definition(settings.key):
        sources = get_task(settings.key).sources
        if not all(is_here(source, settings.mirror) for source in sources if source.rows is None):
            return None
    return load_task(settings)


def _declared(settings: TaskSettings) -> Split | None:
    """The default split of a task whose questions are not here: its sizes are declared."""
    task = get_task(settings.key)
    return None if task.size is None else default_split(task, task.size)


def _load(settings: str, words: tuple[str, ...]) -> tuple[Student | None, bool]:
    return student_without_network(StudentSettings.model_validate_json(settings), words or None)


@functools.lru_cache(maxsize=64)
def _stored(path: str) -> StoredCompletions:
    return StoredCompletions(path)


@functools.lru_cache(maxsize=128)
def _imported(path: str, task: TaskSettings, scoring: Scoring, template: Template, own_answer: bool) -> PairTable:
    """The pairs that a file of completions will become; those whose texts are wanted become so again."""
    data, file = load_task(task), _stored(path)
    prefix = get_template(file.metadata.get("prediction_template") or "zs_cot").answer_prefix

    def pairs_of(rows: Iterable[Completion]) -> Iterator[Pair]:
        return rationale_pairs(data, judge(data, rows, prefix, scoring), template, template.prompt, own_answer)

    columns = PairColumns.of(pairs_of(checked(path, file, data.questions)))

    def texts(places: Iterable[int]) -> Iterator[Pair]:
        named = ((int(columns.sample_index[place]), int(columns.completion_index[place])) for place in places)
        for question, group in itertools.groupby(named, key=lambda name: name[0]):
            pairs = {pair.completion_index: pair for pair in pairs_of(file.of(question))}
            yield from (pairs[number] for _, number in group)

    return PairTable(data, columns, texts, scoring)


@functools.lru_cache(maxsize=128)
def _answers(task: TaskSettings, scoring: Scoring, template: Template) -> PairTable:
    data = load_task(task)
    return PairTable.of(data, list(answer_pairs(data, template, template.prompt)), scoring)
