"""The peers' benchmarks, as far as they go without a peer."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cell import reckon
from benchmarks.peers.blocks import Block, Side, by_turns, ratios
from benchmarks.peers.epochs import epoch_steps, text_lengths
from benchmarks.peers.padded import Padded
from benchmarks.peers.side_by_side import TRAINERS, Program, figures, installed, program_names, start
from benchmarks.peers.table import CELL_ROWS, table
from benchmarks.peers.work import STUDENT, GivenWork


def work(steps: list[list[int]] | None = None) -> GivenWork:
    """Three records of 5, 3 and 2 tokens."""
    records = [np.array(record, np.int32) for record in ([5, 6, 7, 8, 9], [4, 3, 9], [2, 9])]
    return GivenWork(
        records=records,
        prompt_lengths=np.array([2, 1, 1], np.int32),
        steps=[[0, 1], [2]] if steps is None else steps,
        epoch_steps=2,
        batch=2,
        dropout=False,
        prompts=[[1, 2, 3], [4]],
        lengths=[4, 400],
        test_questions=10,
    )


def block(seconds: list[float], examples: int = 8) -> Block:
    return Block(seconds, [1.0] * len(seconds), [examples] * len(seconds), [100] * len(seconds))


def test_the_reference_pads_on_the_left_to_the_longest_of_the_set() -> None:
    padded = Padded.of(work().records, work().prompt_lengths, pad=9)
    assert padded.input_ids.tolist() == [[5, 6, 7, 8, 9], [9, 9, 4, 3, 9], [9, 9, 9, 2, 9]]
    assert padded.attention_mask.tolist() == [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1]]
    assert padded.position_ids.tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 1, 2], [0, 0, 0, 0, 1]]
    assert padded.labels.tolist() == [[-100, -100, 7, 8, 9], [-100, -100, -100, 3, 9], [-100, -100, -100, -100, 9]]


def test_work_is_read_as_it_was_written(tmp_path: Path) -> None:
    work().write(tmp_path)
    read = GivenWork.read(tmp_path)
    assert [record.tolist() for record in read.records] == [record.tolist() for record in work().records]
    assert read.prompt_lengths.tolist() == [2, 1, 1]
    assert (read.steps, read.prompts, read.lengths) == (work().steps, work().prompts, work().lengths)
    assert [read.tokens_of(step) for step in read.steps] == [8, 2]


def test_the_first_step_of_a_block_does_not_count() -> None:
    one = block([90.0, 2.0, 2.0])
    assert one.examples_per_second == 4.0
    assert one.tokens_per_second == 50.0
    theirs = [block([1.0, 4.0, 8.0]), block([1.0, 2.0, 2.0])]
    assert ratios([one, one], theirs) == [3.0, 1.0]
    found = figures(theirs, [one, one])
    assert found["step_seconds"] == 3.0  # the median of 4, 8, 2 and 2
    assert found["ours_faster"] == [3.0, 1.0]


SIDE = """
import sys
sys.path.insert(0, {root!r})
from benchmarks.peers.answering import answer, claim_stdout
answers, taken = claim_stdout(), iter(range(100))
print("a library prints this")
answer(answers, {{"program": "counts"}}, lambda: (float(next(taken)), 8, 80))
"""


def test_sides_take_turns_and_go_on_where_they_were(capfd: pytest.CaptureFixture[str]) -> None:
    code = SIDE.format(root=str(Path(__file__).parents[2]))
    sides = [Side(name, [sys.executable, "-c", code]) for name in ("one", "other")]
    done = by_turns(sides, blocks=2, steps=3)
    assert [side.close()["peak_bytes"] > 1e6 for side in sides] == [True, True]
    assert sides[0].about == {"program": "counts"}
    assert [one.losses for one in done["other"]] == [[0, 1, 2], [3, 4, 5]]
    assert re.findall(r"turn (\d), (\w+): \(", capfd.readouterr().err) == [
        ("1", "one"),
        ("1", "other"),
        ("2", "one"),
        ("2", "other"),
    ]


def test_a_side_that_dies_is_named() -> None:
    with pytest.raises(SystemExit, match="short ended before its time"):
        Side("short", [sys.executable, "-c", ""])


def test_a_missing_peer_is_named_and_an_installed_one_found(tmp_path: Path) -> None:
    python = tmp_path / "trl" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    programs = (*TRAINERS, Program("absent", "absent_steps", None, "no_such_package", ""))
    found, left_out = installed(programs, tmp_path, ["ours", "trl", "easydel", "absent"])
    assert [(program.name, path) for program, path in found] == [("ours", sys.executable), ("trl", str(python))]
    assert left_out == [
        "easydel: no environment easydel/ (benchmarks/peers/environment.sh)",
        "absent: no_such_package is not installed here",
    ]
    assert "trl" in installed(TRAINERS, None, ["trl"])[1][0]


def test_programs_are_asked_for_by_name() -> None:
    assert program_names("trl,ours") == ["ours", "trl"]
    with pytest.raises(argparse.ArgumentTypeError, match="no such program: levanter"):
        program_names("ours,levanter")


def test_a_peer_that_does_not_start_is_left_out_and_ours_is_not(tmp_path: Path) -> None:
    ours, *_, peer = TRAINERS
    assert start([(peer, "/bin/false")], tmp_path) == ([], ["easydel ended before its time; its own message is above"])
    with pytest.raises(SystemExit, match="ours ended"):
        start([(ours, "/bin/false")], tmp_path)


def test_every_environment_has_its_requirements() -> None:
    folder = Path(__file__).parents[2] / "benchmarks" / "peers"
    script = (folder / "environment.sh").read_text(encoding="utf-8")
    for program in TRAINERS:
        assert (folder / f"{program.module}.py").exists()
        if program.environment is not None:
            pins = (folder / f"requirements-{program.environment}.txt").read_text(encoding="utf-8")
            assert f"{program.needs}==" in pins
            assert program.environment in script


def test_an_epoch_has_as_many_steps_and_early_texts_are_short() -> None:
    assert epoch_steps(work([[0], [1], [2], [0], [1]]), 2) == [[[0], [1]], [[2], [0]]]
    assert [text_lengths(work().prompts, work().lengths, epoch) for epoch in (1, 2)] == [[4, 255], [4, 400]]


def test_a_cell_is_reckoned_from_its_parts() -> None:
    measured = {"seconds": 100.0, "train_seconds": [6.0, 6.0], "evaluate_seconds": [30.0, 4.0]}
    cell = reckon(measured, work([[0], [1], [2], [0]]))
    assert cell["step_seconds"] == 3.0
    assert cell["question_seconds"] == 2.0
    assert cell["start_seconds"] == 80.0  # of which the first evaluation's 26 s above the other
    assert cell["epoch_seconds"] == 3.0 * 2 + 2.0 * 10
    assert cell["twenty_epochs_seconds"] == 80.0 + 20 * 26.0


def rows_of(markdown: str) -> dict[str, list[str]]:
    """The cells of each row by its first."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in cells}


