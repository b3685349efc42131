"""Who trains on the records that ``ftcot bench records`` makes: a recipe's student, or one of GPT-2's shape."""

from __future__ import annotations

from ftcot_jax.bench.record_road import Wanted
from ftcot_jax.config import load_recipe
from ftcot_jax.errors import UsageError
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.templates import get_template


def who_trains(tokenizer: str | None, recipe: str | None) -> Wanted:
    """A student of GPT-2's shape with that tokenizer, or a recipe's, of its first trial with rationales.

    Args:
      tokenizer: a tokenizer's folder.
      recipe: a recipe's file, in place of it.

    Raises:
      UsageError: both are given or neither, or the student is asked by chat.
    """
    if recipe is not None and tokenizer is None:
        return _of_recipe(recipe)
    if tokenizer is None or recipe is not None:
        raise UsageError("bench records: give --tokenizer or --recipe, one of the two")
    settings = StudentSettings(scratch={"model_type": "gpt2"}, tokenizer=tokenizer)
    return Wanted(load_student(settings), get_template("ft_cot_token"))


def _of_recipe(recipe: str) -> Wanted:
    trials = [trial.recipe for trial in load_recipe(recipe)[1]]
    first = next((trial for trial in trials if get_template(trial.template).has_rationale), trials[0])
    if first.chat:
        raise UsageError(f"{recipe}: a student that is asked by chat is not measured; set chat=false in a copy")
    own = first.own_student
    words = load_task(first.task).vocabulary if own.scratch is not None and own.tokenizer is None else None
    student = load_student(own, words or None)
    records = first.records.model_copy(update={"too_long": "drop"})
    return Wanted(student, get_template(first.template, student.kind), first.scoring, records, first.train.batch)
