"""The paper's baselines by configuration: students asked untrained, here and at an API, beside trained ones."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import yaml
from transformers import PreTrainedTokenizerFast

from ftcot_jax.config import load_recipe
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.stages import place
from ftcot_jax.stages.report import report_of
from ftcot_jax.stages.run import STAGES
from ftcot_jax.stages.study import study
from ftcot_jax.tasks.exemplars import Exemplars
from ftcot_jax.teacher.completion import Completion, read_completions, write_completions
from tests.evaluation.test_study import embedded
from tests.stages.test_api_stages import recipe as sums
from tests.teacher.api_server import ApiServer

LOCAL = """
name: tiny
task: {key: weekday_tracking, train_questions: 20, test_questions: 6}
teacher: {loopback: weekday_tracking, diversity: 2}
student:
  tokenizer: BYTES
  scratch: {model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2,
            num_key_value_heads: 2, max_position_embeddings: 512, tie_word_embeddings: true}
train: {steps: 2, batch: {examples: 4}, learning_rate: 1.0e-2}
evaluate: {max_length: 400, max_new_tokens: 4}
out: OUT
"""
GRID = """
sweep:
  axes:
    - {arm: [zero-shot, zero-shot CoT, few-shot CoT, CoT], template: [zs, zs_cot, fs_cot, ft_cot_token]}
"""
SHOWN = Exemplars("Q: Ida starts Mon . 1 later ?\nA: The answer is Tue.\n", (300,))


def local(folder: Path, more: str = "", out: str = "out") -> Path:
    """A recipe in a folder of its own, for a student that reads bytes."""
    if not (folder / "bytes").exists():
        alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
        backend = tokenizers.Tokenizer(
            tokenizers.models.BPE({sign: id for id, sign in enumerate(["<end>", *alphabet])}, [])
        )
        backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = tokenizers.decoders.ByteLevel()
        PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>").save_pretrained(folder / "bytes")
    text = LOCAL.replace("BYTES", str(folder / "bytes")).replace("OUT", str(folder / out))
    (folder / "tiny.yaml").write_text(f"{text}{more}\n")
    return folder / "tiny.yaml"


def run(stage: str, file: Path, *overrides: str) -> str:
    if stage == "report":
        return report_of(str(file), overrides, None)
    return STAGES[stage](*load_recipe(str(file), list(overrides)))


def written(folder: Path) -> dict[str, list[Completion]]:
    """What each template's students wrote."""
    found: dict[str, list[Completion]] = {}
    for path in sorted(folder.glob("artifacts/scores-*/predictions.json")):
        file = read_completions(path)
        found.setdefault(file.metadata["prediction_template"], []).extend(file.completions)
    return found