def test_the_tables_are_made_from_the_json() -> None:
    ours, theirs = [block([9.0, 2.0])] * 2, [block([9.0, 4.0]), block([9.0, 8.0])]

    def program(blocks: list[Block], loss: float, same_steps: bool) -> dict[str, Any]:
        row = figures(blocks, ours) | {"program": "p 1.0", "peak_bytes": 3e9, "first_loss": loss}
        return row | {"does": "does it", "same_steps": same_steps}

    training = {"task": "multiarith", "records": 3, "longest": 5, "mean_length": 3.3, "batch": 8, "dropout": False}
    training |= {"blocks": 2, "steps_a_block": 2}
    training["programs"] = {
        "ours": program(ours, 10.0, True),
        "reference": program(theirs, 10.5, True),
        "trl": program(theirs, 9.0, False),
    }
    writing = {"task": "multiarith", "prompts": 4, "tokens": 100, "turns": 1}
    one = {"program": "p", "does": "x", "peak_bytes": 1e9, "equal_texts": 3}
    writing["programs"] = {
        "ours": one | {"seconds": [2.0], "ours_faster": [1.0]},
        "vllm": one | {"seconds": [4.0], "ours_faster": [2.0]},
    }
    side = dict.fromkeys(CELL_ROWS, 10.0) | {"program": "p", "first_loss": 10.8}
    cell = {"task": "svamp", "epochs": 2, "steps_an_epoch": 4, "epoch_steps": 9, "questions": 5, "test_questions": 6}
    cell["programs"] = {"reference": side, "ours": side | {"epoch_seconds": 4.0}}
    held = {"training": training, "writing": writing, "cell": cell, "left_out": ["easydel: no environment"]}
    markdown = table(json.loads(json.dumps(held)))
    rows = rows_of(markdown)
    faster = "3.00 (2.00 to 4.00)"
    assert rows["reference: does it"] == [
        "1.50 (1.00 to 2.00)",
        "19 (12 to 25)",
        "6.00",
        "3.0",
        faster,
        "10.50000 (+5.0e-01)",
    ]
    assert rows["ours: does it"][-2:] == ["", "10.00000"]
    assert rows["trl: does it"][-1] == "9.00000 of other records"
    assert rows["vllm: x"] == ["1.00 (1.00 to 1.00)", "25 (25 to 25)", "1.0", "2.00 (2.00 to 2.00)", "3"]
    assert rows["a whole epoch"] == ["10", "4", "2.50"]
    assert markdown.endswith("Left out: easydel: no environment.\n")
    assert "Writing" not in table({"training": training})


@pytest.mark.parity
@pytest.mark.slow
def test_the_first_step_of_both_has_one_loss(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import jax

    from benchmarks.peers.our_steps import our_step
    from benchmarks.peers.reference_steps import load_model, reference_step
    from ftcot_jax.students.load import load_student
    from ftcot_jax.students.save import save_student
    from ftcot_jax.students.settings import StudentSettings

    shape = {"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2}
    student = load_student(StudentSettings(scratch=shape), ["a", "few", "words", "to", "be", "tokens"])
    save_student(student, student.init(jax.random.key(0)), tmp_path / STUDENT)
    size, random = student.config.vocab_size, np.random.default_rng(0)
    lengths = random.integers(4, 20, size=12)
    given = GivenWork(
        records=[random.integers(size, size=length).astype(np.int32) for length in lengths],
        prompt_lengths=np.minimum(lengths - 1, random.integers(1, 6, size=12)).astype(np.int32),
        steps=[[0, 3, 4, 5], [1, 2, 6, 7]],
        epoch_steps=3,
        batch=4,
        dropout=False,
        prompts=[[1]],
        lengths=[1],
        test_questions=1,
    )
    ours, _ = our_step(tmp_path, given)
    theirs = reference_step(load_model(tmp_path, given), given)
    first, same = ours(), theirs()
    assert first[0] == pytest.approx(same[0], rel=1e-5)
    assert first[1:] == same[1:] == (4, given.tokens_of(given.steps[0]))
    assert ours()[0] == pytest.approx(theirs()[0], rel=1e-4)  # after an AdamW step of each
