"""Batch files and API students through the recipe, against a server that counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftcot_jax.config import load_recipe
from ftcot_jax.errors import UsageError
from ftcot_jax.stages.run import STAGES
from tests.teacher.api_server import ApiServer

STUDENT = """
student:
  scratch: {model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2,
            num_key_value_heads: 2, max_position_embeddings: 96}
"""


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer().serving() as serving:
        yield serving


def recipe(folder: Path, text: str) -> str:
    rows = [{"question": f"{n} + 1 ?", "answer": n + 1} for n in range(10)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sums.yaml").write_text("key: sums\nfile: sums.jsonl\nanswer_type: integer\n")
    data = {}
    for n in range(10):
        asked = {"sample_index": n, "completion_index": 0, "question": f"{n} + 1 ?", "answer": str(n + 1)}
        said = {"reasoning_prompt": "p", "reasoning_completion": f"{n} + 1 = {n + 1}", "prompt": "p"}
        data[str(n)] = [asked | said | {"completion": f" {n + 1}.", "finish_reason": "stop"}]
    metadata = {"dataset_key": "sums", "prediction_template": "zs_cot"}
    (folder / "completions.json").write_text(json.dumps({"metadata": metadata, "data": data}))
    (folder / "r.yaml").write_text(f"name: r\nout: {folder}/out\ntask: {{key: {folder}/sums.yaml}}\n{text}")
    return str(folder / "r.yaml")


def run(stage: str, file: str, *overrides: str) -> str:
    return STAGES[stage](*load_recipe(file, list(overrides)))


def test_an_api_student_is_trained_once_and_scored(server: ApiServer, tmp_path: Path) -> None:
    text = f"""
teacher: {{import: {tmp_path}/completions.json}}
api_student: {{endpoint: {server.url}, model: babbage-002, poll_seconds: 0.01, settle_seconds: 0.02}}
"""
    file = recipe(tmp_path, text)
    said = run("api_student", file)
    assert "| r | ft:babbage-002" in said
    assert "| 7 | " in said  # seven of ten questions train
    assert sum(server.creations.values()) == 1
    (training,) = [content for name, content in server.contents.items() if b"END" in content]
    first = json.loads(training.splitlines()[0])
    assert first["prompt"].endswith(" + 1 ?\n\n###\n\n")
    assert first["completion"].endswith(" END")
    hits = dict(server.hits)
    assert run("api_student", file) == said
    assert server.hits == hits
    with pytest.raises(UsageError, match="r: its student lives at an API; use `ftcot api-student`"):
        run("train", file)


def test_completions_by_batch_files(server: ApiServer, tmp_path: Path) -> None:
    text = f"""
teacher: {{endpoint: {server.url}, model: m, diversity: 2, batch: {{poll_seconds: 0.01, settle_seconds: 0.02}}}}
{STUDENT}"""
    file = recipe(tmp_path, text)
    assert "'completions': 14, 'questions': 7" in run("sample", file)
    assert len(server.batches) == 2  # texts, then answers
    assert set(server.bought.values()) == {1}
    assert "'completions': 21" in run("sample", file, "teacher.diversity=3")
    assert set(server.bought.values()) == {1}


def test_trials_that_differ_in_their_seed_share_what_was_bought(server: ApiServer, tmp_path: Path) -> None:
    text = (
        f"teacher: {{endpoint: {server.url}, model: m, diversity: 2}}\n{STUDENT}sweep: {{axes: [{{seed: [1, 2, 3]}}]}}"
    )
    _, trials = load_recipe(recipe(tmp_path, text))
    assert {trial.recipe.teacher.seed for trial in trials if trial.recipe.teacher} == {0}
    assert [trial.recipe.train.seed for trial in trials] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teacher: {import: x}\n", "give either student or api_student"),
        (f"teacher: {{import: x, batch: {{}}}}\n{STUDENT}", "batch is for endpoints, or for a local runner"),
        (f"teacher: {{batch: {{runner: local}}}}\n{STUDENT}", "model is needed with endpoint, and with a local batch"),
    ],
)
def test_recipes_that_cannot_be(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe(recipe(tmp_path, text))


def test_an_api_student_needs_its_section(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="r: its student is no API's; use `ftcot run`"):
        run("api_student", recipe(tmp_path, f"teacher: {{import: {tmp_path}/completions.json}}\n{STUDENT}"))
