"""Selections from columns: the same as from all of the pairs, in memory and on disk, today's runs and older ones."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.pair_file import open_pairs, write_pairs
from ftcot_jax.rationales.pair_table import PairTable
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.rationales.select import sieve
from ftcot_jax.rationales.settings import SelectSettings
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.registry import TASKS
from ftcot_jax.tasks.scoring import Scoring
from ftcot_jax.tasks.task import Split, TaskData
from tests.rationales.plain_selection import plain_selection

TEXTS = {0: "Ann has 3.", 1: "Bob has 4.", 2: "Is it?", 3: "Why?", 8: "bob  has 4.", 9: "Cy has 5."}
QUESTIONS = {index: Question(index, text, "7") for index, text in TEXTS.items()}
RATIONALES = ("3 + 4 = 7.", "So 3+4=7", "Seven", "seven !", " Seven", "", "3-4=7 \ud800 é", "3+4=7. 2*2=4", "4 x 1=4")
PREDICTIONS = (None, "7", "7.0", "7.000001", "8", "", "\udfffé", "7,0")
ROWS = st.lists(
    st.builds(
        Pair,
        sample_index=st.integers(0, 4),
        completion_index=st.integers(0, 6),
        prompt=st.sampled_from(["q", "p\u2028"]),
        label=st.just("l"),
        correct=st.booleans(),
        rationale=st.sampled_from(RATIONALES),
        answer=st.sampled_from(["7", "7", ""]),
        prediction=st.sampled_from(PREDICTIONS),
    ),
    max_size=24,
    unique_by=lambda pair: (pair.sample_index, pair.completion_index),
)
SETTINGS = st.fixed_dictionaries(
    {
        "max_questions": st.sampled_from([None, 2]),
        "decontaminate": st.sampled_from(["no", "text", "template"]),
        "diversity": st.none() | st.integers(1, 7),
        "filter": st.sampled_from(["answer", "none", "majority"]),
        "majority_share": st.sampled_from([0.25, 0.5, 1.0]),
        "min_words": st.sampled_from([None, 1, 2]),
        "max_words": st.sampled_from([None, 2, 5]),
        "duplicates": st.sampled_from(["keep", "exact", "near"]),
        "per_question": st.none() | st.integers(1, 3),
        "balance": st.booleans(),
    }
).map(lambda fields: SelectSettings(**fields))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


def forms(data: TaskData, pairs: list[Pair], scoring: Scoring, folder: Path) -> dict[str, PairTable]:
    """One table a way in which pairs are kept."""
    mixed = random.Random(0).sample(pairs, len(pairs))
    shutil.rmtree(folder)
    folder.mkdir()
    write_pairs(folder / "now.jsonl", folder / "now", pairs)
    write_pairs(folder / "mixed.jsonl", folder / "mixed", mixed)
    return {"memory": PairTable.of(data, pairs, scoring)} | {
        name: PairTable(data, *open_pairs(folder / f"{lines}.jsonl", folder / columns), scoring)
        for name, lines, columns in (("now", "now", "now"), ("older", "now", "-"), ("mixed", "mixed", "mixed"),
                                     ("older and mixed", "mixed", "-"))
    }  # fmt: skip


@given(
    pairs=ROWS,
    settings=SETTINGS,
    task=st.sampled_from(["multiarith", "aqua", "commonsense_qa", "svamp"]),
    scoring=st.sampled_from(["paper", "robust"]),
    misfits=st.sets(st.integers(0, 23), max_size=4),
)
def test_what_is_selected_is_what_it_was(
    pairs: list[Pair], settings: SelectSettings, task: str, scoring: Scoring, misfits: set[int], scratch: Path
) -> None:
    pairs.sort(key=lambda pair: (pair.sample_index, pair.completion_index))
    data = TaskData(TASKS[task], QUESTIONS, Split((0, 1, 2, 3), (8, 9)))
    fits = [place not in misfits for place in range(len(pairs))]
    if settings.filter == "majority" and TASKS[task].answer_type in ("integer", "float"):  # what their scorer finds
        numbers = {"\udfffé": None, "": None, "7,0": "70"}
        pairs = [
            dataclasses.replace(pair, prediction=numbers.get(str(pair.prediction), pair.prediction)) for pair in pairs
        ]
    chosen, taken = plain_selection(data, pairs, scoring, settings, fits)
    for name, table in forms(data, pairs, scoring, scratch).items():
        for _ in range(2):  # the second time from what is kept
            found = sieve(table, settings, np.array(fits, bool))
            assert found.chosen.tolist() == chosen, name
            assert {reason: taken[reason] for reason in taken} == {
                reason: count
                for reason, count in dataclasses.asdict(found.report).items()
                if count and reason not in ("pairs", "repeated", "questions", "covered")
            }
        assert list(table.texts(found.chosen)) == [pairs[place] for place in chosen]


def test_the_lines_are_as_they_were_before_there_were_columns(tmp_path: Path) -> None:
    pairs = [Pair(0, 1, "q\n", "é", True, "half \ud800", "7"), Pair(3, 0, "r", "l", False)]
    made = write_pairs(tmp_path / "a.jsonl", tmp_path / "a", pairs)
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [dataclasses.asdict(pair) for pair in pairs]
    assert lines[1] == (
        '{"sample_index": 3, "completion_index": 0, "prompt": "r", "label": "l", "correct": false, "rationale": "", '
        '"answer": "", "prediction": null}'
    )
    assert (made.words.tolist(), made.correct.tolist(), len(made)) == ([2, 0], [True, False], 2)
    assert [made.prediction(place) for place in range(2)] == [None, None]


@pytest.mark.parametrize("harm", ["{}", "[]", '{"sample_index": 0', '"\udc80"', "\\"])
def test_a_line_that_is_no_pair_is_named(harm: str, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    write_pairs(file, tmp_path / "columns", [Pair(0, n, "p", "l", True) for n in range(3)])
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + harm.encode(errors="surrogateescape").ljust(len(lines[1]) - 1) + b"\n" + lines[2])
    message = r"pairs.jsonl, row 1: not a pair \(.*\); delete its folder to make it again"
    with pytest.raises(FtcotError, match=message):
        open_pairs(file, tmp_path / "none")
    columns, texts = open_pairs(file, tmp_path / "columns")
    assert [pair.completion_index for pair in texts([2, 0])] == [2, 0]
    with pytest.raises(FtcotError, match=message):
        list(texts(range(len(columns))))


@pytest.mark.parametrize("older", [False, True])
def test_texts_are_not_held(older: bool, tmp_path: Path) -> None:
    count, folder = 2000, tmp_path / ("none" if older else "columns")
    pairs = (Pair(n // 8, n % 8, "p" * 1000, "l" * 1000, True, f"r {n % 5}" * 300, "7", "7") for n in range(count))
    data = TaskData(TASKS["multiarith"], {}, Split(tuple(range(count // 8)), ()))
    settings = SelectSettings(filter="majority", duplicates="near")
    write_pairs(tmp_path / "pairs.jsonl", tmp_path / "columns", pairs)
    tracemalloc.start()
    chosen = sieve(PairTable(data, *open_pairs(tmp_path / "pairs.jsonl", folder)), settings).chosen
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(chosen) == 5 * count // 8
    assert peak < 400_000  # 3 KB a text, 2000 of them
