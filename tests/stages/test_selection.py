"""Which epoch's student is reported, and how the report says so; a yield report on the way."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from ftcot_jax.config import load_recipe
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.stages.report import report_of
from ftcot_jax.stages.run import STAGES

ROOT = Path(__file__).parents[2]
TINY = """
name: tiny
task: {key: weekday_tracking, train_questions: 40, test_questions: 24, validation: 12}
teacher: {loopback: weekday_tracking, diversity: 3}
student:
  scratch: {model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2,
            num_key_value_heads: 2, max_position_embeddings: 96, tie_word_embeddings: true}
select: {per_question: 1}
train: {epochs: 4, batch: {examples: 14}, learning_rate: 1.0e-1}
evaluate: {max_length: 48}
"""


def run(folder: Path, stage: str, *overrides: str) -> str:
    (folder / "tiny.yaml").write_text(TINY)
    changes = [f"out={folder}", *overrides]
    if stage == "report":
        return report_of(str(folder / "tiny.yaml"), changes, None)
    return STAGES[stage](*load_recipe(str(folder / "tiny.yaml"), changes))


def scores(folder: Path) -> dict[tuple[int, int], float]:
    """Accuracy by (optimizer step, questions asked)."""
    manifests = [json.loads(path.read_text()) for path in folder.glob("artifacts/scores-*/manifest.json")]
    return {(m["inputs"]["step"], m["summary"]["questions"]): m["summary"]["accuracy"] for m in manifests}


def reported(folder: Path) -> tuple[float, str, float]:
    row = next(csv.DictReader((folder / "report" / "trials.csv").open()))
    return float(row["accuracy"]), row["chosen_by"], float(row["epoch_reported"])


def test_best_on_test_is_the_papers_way_and_is_labelled(tmp_path: Path) -> None:
    text = run(tmp_path, "run", "evaluate.selection=best_on_test")
    by_step = scores(tmp_path)
    assert len(by_step) == 4
    assert {questions for _, questions in by_step} == {24}
    best = max(by_step.values())
    step = min(step for (step, _), accuracy in by_step.items() if accuracy == best)
    assert reported(tmp_path) == (pytest.approx(best), "best_on_test", pytest.approx(4 * step / max(by_step)[0]))
    assert "best epoch chosen ON THE TEST SET, as in the paper: optimistic" in text.splitlines()[0]
    assert " [epoch: best_on_test]; " in run(tmp_path, "evaluate", "evaluate.selection=best_on_test")
    with pytest.raises(
        FtcotError, match=r"trained without evaluate\.selection=best_on_validation, so its epochs were not"
    ):
        run(tmp_path, "evaluate", "evaluate.selection=best_on_validation")


def test_best_on_validation_asks_the_test_questions_only_of_the_best_so_far(tmp_path: Path) -> None:
    text = run(tmp_path, "run", "evaluate.selection=best_on_validation")
    by_step = scores(tmp_path)
    validation = {step: accuracy for (step, questions), accuracy in by_step.items() if questions == 12}
    assert len(validation) == 4
    so_far, expected = -1.0, []
    for step in sorted(validation):
        if validation[step] > so_far:
            so_far = validation[step]
            expected.append(step)
    assert sorted(step for step, questions in by_step if questions == 24) == expected
    chosen = expected[-1]
    assert reported(tmp_path)[:2] == (pytest.approx(by_step[chosen, 24]), "best_on_validation")
    assert "best epoch chosen on validation questions" in text.splitlines()[0]
    assert run(tmp_path, "report", "evaluate.selection=best_on_validation") == text.split("\nseconds in each stage")[0]


def test_the_last_epoch_is_reported_without_a_label(tmp_path: Path) -> None:
    text = run(tmp_path, "run", "train.epochs=1")
    assert "chosen" not in text.splitlines()[0]
    assert reported(tmp_path)[1:] == ("last", 1.0)


def test_validation_questions_are_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tiny: evaluate\.selection=best_on_validation needs task\.validation"):
        run(tmp_path, "train", "evaluate.selection=best_on_validation", "task.validation=null")


def test_curate_writes_the_yield_report(tmp_path: Path) -> None:
    text = run(tmp_path, "curate", "select.per_question=null")
    assert re.search(r"\| weekday_tracking \| 1 \| \d+ of 28 \|", text)
    rows = json.loads((tmp_path / "report" / "yield.json").read_text())
    assert [row["diversity"] for row in rows] == [1, 2, 3]
    for name in ("yield.md", "yield.svg", "yield.png"):
        assert (tmp_path / "report" / name).stat().st_size > 0


def test_an_own_template_with_a_bad_field_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tiny\.yaml: template: prompt has an unknown field \{hint\}; it can hold"):
        run(tmp_path, "curate", 'template={prompt: "{question} {hint}", label: "{answer}"}')


def test_batches_of_tokens(tmp_path: Path) -> None:
    run(tmp_path, "run", "train.batch={tokens: 256, row_length: 64}", "train.epochs=2", "evaluate.every_epochs=1")
    trial = json.loads((tmp_path / "report" / "trials.json").read_text())[0]
    assert trial["training"]["epochs"] == 2.0
    assert trial["training"]["packing_efficiency"] > 0.5
    assert sorted({step for step, _ in scores(tmp_path)})[-1] == trial["training"]["steps"]
    with pytest.raises(UsageError, match=r"tiny: train\.batch: a record of \d+ tokens does not fit a row of 16"):
        run(tmp_path, "train", "train.batch={tokens: 256, row_length: 16}")