def show(monkeypatch: pytest.MonkeyPatch, exemplars: Exemplars) -> None:
    """Puts exemplars in place of the reference's, which are fetched."""
    monkeypatch.setattr(place, "load_exemplars", lambda key, mirror: exemplars)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder where the grid was run, and the report."""
    folder = tmp_path_factory.mktemp("grid")
    with pytest.MonkeyPatch.context() as patch:
        show(patch, SHOWN)
        return folder, run("run", local(folder, GRID))


def test_untrained_arms_stand_beside_trained_ones(grid: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, text = grid
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    arms = ["zero-shot", "zero-shot CoT", "few-shot CoT", "CoT"]
    assert [row[0].removeprefix("| ") for row in rows[1:5]] == arms
    assert [row[4] for row in rows[1:4]] == ["-"] * 3  # training texts
    assert int(rows[4][4]) > 0
    assert "## Paired tests" in text
    assert re.search(r"^\| .*\(zs_cot\) \| train \| 20 \| 40 \| \d", text, flags=re.M)
    trials = json.loads((folder / "out/report/trials.json").read_text())
    assert [trial["arm"] for trial in trials] == arms
    assert trials[0]["training"] is None
    made = sorted((folder / "out/artifacts").iterdir())
    show(monkeypatch, SHOWN)
    assert run("run", folder / "tiny.yaml").split("seconds in")[0] == text.split("seconds in")[0]
    assert sorted((folder / "out/artifacts").iterdir()) == made


def test_each_baseline_asks_as_the_reference_does(grid: tuple[Path, str]) -> None:
    texts = written(grid[0] / "out")
    assert {name: len(found) for name, found in texts.items()} == dict.fromkeys(
        ("zs", "zs_cot", "fs_cot", "ft_cot_token"), 6
    )
    zero = texts["zs"][0]
    assert (zero.prompt, zero.reasoning_prompt) == (f"Q: {zero.question}\n\nA:", None)
    for row in texts["zs_cot"]:
        assert row.reasoning_prompt == f"Q: {row.question}\nA: Let's think step by step."
        rationale = (row.reasoning_completion or "").strip()
        assert row.prompt == f"{row.reasoning_prompt}{rationale}\nTherefore, the answer is"
        assert row.reasoning_finish_reason in ("stop", "length")
    assert texts["fs_cot"][0].prompt.startswith("Q: Ida starts Mon . 1 later ?\nA: The answer is Tue.\n\nQ: ")


def test_the_file_has_the_authors_layout(grid: tuple[Path, str], shared: Path) -> None:
    """Key by key as the published files, and read back as written."""
    published = json.loads((shared / "data/completions/B_text-davinci-002__C_zs_cot/D_addsub.json").read_text())
    paths = list((grid[0] / "out").glob("artifacts/scores-*/predictions.json"))
    assert len(paths) == 4
    for path in paths:
        ours = json.loads(path.read_text())
        assert set(ours) == set(published) == {"metadata", "data"}
        rows, known = (next(iter(file["data"].values())) for file in (ours, published))
        assert list(rows[0]) == list(known[0])
        assert set(ours["metadata"]) <= set(published["metadata"])
        assert all(key == str(row["sample_index"]) for key, rows in ours["data"].items() for row in rows)
        file = read_completions(path)
        write_completions(path.parent / "again.json", file.metadata, file.completions)
        assert (path.parent / "again.json").read_bytes() == path.read_bytes()
        (path.parent / "again.json").unlink()


def test_few_shot_prompts_beyond_the_context_are_wrong_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, Exemplars(SHOWN.text * 12, ()))
    file = local(tmp_path, "template: fs_cot")
    assert re.match(r"tiny: 0 of 6 right, 0\.0%", run("evaluate", file))
    (rows,) = written(tmp_path / "out").values()
    assert {(row.completion, row.finish_reason) for row in rows} == {("", "prompt_too_long")}
    assert rows[0].prompt.count("Ida starts") >= 12  # stored whole
    assert "| tiny | 0.0 | 0.0 | 0.0 | 6 |" in run("report", file)


def test_an_encoder_decoder_is_asked_in_two_steps(tmp_path: Path) -> None:
    t5 = "{model_type: t5, d_model: 16, d_kv: 8, d_ff: 32, num_layers: 1, num_heads: 2}"
    file = local(tmp_path, "template: zs_cot")
    assert "of 6 right" in run("evaluate", file, f"student.scratch={t5}")
    (rows,) = written(tmp_path / "out").values()
    for row in rows:
        assert row.reasoning_prompt == f"Q: {row.question}\nA: Let's think step by step."
        assert row.prompt.startswith(row.reasoning_prompt + (row.reasoning_completion or "").strip())
        assert row.prompt.endswith("\nTherefore, the answer is")


def test_an_untrained_student_is_asked_once_whatever_the_seed(
    grid: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = next(grid[0].glob("out/artifacts/student-*/student"))
    seeds = "sweep: {axes: [{arm: [zero], template: [zs]}, {train.seed: [1, 2]}]}"
    file = local(tmp_path, seeds)
    checkpoint = f"student={{checkpoint: {saved}}}"
    assert run("evaluate", file, checkpoint).count("right") == 1
    assert "zero, train.seed=2: untrained, so the same as 'zero, train.seed=1'; asked once" in capsys.readouterr().err
    with pytest.raises(FtcotError, match="sweep: 'a' and 'b' are the same trial"):
        run("evaluate", local(tmp_path, "sweep: {axes: [{arm: [a, b], template: [zs, zs]}]}"), checkpoint)


def test_samples_add_pass_at_k_and_a_vote(tmp_path: Path) -> None:
    file = local(tmp_path, "template: zs")
    said = run("evaluate", file, "evaluate.sampling={temperature: 1.5, samples: 4}")
    assert re.match(r"tiny: \d+ of 24 right in 4 texts a question, ", said)
    path = next(tmp_path.glob("out/artifacts/scores-*"))
    rows = read_completions(path / "predictions.json").completions
    assert [row.completion_index for row in rows[:5]] == [0, 1, 2, 3, 0]
    assert len({row.completion for row in rows[:4]}) > 1
    summary = json.loads((path / "manifest.json").read_text())["summary"]
    assert list(summary["pass_at"]) == ["1", "2", "4"]
    assert summary["pass_at"]["1"] == pytest.approx(summary["accuracy"])
    assert len(json.loads((path / "outcomes.json").read_text())) == 6
    table = run("report", file, "evaluate.sampling={temperature: 1.5, samples: 4}")
    assert "| samples | pass@2 % | pass@4 % | majority % | no majority |" in table


@pytest.mark.slow
def test_the_quickstarts_student_of_words_can_be_asked_untrained(tmp_path: Path) -> None:
    recipe = importlib.resources.files("ftcot_jax.recipes") / "quickstart.yaml"
    arms = "sweep.axes=[{arm: [zero-shot, CoT], template: [zs, ft_cot_token]}]"
    small = ("task.train_questions=20", "task.test_questions=6", "train.steps=2", "teacher.diversity=1")
    text = run("run", Path(str(recipe)), arms, *small, "evaluate.max_new_tokens=4", f"out={tmp_path}")
    assert "| zero-shot | " in text
    assert {name: len(rows) for name, rows in written(tmp_path).items()} == {"zs": 6, "ft_cot_token": 6}


def test_stages_that_have_nothing_to_do_say_so(tmp_path: Path) -> None:
    file = local(tmp_path, "template: zs")
    for stage in ("curate", "tokenize"):
        assert run(stage, file) == "nothing is trained: every template of the recipe only asks"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer().serving() as serving:
        yield serving


def respond(prompt: str) -> str:
    """A model that adds one, slips in its reasoning only where it is asked to think, and knows no question 3."""
    number = int(re.findall(r"(\d+) \+ 1 \?", prompt)[-1]) if "+ 1 ?" in prompt else 0
    if prompt.endswith("step by step."):
        return f" {number} + 1 = {number + 1}."
    return f" {number + 1 if number != 3 else 99}."


def test_any_endpoint_is_asked_untrained(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, Exemplars("Q: 1 + 1 ?\nA: 1 + 1 = 2. The answer is 2.\n", ()))
    server.answer = respond
    grid = "sweep: {axes: [{arm: [zero-shot, zero-shot CoT, few-shot CoT], template: [zs, zs_cot, fs_cot]}]}"
    file = Path(sums(tmp_path, f"api_student: {{endpoint: {server.url}, model: m}}\n{grid}\n"))
    report = run("run", file)
    assert [line.split(" | ")[0] for line in report.splitlines()[2:7]][2:] == [
        "| zero-shot",
        "| zero-shot CoT",
        "| few-shot CoT",
    ]
    bodies = server.bodies
    prompts = [body["prompt"] for body in bodies]
    assert sum(prompt.endswith("\nA: The answer is") for prompt in prompts) == 3
    assert sum(prompt.endswith("step by step.") for prompt in prompts) == 3
    second = [prompt for prompt in prompts if prompt.endswith("\nTherefore, the answer is")]
    assert len(second) == 3
    assert re.search(r"step by step\. \d \+ 1 = \d+\.\nTherefore", second[0])
    assert [body["max_tokens"] for body in bodies] == [128] * 12
    assert {body.get("stop") and tuple(body["stop"]) for body in bodies} == {None, ("Q:",)}
    assert not server.jobs  # nothing was fine-tuned
    texts = written(tmp_path / "out")
    assert (texts["zs_cot"][0].reasoning_completion or "").endswith(f"= {texts['zs_cot'][0].answer}.")
    hits = dict(server.hits)
    assert run("run", file).split("seconds in")[0] == report.split("seconds in")[0]
    assert server.hits == hits
    assert run("evaluate", file).count(" right, ") == 3


def test_a_chat_endpoint_and_samples(server: ApiServer, tmp_path: Path) -> None:
    server.answer = lambda prompt: " 5."
    text = f"api_student: {{endpoint: {server.url}, model: m, form: chat}}\ntemplate: zs_cot\n"
    file = Path(sums(tmp_path, text))
    said = run("evaluate", file, "evaluate.sampling={temperature: 0.7, samples: 3, seed: 5}")
    assert " of 9 right in 3 texts a question" in said
    first = [body for body in server.bodies if len(body["messages"]) == 1]
    assert {(body["temperature"], body["seed"]) for body in first} == {(0.7, 5), (0.7, 6), (0.7, 7)}
    turns: list[dict[str, Any]] = next(body["messages"] for body in server.bodies if len(body["messages"]) == 3)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    with pytest.raises(UsageError, match="top_k: an API takes temperature and top_p"):
        run("evaluate", file, "evaluate.sampling={top_k: 3}")


def test_a_student_here_and_one_at_an_api_in_one_grid(server: ApiServer, tmp_path: Path) -> None:
    server.answer = respond
    student = yaml.safe_load(local(tmp_path).read_text())["student"]
    axis = {"arm": ["here", "there"], "student": [student, None]}
    axis["api_student"] = [None, {"endpoint": server.url, "model": "m"}]
    more = "template: zs\nevaluate: {max_new_tokens: 4}\nstudent: {checkpoint: none}\n"
    file = Path(sums(tmp_path, f"{more}sweep: {json.dumps({'axes': [axis]})}\n"))
    report = run("run", file)
    assert "| here | " in report
    assert "| there | " in report
    assert "McNemar's exact test on the questions both were asked" in report


def test_a_runs_texts_and_its_teachers_make_a_study(
    grid: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, SHOWN)
    recipe = grid[0] / "tiny.yaml"
    said = study([str(recipe)], [], tmp_path / "study.html", None, "paper", 1000)
    assert said.startswith(f"{tmp_path / 'study.html'}: 64 texts")  # four students on 6 questions, a teacher's 40
    data = embedded((tmp_path / "study.html").read_text())
    assert sorted(data["students"][:4]) == sorted(["zero-shot", "zero-shot CoT", "few-shot CoT", "CoT"])
    assert data["students"][4].startswith("teacher ")
    of_the_run = study([str(grid[0] / "out")], [], tmp_path / "again.html", None, "paper", 1000)
    assert of_the_run.splitlines()[1:] == said.splitlines()[1:]
