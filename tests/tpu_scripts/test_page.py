"""Every command on the page of tpu_scripts, and of the README's section that it goes on from, works in a dry run."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from ftcot_jax.cli import app
from ftcot_jax.config import load_recipe
from ftcot_jax.stages.run import STAGES
from tests.tpu_scripts.cloud import SCRIPTS, Cloud

PAGE = (SCRIPTS / "README.md").read_text()
TOP = (SCRIPTS.parent / "README.md").read_text().partition("\n### On a TPU pod\n")[2].partition("\n## ")[0]
LINES = [line for block in re.findall(r"```sh\n(.*?)```", TOP + PAGE, flags=re.S) for line in block.splitlines()]
RECIPE = re.search(r"<<'END'\n(.*?\n)END\n", TOP, flags=re.S)


def test_every_command_in_a_dry_run(cloud: Cloud) -> None:
    """In order, with the settings that the page exports, in a folder with the files it names."""
    assert RECIPE
    (cloud.root / "my_sweep.yaml").write_text(RECIPE[1])
    (cloud.root / "completions.json").write_text("{}")
    (cloud.root / "tpu_scripts").symlink_to(SCRIPTS)
    exports = [line for line in LINES if line.startswith("export ")]
    commands = [line for line in LINES if line.startswith("tpu_scripts/")]
    assert len(exports) == 3
    assert len(commands) == 12
    for command in commands:
        script, _, rest = command.partition(" ")
        text = "\n".join([*exports, f"{script} --dry-run {rest}"])
        bare = {name: value for name, value in cloud.environment.items() if not name.startswith("FTCOT_")}
        done = subprocess.run(["bash", "-ec", text], env=bare, cwd=cloud.root, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
        assert re.search(r"^(gcloud|kubectl|xpk) ", done.stdout, flags=re.M), command
    assert not cloud.calls()


def test_the_sweep_of_the_page_is_a_recipe(shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As it is bought at home, once for all trials, and as it runs on the pod."""
    assert RECIPE
    (tmp_path / "my_sweep.yaml").write_text(RECIPE[1])
    monkeypatch.setenv("FTCOT_MIRROR", str(shared / "data/upstream"))
    recipe, trials = load_recipe(str(tmp_path / "my_sweep.yaml"), [])
    assert recipe.teacher is not None
    assert recipe.teacher.import_path == "files/completions.json"  # where run.sh puts what --file names
    assert len(trials) == 12
    command = next(line for line in LINES if line.startswith("ftcot sample"))
    _, _, _, *overrides = shlex.split(command.partition(" --out ")[0])
    recipe, trials = load_recipe(str(tmp_path / "my_sweep.yaml"), [*overrides, f"out={tmp_path / 'out'}"])
    text = STAGES["dry_run"](recipe, trials)
    assert text.count("multiarith, gpt-3.5-turbo-instruct, D=64") == 1
    assert "$" in text


def test_the_other_commands_name_what_there_is() -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    named = {shlex.split(line)[1] for line in LINES if line.startswith("ftcot ")}
    assert named == {"sample", "sweep", "report"}
    assert {*named, "doctor"} <= known | {"sweep"}
    for path in re.findall(r"tpu_scripts/[a-z_]+\.(?:sh|yaml|sbatch)|tpu_scripts/Dockerfile", PAGE):
        assert (SCRIPTS.parent / path).is_file(), path
    assert (SCRIPTS.parent / "configs/multiarith_smollm2.yaml").is_file()
    scripts = {path.name for path in SCRIPTS.glob("*.sh")} - {
        "library.sh",
        "worker.sh",
        "create.sh",
        "setup.sh",
        "stop.sh",
    }
    assert all(name in TOP + PAGE for name in scripts)


def test_every_setting_is_on_the_page() -> None:
    text = "".join(path.read_text() for path in [*SCRIPTS.glob("*.sh"), *SCRIPTS.glob("lib/*.sh")])
    used = set(re.findall(r"FTCOT_TPU_[A-Z_]+", text))
    shown = set(re.findall(r"FTCOT_TPU_[A-Z_]+", PAGE)) | {
        f"FTCOT_TPU{name}" for name in re.findall(r"`(_MAX_[A-Z]+)`", PAGE)
    }
    assert used == shown
