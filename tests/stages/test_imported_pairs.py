"""What a plan reads of a file of completions: the pairs that curation will make of it, held as columns."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ftcot_jax.rationales.judge import judge
from ftcot_jax.rationales.pairs import rationale_pairs
from ftcot_jax.rationales.select import sieve
from ftcot_jax.rationales.settings import SelectSettings
from ftcot_jax.stages.plan_facts import _imported
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import Completion, read_completions, write_completions
from tests.rationales.plain_selection import plain_selection

TEXTS = ("3 + 4 = 7.", "So 3+4=7!", "Seven.", " seven", "3 + 4 = 8.")


@pytest.mark.parametrize("own_answer", [False, True])
def test_its_pairs_are_those_of_curation_in_any_order(own_answer: bool, tmp_path: Path) -> None:
    rows = [{"question": f"Question {n}?", "answer": "7", "split": "train" if n < 4 else "test"} for n in range(6)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text("key: sevens\nfile: q.jsonl\nanswer_type: integer\n")
    completions = [
        Completion(n, c, f"Question {n}?", "7", "p", TEXTS[(n + c) % 5], "stop", "p", str(6 + (n + c) % 3), "stop")
        for n in (5, 2, 0, 3)
        for c in range(5)
    ]
    file = tmp_path / "c.json"
    write_completions(file, {"prediction_template": "zs_cot"}, completions)
    settings, template = TaskSettings(key=str(tmp_path / "task.yaml")), get_template("ft_cot_token")
    data = load_task(settings)
    judged = judge(data, read_completions(file).completions, "The answer is", "paper")
    pairs = list(rationale_pairs(data, judged, template, template.prompt, own_answer))
    table = _imported(str(file), settings, "paper", template, own_answer)
    assert len(table) == len(pairs) == 15  # question 5 is a test question
    places = [14, 3, 3, 0, 7, 1]
    assert list(table.texts(places)) == [pairs[place] for place in places]
    for select in (SelectSettings(duplicates="near", balance=True), SelectSettings(filter="majority", diversity=3)):
        chosen, taken = plain_selection(data, pairs, "paper", select, [True] * len(pairs))
        found = sieve(table, select)
        assert found.chosen.tolist() == chosen
        assert dataclasses.asdict(found.report).items() >= taken.items()
