"""A recipe's selected pairs, written out for other trainers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ftcot_jax.config import Recipe, TrialRecipe
from ftcot_jax.progress import say
from ftcot_jax.rationales.export import Form, export_pairs
from ftcot_jax.rationales.select import select
from ftcot_jax.stages.data import pair_table
from ftcot_jax.stages.place import Place, run_folder


def export(recipe: Recipe, specs: Sequence[TrialRecipe], form: Form, folder: Path) -> Iterator[tuple[Path, int]]:
    """Writes a file a trial; yields each with its number of pairs."""
    place = Place(run_folder(recipe), say)
    folder.mkdir(parents=True, exist_ok=True)
    for spec in specs:
        table = pair_table(place, spec.recipe)
        pairs = list(table.texts(select(table, spec.recipe.select).chosen))
        name = re.sub(r"[^A-Za-z0-9._=-]+", "_", spec.name)
        yield export_pairs(pairs, table.data.questions, spec.recipe.template, form, folder / name), len(pairs)
