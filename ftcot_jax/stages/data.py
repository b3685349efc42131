"""From questions to token records: sample or import, curate, tokenize, select."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from ftcot_jax.artifacts import Artifact
from ftcot_jax.config import Recipe, TrialRecipe
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.progress import say, show_progress
from ftcot_jax.rationales.judge import judge
from ftcot_jax.rationales.pair_file import open_pairs, write_pairs
from ftcot_jax.rationales.pair_table import PairTable
from ftcot_jax.rationales.pairs import answer_pairs, rationale_pairs
from ftcot_jax.rationales.select import Selection, select
from ftcot_jax.records.builder import read_records, write_records
from ftcot_jax.records.manifest import Made
from ftcot_jax.records.table import RecordTable
from ftcot_jax.records.tokenize import tokenize_pairs
from ftcot_jax.stages.place import Place, digest, read_task, run_folder
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.scoring import Scoring
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.task import TaskData
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import Completion, StoredCompletions, checked, write_completions
from ftcot_jax.teacher.estimate import Estimate, estimate
from ftcot_jax.teacher.export import export
from ftcot_jax.teacher.money import bill
from ftcot_jax.teacher.plan import PromptPlan, plan_of
from ftcot_jax.teacher.sampler import Sampled, sample
from ftcot_jax.teacher.settings import TeacherSettings

COMPLETIONS = "completions.json"
PAIRS = "pairs.jsonl"
COLUMNS = "columns"


@dataclasses.dataclass(frozen=True)
class TrialRecords:
    """What a trial trains on: the records artefact, its table, and the chosen record numbers."""

    artifact: Artifact
    table: RecordTable
    selection: Selection


def collect_completions(place: Place, recipe: Recipe) -> Artifact:
    """The teacher's completions of the training questions: sampled, or imported from a published file.

    Raises:
      UsageError: the recipe names no teacher.
    """
    data, teacher = place.task(recipe), recipe.teacher
    if data.missing:
        place.say(f"{data.task.key}: without {data.missing}")
    if teacher is None:
        raise UsageError(f"{recipe.name}: template {recipe.template} learns from rationales; give a teacher: section")
    content = _import_digest(teacher.import_path) if teacher.import_path else None
    inputs = {
        "teacher": teacher.identity(),
        "diversity": None if content else teacher.diversity,
        "file": content,
        "task": data.task.key,
        "questions": _identity(data),
    }

    def build(folder: epath.Path) -> dict[str, Any]:
        metadata = {
            "base_model": teacher.model_name,
            "dataset_key": data.task.key,
            "prediction_template": teacher.template,
        }
        completions: Iterable[Completion]
        account: dict[str, Any] = {}
        if teacher.import_path:
            file = StoredCompletions(teacher.import_path)
            metadata |= file.metadata
            completions = checked(teacher.import_path, file, data.questions)
        else:
            completions, account = _buy(place, recipe, teacher)
        written = write_completions(folder / COMPLETIONS, metadata, completions)
        return {"completions": written.completions, "questions": written.questions, **account}

    with place.timed("sample"):
        return place.store.make("completions", inputs, build)


def export_completions(recipe: Recipe, specs: Sequence[TrialRecipe], to: Path) -> int:
    """Writes a recipe's completions to a .json or .parquet file; returns how many.

    Raises:
      UsageError: the trials have different teachers or tasks, or the file is of another kind.
    """
    place = Place(run_folder(recipe), say)
    found = {artifact.name: artifact for artifact in (collect_completions(place, spec.recipe) for spec in specs)}
    if len(found) > 1:
        raise UsageError(f"{recipe.name}: its trials have {len(found)} sets of completions; override what differs")
    (artifact,) = found.values()
    file = StoredCompletions(artifact.on_disk(COMPLETIONS))
    return export(to, file.metadata, file)


def curate(place: Place, recipe: Recipe) -> Artifact:
    """The training pairs of text, every completion with its verdict; nothing is filtered yet."""
    data, asking = place.task(recipe), place.asking(recipe)
    template = asking.template
    source = collect_completions(place, recipe) if template.has_rationale else None
    own_answer = recipe.select.filter == "majority"
    inputs = {
        "completions": None if source is None else source.address,
        "task": data.task.key,
        "questions": _identity(data),
        "template": dataclasses.asdict(template),
        "rendered": asking.prompt_of("{question}"),
        "scoring": recipe.scoring,
        "own_answer": own_answer,
    }

    def build(folder: epath.Path) -> dict[str, Any]:
        if source is None:
            made = write_pairs(folder / PAIRS, folder / COLUMNS, answer_pairs(data, template, asking.prompt_of))
            return {"pairs": len(made)}
        file = StoredCompletions(source.on_disk(COMPLETIONS))
        prefix = get_template(file.metadata.get("prediction_template") or "zs_cot").answer_prefix
        judged = judge(data, file, prefix, recipe.scoring)
        pairs = rationale_pairs(data, judged, template, asking.prompt_of, own_answer)
        made = write_pairs(folder / PAIRS, folder / COLUMNS, pairs)
        return {"pairs": len(made), "right": int(made.correct.sum()), "of_other_questions": len(file) - len(made)}

    with place.timed("curate"):
        return place.store.make("pairs", inputs, build)


def pair_table(place: Place, recipe: Recipe) -> PairTable:
    """The recipe's pairs; what selections ask of them is read once, however many trials select."""
    made = curate(place, recipe)
    return _open_pair_table(str(made.on_disk(PAIRS)), str(made.on_disk(COLUMNS)), recipe.task, recipe.scoring)


