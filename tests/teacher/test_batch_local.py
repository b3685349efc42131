"""Batch files answered by a command on this machine: what it finished is kept, whoever was killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pydantic
import pytest

from ftcot_jax.errors import FtcotError, Preempted, UsageError
from ftcot_jax.tasks.templates import answer_prompt
from ftcot_jax.teacher.batch_api import BatchSampled, sample_by_batch
from ftcot_jax.teacher.batch_settings import BatchSettings
from ftcot_jax.teacher.settings import TeacherSettings
from tests.teacher.test_batch_api import QUESTIONS, assert_whole

RUNNER = [sys.executable, str(Path(__file__).with_name("local_runner.py"))]
TEACHER = TeacherSettings(endpoint="http://unused", model="teacher", diversity=4, seed=1)


def run(folder: Path, *options: str, command: list[str] | None = None, **batch: Any) -> BatchSampled:
    command = command or [*RUNNER, "{input}", "{output}", str(folder / "count"), *options]
    settings = BatchSettings(runner="local", form="chat", command=command, poll_seconds=0.05, **batch)
    return sample_by_batch(TEACHER, settings, QUESTIONS, folder)


def counted(folder: Path) -> list[str]:
    return (folder / "count").read_text().splitlines()


def test_both_steps_and_nothing_again(tmp_path: Path) -> None:
    sampled = run(tmp_path, max_requests=4)
    assert_whole(sampled)
    assert len(counted(tmp_path)) == 6 + 24
    assert sampled.account.batches == 2 + 6
    assert run(tmp_path).completions == sampled.completions
    assert len(counted(tmp_path)) == 30


def test_a_reasoning_teacher_is_asked_again_only_where_it_gave_no_answer(tmp_path: Path) -> None:
    sampled = run(tmp_path, "--think")
    rows = [row for row in sampled.completions if row.sample_index == 3]
    assert [row.reasoning_completion for row in rows] == ["hm 0", "hm 1", "hm 2", "hm 3"]
    assert [row.prompt == row.reasoning_prompt for row in rows] == [True, False, True, False]
    assert rows[0].completion == "text 1000003 of 46"
    assert rows[1].prompt == answer_prompt(rows[1].reasoning_prompt or "", "hm 1")
    assert rows[1].completion == f"text 1000003 of {len(rows[1].prompt)}"
    assert len(counted(tmp_path)) == 6 + 12


def test_a_command_that_dies_keeps_what_it_wrote(tmp_path: Path) -> None:
    sampled = run(tmp_path, "--die-after", "4")  # four rows of six, then the other two
    assert_whole(sampled)
    assert len(counted(tmp_path)) == len(set(counted(tmp_path))) == 30
    assert sampled.account.failed == 2


def test_a_command_that_answers_nothing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        FtcotError, match=r"answered nothing: the command ended with exit code 1; its output is in (.*)"
    ):
        run(tmp_path, "--die-after", "0")
    log = next(tmp_path.glob("*.log"))
    assert "out of memory" in log.read_text()
    assert_whole(run(tmp_path))
    with pytest.raises(UsageError, match=r"teacher.batch.command: 'no-such-program' cannot be started"):
        run(tmp_path / "other", command=["no-such-program", "{input}", "{output}"])


def test_a_refusal_in_vllms_words(tmp_path: Path) -> None:
    sampled = run(tmp_path, "--refuse", "q3-c0-s1")
    assert sampled.refused == {3: "HTTP 400: longer than the model's context"}
    assert {row.sample_index for row in sampled.completions} == {0, 1, 2, 4, 5}


def test_files_are_prepared_for_the_user_to_run(tmp_path: Path) -> None:
    settings = BatchSettings(runner="local", form="chat", max_requests=5)

    def go() -> BatchSampled:
        return sample_by_batch(TEACHER, settings, QUESTIONS, tmp_path)

    def answer_all(*options: str) -> int:
        inputs = [file for file in tmp_path.glob("*.input.jsonl") if not output(file).exists()]
        for file in inputs:
            subprocess.run([*RUNNER, file, output(file), tmp_path / "count", *options], check=False)
        return len(inputs)

    with pytest.raises(Preempted, match=r"2 batch files are ready in .* \(0 of 6 rows answered\)") as told:
        go()
    named = re.search(r"--model teacher -i (\S+) -o (\S+)`", str(told.value))
    assert named is not None
    assert output(Path(named[1])) == Path(named[2])
    assert answer_all("--die-after", "3") == 2
    with pytest.raises(Preempted, match=r"1 batch files are ready in .* \(3 of 5 rows answered\)"):
        go()
    Path(named[2]).unlink()
    assert answer_all() == 1
    with pytest.raises(Preempted, match=r"5 batch files .* \(0 of 24 rows answered\)"):
        go()
    assert answer_all() == 5
    assert_whole(go())


def output(file: Path) -> Path:
    return file.with_name(file.name.replace(".input.", ".output."))


def test_a_command_outlives_its_killed_run_and_is_waited_for(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from tests.teacher.test_batch_local import run
        run(Path(sys.argv[1]), "--slow", "0.2")
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 20
    while not (tmp_path / "count").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= len(counted(tmp_path)) < 6
    assert_whole(run(tmp_path))
    assert len(counted(tmp_path)) == len(set(counted(tmp_path))) == 30


def test_settings_say_what_does_not_fit() -> None:
    with pytest.raises(pydantic.ValidationError, match="command is for runner local"):
        BatchSettings(command=["vllm", "{input}", "{output}"])
    with pytest.raises(pydantic.ValidationError, match=r"must name \{input\} and \{output\}"):
        BatchSettings(runner="local", command=["vllm", "run-batch"])
