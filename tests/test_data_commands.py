"""The data commands as a user types them, on a task of the user's own and on the upstream files."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from ftcot_jax.cli import main

RECIPE = """
name: sums
task: {{key: {folder}/sums.yaml}}
teacher: {{import: {folder}/completions.json}}
student: {{scratch: {{model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,
          num_attention_heads: 2, num_key_value_heads: 2, max_position_embeddings: 96}}, tokenizer: {tokenizer}}}
sweep: {{axes: [{{arm: [D1, D2], select.diversity: [1, 2]}}]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A task of ten sums, and two completions of each: the first is right where the sum is even."""
    rows = [{"question": f"{n} + 1 ?", "answer": n + 1} for n in range(10)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sums.yaml").write_text("key: sums\nfile: sums.jsonl\nanswer_type: integer\nlicence: CC0\n")
    data = {}
    for n in range(10):
        base = {"sample_index": n, "question": f"{n} + 1 ?", "answer": str(n + 1), "reasoning_prompt": "p"}
        ends = {"reasoning_finish_reason": "stop", "prompt": "p", "finish_reason": "stop"}
        said = [n + n % 2, n + 1]
        data[str(n)] = [
            base | ends | {"completion_index": c, "reasoning_completion": f"{n} + 1 = {s}", "completion": f" {s}."}
            for c, s in enumerate(said)
        ]
    metadata = {"dataset_key": f"{tmp_path}/sums.yaml", "prediction_template": "zs_cot", "base_model": "m"}
    (tmp_path / "completions.json").write_text(json.dumps({"metadata": metadata, "data": data}))
    return tmp_path


def ftcot(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    monkeypatch.setattr(sys, "argv", ["ftcot", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code or 0) == code, said.err
    return said.out if code == 0 else said.err


def test_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ftcot(monkeypatch, capsys, "data", "list").splitlines()
    keys = [line.partition(":")[0] for line in lines]
    assert keys == [
        "single_eq",
        "addsub",
        "multiarith",
        "gsm8k",
        "aqua",
        "svamp",
        "date_understanding",
        "tracking_shuffled_objects",
        "last_letter_concatenation",
        "coin_flip",
        "commonsense_qa",
        "strategy_qa",
        "weekday_tracking",
    ]
    assert "97721 questions; answers: choice A to E; licence: Apache-2.0; Ling et al., ACL 2017" in lines[4]


def test_export_of_an_own_task(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ftcot(monkeypatch, capsys, "data", "export", str(folder / "sums.yaml"), "--to", str(folder / "new" / "place"))
    written = json.loads((folder / "new" / "place" / "sums.json").read_text())
    assert written["metadata"] == {"dataset_key": "sums"}
    assert written["data"][3] == {"sample_index": 3, "question": "3 + 1 ?", "answer": "4"}
    split = json.loads((folder / "new" / "place" / "sums__default.json").read_text())
    assert sorted(split["train"] + split["test"]) == list(range(10))
    assert len(split["train"]) == 7


def test_export_of_everything_equals_the_authors_files(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = str(shared / "data/upstream")
    ftcot(monkeypatch, capsys, "data", "export", "--all", "--to", str(tmp_path), "--mirror", mirror)
    ftcot(
        monkeypatch, capsys, "data", "export", "--all", "--split", "template", "--to", str(tmp_path), "--mirror", mirror
    )
    theirs = {path.name: json.loads(path.read_text()) for path in (shared / "data/upstream").rglob("split/*.json")}
    assert len(theirs) == 13
    assert {name: json.loads((tmp_path / name).read_text()) for name in theirs} == theirs
    expected = json.loads((shared / "data/expected_samples.json").read_text())
    for key, sample in expected.items():
        written = json.loads((tmp_path / f"{key}.json").read_text())
        assert (written["metadata"]["dataset_key"], len(written["data"])) == (key, sample["count"])
        assert [written["data"][row["sample_index"]] for row in sample["samples"]] == sample["samples"]
    assert len(expected) == 11
    assert (tmp_path / "date_understanding__template.json").is_file()


def test_overlap(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = ftcot(monkeypatch, capsys, "data", "overlap", str(folder / "sums.yaml"))
    assert said.splitlines()[-1] == "| sums | 3 | 0 | 3 | 0 |"


def test_score(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(folder / "completions.json")
    said = ftcot(monkeypatch, capsys, "data", "score", file, "--part", "all")
    assert "| sums | 10 of 10 | 20 | 75.00 | 53.1 - 88.8 | 75.00 | 100.00 | 100.00 |" in said
    assert "paper" in ftcot(monkeypatch, capsys, "data", "score", file, "--scoring", "x", code=2)


def test_completions_as_json_and_parquet(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = folder / "sums_recipe.yaml"
    recipe.write_text(RECIPE.format(folder=folder, tokenizer="nowhere"))
    common = ["data", "completions", str(recipe), "--out", str(folder / "out")]
    assert "20 completions" in ftcot(monkeypatch, capsys, *common, "--to", str(folder / "c.json"))
    assert (
        json.loads((folder / "c.json").read_text())["data"]
        == json.loads((folder / "completions.json").read_text())["data"]
    )
    ftcot(monkeypatch, capsys, *common, "--to", str(folder / "c.parquet"))
    assert pyarrow.parquet.read_table(folder / "c.parquet").num_rows == 20
    assert ".json or .parquet" in ftcot(monkeypatch, capsys, *common, "--to", str(folder / "c.csv"), code=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["metadata"].pop("dataset_key"), "have no 'dataset_key'; say --task"),
        (lambda c: c["metadata"].update(dataset_key="smus"), "completions.json: task.key: no task is called 'smus'"),
        (lambda c: c["metadata"].update(prediction_template="zs_ct"), "prediction_template is 'zs_ct'; it can be null"),
        (lambda c: c.update(metadata=[1]), "'metadata' is '[1]', not an object"),
        (lambda c: c["data"].update({"0": None}), "data['0']: not a list of rows"),
        (lambda c: c["data"]["3"][0].update(question="3+2 ?"), "its question is '3+2 ?' and the task's is '3 + 1 ?'"),
        (lambda c: c["data"]["3"][0].update(sample_index=4), "data['3'], row 0: its sample_index is 4"),
        (lambda c: c["data"]["3"][0].pop("completion"), "data['3'], row 0: 'completion' is missing"),
    ],
)
def test_completions_that_cannot_be_scored(
    change: Callable[[Any], object],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = json.loads((folder / "completions.json").read_text())
    change(content)
    (folder / "completions.json").write_text(json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["ftcot", "data", "score", str(folder / "completions.json")])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code in (1, 2)
    assert message in said.err
    assert not said.out


def test_the_tasks_own_answers_count_and_a_task_may_be_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((folder / "completions.json").read_text())
    del content["metadata"]["dataset_key"]
    for rows in content["data"].values():
        rows[0]["answer"] = "999"
    (folder / "completions.json").write_text(json.dumps(content))
    words = ["data", "score", str(folder / "completions.json"), "--part", "all", "--task", str(folder / "sums.yaml")]
    assert "| 10 of 10 | 20 | 75.00 |" in ftcot(monkeypatch, capsys, *words)


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "name some tasks, or say --all"), (["x", "--all"], "name some")]
)
def test_export_wants_tasks(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert message in ftcot(monkeypatch, capsys, "data", "export", *arguments, "--to", str(tmp_path), code=2)


def test_pairs_for_other_trainers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import PreTrainedTokenizerFast

    from ftcot_jax.students.word_tokenizer import word_tokenizer

    words = sorted({"+", "=", "?", "###", "-->", *map(str, range(12))})
    tokenizer = word_tokenizer(words)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    tokenizer.save_pretrained(folder / "tokenizer")
    recipe = folder / "sums_recipe.yaml"
    recipe.write_text(RECIPE.format(folder=folder, tokenizer=folder / "tokenizer"))
    common = ["data", "pairs", str(recipe), "--to", str(folder / "to"), "--out", str(folder / "out")]
    said = ftcot(monkeypatch, capsys, *common, "--form", "parquet")
    rows = pyarrow.parquet.read_table(folder / "to" / "D2.parquet").to_pylist()
    assert f"{len(rows)} pairs" in said
    ftcot(monkeypatch, capsys, "data", "export", str(folder / "sums.yaml"), "--to", str(folder))
    train = json.loads((folder / "sums__default.json").read_text())["train"]
    assert {row["sample_index"] for row in rows} == set(train)
    assert all(row["correct"] for row in rows)
    ftcot(monkeypatch, capsys, *common, "--form", "openai-completion")
    first = json.loads((folder / "to" / "D1.jsonl").read_text().splitlines()[0])
    assert first["completion"].endswith(" END")
    shown = ftcot(monkeypatch, capsys, "data", "show", str(recipe), "--count", "1", "--out", str(folder / "out"))
    first = re.search(
        r"record \d+: question (\d+), completion [01], right; 5 \+ 8 tokens\n(.*)⟦(.*)⟧", shown.split("D2:")[1]
    )
    assert first is not None
    number = int(first[1])
    assert first[2] == f"{number} + 1 ? ###"
    assert first[3] == f"{number} + 1 = {number + 1} --> {number + 1}END"
    assert "openai-chat" in ftcot(monkeypatch, capsys, *common, "--form", "csv", code=2)
