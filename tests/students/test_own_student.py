"""docs/own_student.md does what it says: its recipe, its commands and its Python, on a small model of one's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from ftcot_jax.students.load import load_student
from ftcot_jax.students.save import save_student
from ftcot_jax.students.settings import LoraSettings, StudentSettings
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.settings import TaskSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own_student.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    return found[1]


def run(code: str, *words: str, cwd: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


FTCOT = "from ftcot_jax.cli import main; main()"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    fields = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    scratch = fields | {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 96}
    words = load_task(TaskSettings(key="weekday_tracking", seed=0)).vocabulary
    student = load_student(StudentSettings(scratch=scratch), tuple(words))
    save_student(student, student.init(jax.random.key(0)), folder / "mine")
    (folder / "own.yaml").write_text(block("recipe"))
    return folder


@pytest.mark.slow
def test_the_page_runs(home: Path) -> None:
    for line in block("commands").strip().splitlines():
        assert line.startswith("ftcot ")
        run(FTCOT, *line.split()[1:], cwd=home)
    served = load_student(StudentSettings(checkpoint=str(home / "served")))
    assert served == load_student(StudentSettings(checkpoint=str(home / "mine")))
    out = run(block("python") + "\nprint(logits.shape)", cwd=home)
    assert re.search(r"\(1, 2, \d+\)", out)


@pytest.mark.slow
def test_adapters_run_the_whole_road(home: Path) -> None:
    run(
        FTCOT,
        "run",
        "own.yaml",
        'student.lora={rank: 2, targets: "(q|v)_proj"}',
        "train.slots=2",
        "train.learning_rate=1e-2",
        "sweep.axes=[{seed: [1, 2]}]",
        "--out",
        "lora",
        cwd=home,
    )
    made = sorted((home / "lora" / "artifacts").glob("student-*"))
    assert len(made) == 2
    for folder in made:
        merged = load_student(StudentSettings(checkpoint=str(folder / "student"))).load()
        base = load_student(StudentSettings(checkpoint=str(home / "mine"))).load()
        assert (merged["embed"] == base["embed"]).all()
        assert (merged["layers"]["attention"]["q"]["kernel"] != base["layers"]["attention"]["q"]["kernel"]).any()
        assert (merged["layers"]["attention"]["k"]["kernel"] == base["layers"]["attention"]["k"]["kernel"]).all()
        assert (folder / "adapter" / "adapter_model.safetensors").is_file()


def test_the_settings_in_the_table_are_settings() -> None:
    keys = re.findall(r"`student\.(\w+)=", PAGE)
    assert sorted(keys) == ["attention", "dropout", "dtype", "lora", "remat"]
    assert set(keys) < set(StudentSettings.model_fields)
    assert set(LoraSettings.model_fields) == {"rank", "alpha", "targets"}