def tokenize(place: Place, recipe: Recipe) -> Artifact:
    """The pairs as token records, for the student's tokenizer."""
    student, source = place.student(recipe), curate(place, recipe)
    inputs = {
        "pairs": source.address,
        "tokenizer": _made(place, recipe).tokenizer,
        "context": student.context_length,
        "settings": recipe.records.model_dump(),
    }

    def build(folder: epath.Path) -> dict[str, Any]:
        pairs = pair_table(place, recipe)
        texts = pairs.texts(range(len(pairs)))
        made = tokenize_pairs(texts, student.encode, student.eos_id, student.context_length, recipe.records)
        if not len(made.table):
            raise FtcotError(
                f"none of {len(pairs)} pairs of {place.task(recipe).task.key} became a record ({made.too_long} too "
                "long); check the completions and records.max_length"
            )
        write_records(folder / "records", made.table, _made(place, recipe))
        return {
            "records": len(made.table),
            "too_long": made.too_long,
            "tokens": len(made.table.tokens),
            "longest": int(made.table.lengths.max()),
        }

    with place.timed("tokenize"):
        return place.store.make("records", inputs, build)


def trial_records(place: Place, recipe: Recipe) -> TrialRecords:
    """The records a trial trains on.

    Raises:
      FtcotError: the selection is empty.
    """
    artifact = tokenize(place, recipe)
    with place.timed("tokenize"):
        table = _read_table(str(artifact.on_disk("records")), _made(place, recipe).model_dump_json())
        pairs = pair_table(place, recipe)
        number_N = record_numbers(table, pairs)
        selection = select(pairs, recipe.select, fits=number_N >= 0)
    return TrialRecords(artifact, table, Selection(number_N[selection.chosen], selection.report))


def record_numbers(table: RecordTable, pairs: PairTable) -> np.ndarray:
    """(N,) the record of each pair; -1 of one that became none, for its length."""
    asked = pairs.columns
    several = 1 + max(table.completion_index.max(), asked.completion_index.max(initial=0))
    asked_N = asked.sample_index * several + asked.completion_index
    there = table.sample_index * several + table.completion_index
    order = np.argsort(there, kind="stable")
    found_N = order[np.minimum(np.searchsorted(there, asked_N, sorter=order), len(there) - 1)]
    return np.where(there[found_N] == asked_N, found_N, -1)


