"""Every command on the page of tpu_scripts is one that works, in a dry run."""

from __future__ import annotations

import re
import shlex
import subprocess

from ftcot_jax.cli import app
from tests.tpu_scripts.cloud import SCRIPTS, Cloud

PAGE = (SCRIPTS / "README.md").read_text()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.S) for line in block.splitlines()]


def test_every_command_in_a_dry_run(cloud: Cloud) -> None:
    """In order, with the settings that the page exports, in a folder with the files it names."""
    (cloud.root / "my_sweep.yaml").write_text("name: my_sweep\n")
    (cloud.root / "completions.json").write_text("{}")
    (cloud.root / "tpu_scripts").symlink_to(SCRIPTS)
    exports = [line for line in LINES if line.startswith("export ")]
    commands = [line for line in LINES if line.startswith("tpu_scripts/")]
    assert len(exports) == 3
    assert len(commands) == 9
    for command in commands:
        script, _, rest = command.partition(" ")
        text = "\n".join([*exports, f"{script} --dry-run {rest}"])
        bare = {name: value for name, value in cloud.environment.items() if not name.startswith("FTCOT_")}
        done = subprocess.run(["bash", "-ec", text], env=bare, cwd=cloud.root, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
        assert re.search(r"^(gcloud|kubectl|xpk) ", done.stdout, flags=re.M), command
    assert not cloud.calls()


def test_the_other_commands_name_what_there_is() -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    named = {shlex.split(line)[1] for line in LINES if line.startswith("ftcot ")}
    assert named == {"sample"}
    assert {*named, "doctor"} <= known
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
    assert all(name in PAGE for name in scripts)


def test_every_setting_is_on_the_page() -> None:
    text = "".join(path.read_text() for path in [*SCRIPTS.glob("*.sh"), *SCRIPTS.glob("lib/*.sh")])
    used = set(re.findall(r"FTCOT_TPU_[A-Z_]+", text))
    shown = set(re.findall(r"FTCOT_TPU_[A-Z_]+", PAGE)) | {
        f"FTCOT_TPU{name}" for name in re.findall(r"`(_MAX_[A-Z]+)`", PAGE)
    }
    assert used == shown
