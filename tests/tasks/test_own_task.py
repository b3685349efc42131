"""A user's own task: questions in a file, a few lines of YAML, and one line for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.splits import default_split

DEFINITION = "key: riddles\nfile: riddles.jsonl\nanswer_type: choice\nchoices: [A, B]\nlicence: CC0\n"


def write(folder: Path, rows: list[object] | str, definition: str = DEFINITION, name: str = "riddles.jsonl") -> str:
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(text)
    (folder / "riddles.yaml").write_text(definition)
    return str(folder / "riddles.yaml")


def test_questions_answers_and_the_default_split(tmp_path: Path) -> None:
    key = write(tmp_path, [{"question": f"q{n}\u2028?", "answer": "AB"[n % 2]} for n in range(10)])
    data = load_task(TaskSettings(key=key))
    assert (data.task.key, data.task.choices, data.task.licence) == ("riddles", ("A", "B"), "CC0")
    assert (data.questions[3].question, data.questions[3].answer) == ("q3\u2028?", "B")
    assert data.split == default_split(data.task, 10)


def test_rows_may_state_their_split_and_numbers_become_text(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": 3, "split": "train"}, {"question": "b", "answer": 2.5, "split": "test"}]
    definition = "key: sums\nfile: riddles.jsonl\nanswer_type: float\n"
    data = load_task(TaskSettings(key=write(tmp_path, rows, definition)))
    assert [question.answer for question in data.questions.values()] == ["3", "2.5"]
    assert (data.split.train, data.split.test) == ((0,), (1,))


def test_the_authors_json_is_a_task_too(tmp_path: Path) -> None:
    rows = [{"sample_index": n, "question": f"q{n}", "answer": "A"} for n in range(4)]
    content = json.dumps({"metadata": {"dataset_key": "riddles"}, "data": rows})
    key = write(tmp_path, content, DEFINITION.replace(".jsonl", ".json"), "riddles.json")
    assert len(load_task(TaskSettings(key=key)).questions) == 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('{"question": "q", "answer"', r"riddles\.jsonl, line 1: not JSON"),
        (
            [{"question": "q", "answer": "A"}, {"question": " ", "answer": "A"}],
            "line 2: a row is an object with a text",
        ),
        ([["q", "A"]], "line 1: a row is an object"),
        ([{"question": "q", "answer": "C"}], r"line 1: answer 'C' is not one of its choices A, B"),
        ([{"question": "q", "answer": None}], "line 1: 'answer' is None"),
        ([{"question": "q", "answer": "A", "sample_index": 0}] * 2, "line 2: sample_index 0 is there twice"),
        ([{"question": "q", "answer": "A", "sample_index": -1}], "line 1: sample_index is -1"),
        ([{"question": "q", "answer": "A", "sample_index": 7}], "must run from 0 to 0"),
        ([{"question": "q", "answer": "A", "split": "dev"}], "line 1: split is 'dev'; it can be train, test"),
        ([{"question": "q", "answer": "A", "split": "test"}, {"question": "r", "answer": "A"}], "1 has no 'split'"),
        ([{"question": "q", "answer": "A", "anser": "B"}], "line 1: unknown 'anser'"),
        ([], "no questions in it"),
        ('{"question": "q", "answer": "A", "answer": "B"}', "from line 1: 'answer' is there twice"),
        ('{"question": "q", "answer": ' + "[" * 9000, "line 1"),
        ('{"question": "q", "answer": ' + "1" * 5000 + "}", "from line 1: Exceeds the limit"),
    ],
)
def test_a_bad_row_is_named(rows: list[object] | str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FtcotError, match=message):
        load_task(TaskSettings(key=write(tmp_path, rows)))


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("key: [", "riddles.yaml: not YAML"),
        ("key: a\nfile: riddles.jsonl\nanswer_type: number\n", "answer_type: Input should be 'integer', 'float'"),
        ("key: a\nfile: riddles.jsonl\nanswer_type: choice\n", "answer types choice and word need choices"),
        ("key: a\nfile: riddles.jsonl\nanswer_type: text\nchoices: [A]\n", "and no other type has any"),
        ("key: a\nfile: riddles.jsonl\nanswer_type: choice\nchoices: [yes, no]\n", "choices"),
        ("key: a\nfile: riddles.jsonl\nanswer_type: choice\nchoices: [red, blue]\n", "are capital letters, such as"),
        (
            "key: a\nfile: riddles.jsonl\nanswer_type: text\nlicense: MIT\n",
            r"unknown key 'license' \(did you mean 'licence'\?\)",
        ),
        ("key: a\nfile: riddles.jsonl\nanswer_type: choice\nchoices: [A]\n", "choices are two or more, all different"),
        ("key: a\nfile: riddles.jsonl\nanswer_type: word\nchoices: [yes, no]\n", "quote them"),
        ("key: a\nfile: riddles.jsonl\nanswer_type: word\nchoices: [new york, x]\n", "single words of letters"),
        ("key: gsm8k\nfile: riddles.jsonl\nanswer_type: text\n", "there is a task 'gsm8k' already"),
        ("key: a\nkey: b\nfile: riddles.jsonl\nanswer_type: text\n", "'key' is there twice, line 1"),
        ("file: riddles.jsonl\nanswer_type: text\n", "riddles.yaml: 'key' is missing"),
        ("", "riddles.yaml: must be a mapping of keys to values, and is empty"),
        ("[1]", "must be a mapping of keys to values, and is a list"),
        ("key: A b\nfile: riddles.jsonl\nanswer_type: text\n", "key: String should match pattern"),
    ],
)
def test_a_bad_definition_is_named(definition: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FtcotError, match=message):
        load_task(TaskSettings(key=write(tmp_path, [{"question": "q", "answer": "A"}], definition)))


@pytest.mark.parametrize(
    ("answer", "gold"), [(1.0, "1"), ("1,000", "1,000"), (18.5, None), ("1e3", None), ("+5", None), (" 18 ", "18")]
)
def test_whole_numbers_in_digits(answer: object, gold: str | None, tmp_path: Path) -> None:
    definition = "key: sums\nfile: riddles.jsonl\nanswer_type: integer\n"
    key = write(tmp_path, [{"question": "q", "answer": answer}], definition)
    if gold is None:
        with pytest.raises(FtcotError, match=r"line 1: answer .* is not a whole number in digits"):
            load_task(TaskSettings(key=key))
    else:
        assert load_task(TaskSettings(key=key)).questions[0].answer == gold


def test_other_encodings(tmp_path: Path) -> None:
    key = write(tmp_path, [{"question": "q", "answer": "A"}])
    file = tmp_path / "riddles.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load_task(TaskSettings(key=key)).questions[0].question == "q"
    file.write_bytes('{"question": "é", "answer": "A"}'.encode("latin-1"))
    with pytest.raises(FtcotError, match=r"riddles\.jsonl: not UTF-8 text \(byte 14\)"):
        load_task(TaskSettings(key=key))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"task\.key: .*none\.yaml: cannot be read"):
        load_task(TaskSettings(key=str(tmp_path / "none.yaml")))
    key = write(tmp_path, [])
    (tmp_path / "riddles.jsonl").unlink()
    with pytest.raises(UsageError, match=r"riddles\.jsonl: cannot be read"):
        load_task(TaskSettings(key=key))
