"""Records as a person reads them: the text of their tokens, with what is learned marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ftcot_jax.config import Recipe, TrialRecipe
from ftcot_jax.progress import say
from ftcot_jax.stages.data import trial_records
from ftcot_jax.stages.place import Place, run_folder


def show(recipe: Recipe, specs: Sequence[TrialRecipe], count: int) -> Iterator[str]:
    """Yields the first `count` records that each trial trains on; label tokens are between ⟦ and ⟧."""
    place = Place(run_folder(recipe), say)
    for spec in specs:
        student, records = place.student(spec.recipe), trial_records(place, spec.recipe)
        table, chosen = records.table, records.selection.chosen
        yield f"{spec.name}: {len(chosen)} records of {len(table)} in {records.artifact.path}"
        for number in chosen[:count]:
            tokens, prompt = table.record(number), int(table.prompt_lengths[number])
            asked, learned = student.decode([tokens[:prompt].tolist(), tokens[prompt:-1].tolist()])
            end = student.tokenizer.convert_ids_to_tokens(int(tokens[-1]))
            verdict = "right" if table.correct[number] else "wrong"
            yield (
                f"record {number}: question {table.sample_index[number]}, completion {table.completion_index[number]}, "
                f"{verdict}; {prompt} + {len(tokens) - prompt} tokens\n{asked}⟦{learned}{end}⟧"
            )
