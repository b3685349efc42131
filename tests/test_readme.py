"""Every command the README shows is one the program takes, and does what is said."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from ftcot_jax.cli import main
from ftcot_jax.config import load_recipe
from tests.stages.test_road import TINY

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.startswith("ftcot ")]


def run(command: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_two_set_up_commands_install_and_run() -> None:
    assert len(BLOCKS) >= 4
    assert "/bin/ftcot quickstart" in BLOCKS[0]
    assert "-m pytest" in BLOCKS[1]
    for block in BLOCKS[:2]:
        assert "python3 -m venv" in block
        assert "-c constraints.txt" in block
        assert len(block.splitlines()) == 1


def test_recipe_commands_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "RECIPE.yaml"
    recipe.write_text(TINY.replace("{seed: [1, 2]}", "{seed: [1]}"))
    monkeypatch.chdir(tmp_path)
    commands = [command for command in COMMANDS if "RECIPE.yaml" in command]
    assert [command.split()[1] for command in commands] == ["run", "train", "report"]
    for command in commands:
        words = shlex.split(command.replace("section.key=value ...", "evaluate.batch_rows=8"))
        assert run(words, monkeypatch) == 0
    assert (tmp_path / "runs" / "tiny" / "report" / "report.md").is_file()
    assert list((tmp_path / "runs" / "mine" / "artifacts").glob("student-*"))


def test_quickstart_variants_are_valid_recipes() -> None:
    variants = [shlex.split(command)[2:] for command in COMMANDS if command.startswith("ftcot quickstart ")]
    assert len(variants) == 1
    for words in variants:
        overrides = words[: words.index("--out")]
        recipe, trials = load_recipe(str(ROOT / "ftcot_jax/recipes/quickstart.yaml"), overrides)
        assert recipe.teacher is not None
        assert (recipe.teacher.wordings, len(trials)) == (1, 6)


def test_data_commands(shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FTCOT_MIRROR", str(shared / "data/upstream"))
    commands = [command for command in COMMANDS if command.startswith("ftcot data")]
    assert len(commands) == 2
    for command in commands:
        assert run(shlex.split(command), monkeypatch) == 0
    said = capsys.readouterr().out
    assert "multiarith: 600 questions; answers: integer" in said
    assert "gsm8k: 8792 questions, 7473 train, 1319 test" in said


@pytest.mark.slow
def test_the_pretrained_student(
    shared: Path, real_student_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's command on the real checkpoint, two steps and two questions of it."""
    command = next(command for command in COMMANDS if "multiarith_smollm2" in command)
    published = shared / "data/completions/B_text-davinci-002__C_zs_cot/D_multiarith.json"
    words = [
        word.replace("checkpoint=DIR", f"checkpoint={real_student_folder}")
        .replace("import=FILE", f"import={published}")
        .replace("mirror=DIR", f"mirror={shared / 'data/upstream'}")
        for word in shlex.split(command)
    ]
    monkeypatch.chdir(ROOT)
    changes = ["train.steps=2", "evaluate.questions=2", "evaluate.max_length=150", f"out={tmp_path}"]
    assert run([*words, *changes], monkeypatch) == 0
    row = (tmp_path / "report" / "trials.csv").read_text().splitlines()[1].split(",")
    assert row[9:11] == ["332", "2"]  # rationales kept of 420, steps taken