def _buy(place: Place, recipe: Recipe, teacher: TeacherSettings) -> tuple[Iterable[Completion], dict[str, Any]]:
    """The completions, and what the ledger says of them."""
    data = place.task(recipe)
    if teacher.loopback is None:
        place.keep_at_home(
            "what a teacher sells",
            f"run `ftcot sample` with --out FOLDER on one machine and set teacher.import to its {COMPLETIONS}",
        )
    ledger = _ledger(place)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    plan = _plan(place, recipe, teacher)

    def tell(line: str) -> None:
        place.say(f"sample: {line}")

    with show_progress("sample") as update:
        if teacher.batch is not None:
            from ftcot_jax.teacher.batch_api import sample_by_batch  # the API's package is slow to import

            files = place.local / "batches" / digest(teacher.identity())
            sampled: Sampled = sample_by_batch(
                teacher, teacher.batch, _asked(data), ledger, files, update, plan=plan, dataset=data.task.key, say=tell
            )
        else:
            sampled = sample(
                teacher,
                _asked(data),
                ledger,
                lambda tally: update(tally.done, tally.total, tally.note),
                plan=plan,
                dataset=data.task.key,
                say=tell,
            )
    if sampled.refused:
        index, reason = next(iter(sampled.refused.items()))
        place.say(f"sample: the teacher refused {len(sampled.refused)} questions, the first {index}: {reason}")
    if teacher.loopback is None:
        for line in bill(sampled.report, sampled.account):
            place.say(f"sample: {line}")
    return sampled.completions, {"refused": len(sampled.refused)}


def purchases(place: Place, recipes: Iterable[Recipe]) -> dict[str, Estimate]:
    """What `collect_completions` would buy for these recipes, each purchase once and named; nothing is sent."""
    found: dict[str, tuple[str, Estimate]] = {}
    for recipe in recipes:
        data, teacher = place.task(recipe), recipe.teacher
        if teacher is not None and not teacher.import_path:
            key = digest(teacher.identity(), teacher.diversity, _identity(data))
            if key not in found:
                plan = _plan(place, recipe, teacher)
                bought = estimate(teacher, _asked(data), _ledger(place), plan=plan, dataset=data.task.key)
                name = f"{data.task.key}, {teacher.model_name}, D={teacher.diversity}, seed {teacher.seed}"
                found[key] = (name, bought)
    return {f"{name} ({key})" if _is_twice(name, found) else name: bought for key, (name, bought) in found.items()}


def _is_twice(name: str, found: dict[str, tuple[str, Estimate]]) -> bool:
    return [known for known, _ in found.values()].count(name) > 1


def estimate_sampling(place: Place, recipes: Iterable[Recipe]) -> str:
    """`purchases` for a person."""
    lines = [[f"{name}:", *bought.lines()] for name, bought in purchases(place, recipes).items()]
    return "\n".join("\n  ".join(part) for part in lines) or "nothing is sampled"


def _plan(place: Place, recipe: Recipe, teacher: TeacherSettings) -> PromptPlan:
    """How the teacher is asked: as the paper's OpenAI models were, or in a chat's words."""
    template = get_template(teacher.template, "chat" if teacher.api == "chat" else "api")
    return plan_of(template.with_exemplars(place.exemplars(recipe).text) if template.needs_exemplars else template)


def _ledger(place: Place) -> Path:
    return place.local / "ledger.sqlite"


def _asked(data: TaskData) -> list[Question]:
    return sorted(data.of(data.split.train), key=lambda question: question.sample_index)


def _import_digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"teacher.import: {path}: cannot be read ({error.strerror})") from error


def _identity(data: TaskData) -> str:
    """Digest of all questions and of the split."""
    questions = data.questions.values()
    asked = ((question.sample_index, question.question, question.answer) for question in questions)
    return digest(asked, iter(data.split.train), iter(data.split.test))


@functools.lru_cache(maxsize=64)
def _open_pair_table(file: str, columns: str, task: TaskSettings, scoring: Scoring) -> PairTable:
    return PairTable(read_task(task), *open_pairs(file, columns), scoring)


@functools.lru_cache(maxsize=64)
def _read_table(folder: str, made: str) -> RecordTable:
    return read_records(epath.Path(folder), Made.model_validate_json(made))


def _made(place: Place, recipe: Recipe) -> Made:
    """What the recipe's records are made with."""
    student = place.student(recipe)
    tokenizer = digest(student.tokenizer.backend_tokenizer.to_str(), student.eos_id)
    template = json.loads(json.dumps(dataclasses.asdict(place.template(recipe))))
    return Made(tokenizer=tokenizer, template=template)
