"""--dry-run prints the exact commands and does nothing."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.tpu_scripts.cloud import ACTIVE, SCRIPTS, Cloud

GOLDENS = Path(__file__).parent / "goldens"
ODD = "sweep.axes=[{select.diversity: [1, 2]}]"
CASES = {
    "create_spot": ["create.sh", "--dry-run", "d64"],
    "create_slices": ["create.sh", "--dry-run", "d64"],
    "setup": ["setup.sh", "--dry-run", "d64", "RECIPE", ODD],
    "run": ["run.sh", "--dry-run", "d64", "RECIPE", ODD, "name=it's $HOME"],
    "sweep": ["sweep.sh", "--dry-run", "--workers", "2", "ds", "RECIPE", "seed=1", ODD],
    "run_worker": ["run.sh", "--dry-run", "--worker", "12/16", "ds", "RECIPE", "seed=1"],
    "status": ["status.sh", "--dry-run", "d64"],
    "list": ["status.sh", "--dry-run"],
    "logs": ["logs.sh", "--dry-run", "d64", "3", "20"],
    "stop": ["stop.sh", "--dry-run", "d64"],
    "copy": ["copy.sh", "--dry-run", "d64", "report", "here"],
    "delete": ["delete.sh", "--dry-run", "d64", "d8"],
    "gke": ["gke.sh", "--dry-run", "d64", "RECIPE", ODD],
    "xpk": ["xpk.sh", "--dry-run", "d64", "RECIPE", ODD],
}
SETTINGS = {
    "create_slices": {
        "FTCOT_TPU_SLICES": "4",
        "FTCOT_TPU_CAPACITY": "reserved",
        "FTCOT_TPU_TYPE": "v6e-64",
        "FTCOT_TPU_CREATE_FLAGS": "--network=mine --internal-ips",
    },
    "logs": {"FTCOT_TPU_SSH_FLAGS": "--tunnel-through-iap"},
    "gke": {"FTCOT_TPU_TYPE": "tpu7x-64", "FTCOT_TPU_CAPACITY": "on-demand", "FTCOT_TPU_SLICES": "2"},
}
IMAGE = {"FTCOT_TPU_IMAGE": "us-docker.pkg.dev/p/r/ftcot:1", "FTCOT_TPU_CLUSTER": "my-cluster"}


@pytest.mark.parametrize("case", CASES)
def test_golden(cloud: Cloud, case: str) -> None:
    words = [str(cloud.recipe) if word == "RECIPE" else word for word in CASES[case]]
    before = sorted(cloud.root.rglob("*"))
    code, out, said = cloud.run(*words, **IMAGE, **SETTINGS.get(case, {}))
    assert code == 0, said
    assert sorted(cloud.root.rglob("*")) == before, "a dry run wrote something"
    text = out.replace(str(cloud.root), "HERE").replace(str(SCRIPTS), "SCRIPTS")
    golden = GOLDENS / f"{case}.txt"
    assert text == golden.read_text(), f"if you meant to change what is called, store this as {golden}:\n{text}"


def test_what_is_printed_is_what_is_called(cloud: Cloud) -> None:
    """Each command of a dry run reads back, by a shell, as the words that the real run passes."""
    words = ["d64", str(cloud.recipe), ODD, "name=it's $HOME"]
    _, out, _ = cloud.run("run.sh", "--dry-run", *words)
    printed = [shlex.split(line) for line in out.splitlines() if not line.startswith("#")]
    cloud.script({"states": [ACTIVE]})
    assert cloud.run("run.sh", "--yes", *words)[0] == 0
    called = cloud.calls()
    for command in printed:
        if "BUNDLE" in command:
            assert any(call[:5] == command[:5] and call[6:] == command[6:] for call in called), command
        else:
            assert command in called
    assert {call[4] for call in called if call[2] == "tpus"} == {
        command[4] for command in printed if command[2] == "tpus"
    }
