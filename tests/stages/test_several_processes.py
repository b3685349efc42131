"""The command line by several processes: docs/several_processes.md does what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ftcot_jax.training.cluster import JOIN_SECONDS, SILENCE_SECONDS
from tests.stages.test_road import TINY, ftcot
from tests.training.test_cluster import Ended, ends, free_port, start

PAGE = (Path(__file__).parents[2] / "docs" / "several_processes.md").read_text()
MAIN = ["-c", "from ftcot_jax.cli import main; main()"]
SMALL = TINY.replace("steps: 12", "steps: 4").replace("    - {seed: [1, 2]}\n", "")


def block(name: str) -> str:
    found = re.search(rf"<!-- test: {name} -->\n```sh\n(.*?)```", PAGE, flags=re.S)
    assert found
    return found[1]


def run_all(folder: Path, *words: str, outs: tuple[str, str] = ("out", "out"), seconds: float = 280) -> Ended:
    """Two processes of the same command, but for --out if told."""
    port = free_port()
    started = []
    for number, out in enumerate(outs):
        command = [*MAIN, *words, "--out", str(folder / out)]
        started += start(command, 2, numbers=[number], FTCOT_COORDINATOR=f"127.0.0.1:{port}")
    return ends(started, seconds)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "recipe.yaml").write_text(SMALL)
    return str(tmp_path / "recipe.yaml")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_plain_example_trains_what_one_process_trains(recipe: str, tmp_path: Path) -> None:
    *variables, first, second, wait = block("plain").splitlines()
    assert [line.split("=")[0] for line in variables] == ["export FTCOT_COORDINATOR", "export FTCOT_PROCESSES"]
    assert (first.replace("FTCOT_PROCESS=0", "FTCOT_PROCESS=1"), wait) == (second, "wait")
    _, _, *words = shlex.split(first.removesuffix("&"))
    here = {"recipe.yaml": recipe, "out": str(tmp_path / "two")}
    ended = ends(start([*MAIN, *(here.get(word, word) for word in words)], 2), 400)
    assert [code for code, _ in ended] == [0, 0], ended
    assert "student: made" in ended[0][1]
    assert "ftcot" not in ended[1][1]
    assert "made" not in ended[1][1]  # process 0 speaks for all

    ftcot("train", recipe, "--out", str(tmp_path / "one"), env={"XLA_FLAGS": ""})
    students = sorted(path.name for path in (tmp_path / "one" / "artifacts").glob("student-*"))
    assert len(students) == 2
    assert students == sorted(path.name for path in (tmp_path / "two" / "artifacts").glob("student-*"))
    for name in students:
        ours, theirs = (tmp_path / run / "artifacts" / name for run in ("two", "one"))
        rows, wanted = ([json.loads(line) for line in (at / "metrics.jsonl").open()] for at in (ours, theirs))
        assert len(rows) == 4
        np.testing.assert_allclose([row["loss"] for row in rows], [row["loss"] for row in wanted], rtol=1e-5)
        weights, expected = (load_file(at / "student" / "model.safetensors") for at in (ours, theirs))
        for key, value in expected.items():
            np.testing.assert_allclose(weights[key], value, rtol=1e-5, atol=1e-6)
    written = [
        {
            path.parent.name: json.loads(path.read_text())["data"]
            for path in (tmp_path / run).glob("artifacts/scores-*/p*")
        }
        for run in ("one", "two")
    ]
    assert len(written[0]) == 2
    assert written[1] == written[0]  # of what both processes wrote together


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_cannot_work_is_refused(recipe: str, tmp_path: Path) -> None:
    """Every process ends with one line that says what to do, and none of them hangs."""
    for words, outs, codes, said in (
        (("train", recipe), ("a", "a"), {2}, r"none of process 1; set one axis to -1"),
        (("tokenize", recipe), ("a", "b"), {2}, r"process 1 was started with another command, recipe or version"),
        (("train", recipe, "train.seed=x"), ("a", "a"), {2}, r"train\.seed"),
    ):
        ended = run_all(tmp_path, *words, outs=outs)
        for code, errors in ended:
            assert code in codes, (words, ended)
            assert re.search(rf"^ftcot: .*{said}", errors, flags=re.M), (words, errors)
            assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_folder_that_only_one_sees_is_said(recipe: str, tmp_path: Path) -> None:
    """As on two machines: the same path, which is not the same folder."""
    words = ["train", recipe, "mesh.data=-1", "--out", "out"]
    port = f"127.0.0.1:{free_port()}"
    started = []
    for number in range(2):
        here = tmp_path / str(number)
        here.mkdir()
        code = f"import os; from ftcot_jax.cli import main; os.chdir({os.fspath(here)!r}); main()"
        started += start(["-c", code, *words], 2, numbers=[number], FTCOT_COORDINATOR=port)
    for code, errors in ends(started, 280):
        assert code == 1
        said = (
            r"process 1 on \S+ does not see \S+-[0-9a-f]{12} in \S+/1/out/artifacts, which process 0 made; --out must"
        )
        assert re.search(said, errors), errors


def test_the_page_says_the_waits_and_what_srun_starts() -> None:
    assert f"`FTCOT_SILENCE_SECONDS` ({SILENCE_SECONDS}) and `FTCOT_JOIN_SECONDS` ({JOIN_SECONDS})" in PAGE
    lines = block("slurm").splitlines()
    assert lines[0] == "#!/bin/bash"
    assert [line.split()[0] for line in lines[1:]] == ["#SBATCH", "#SBATCH", "srun"]
    script = (Path(__file__).parents[2] / "tpu_scripts" / "slurm_gpu.sbatch").read_text()
    assert "srun --kill-on-bad-exit=0 ftcot run" in script
    assert lines[-1].startswith("srun --kill-on-bad-exit=0 ftcot run recipe.yaml")
