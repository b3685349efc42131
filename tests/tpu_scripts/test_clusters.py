"""GKE, xpk, SkyPilot, Slurm: what is handed over is what the schemas allow, and the job arrives whole."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from tests.tpu_scripts.cloud import FAKE, SCRIPTS, Cloud

ODD = "sweep.axes=[{arm: [a, 'b c']}]"
IMAGE = {"FTCOT_TPU_IMAGE": "us-docker.pkg.dev/p/r/ftcot:1", "FTCOT_TPU_CLUSTER": "my-cluster"}
WORDS = ["run", "tiny.yaml", ODD, "name=it's", "--out", "gs://my-bucket/d64"]


class Strict(BaseModel):
    """Kept by hand, of the JobSet API v1alpha2: the fields used here, no others."""

    model_config = ConfigDict(extra="forbid")


class FailureRule(Strict):
    action: str = Field(pattern="^(FailJobSet|RestartJobSet|RestartJobSetAndIgnoreMaxRestarts)$")
    onJobFailureReasons: list[str]


class FailurePolicy(Strict):
    maxRestarts: int = Field(ge=0)
    rules: list[FailureRule]


class ReplicatedJob(Strict):
    name: str
    replicas: int = Field(ge=1)
    template: dict[str, Any]


class JobSetSpec(Strict):
    failurePolicy: FailurePolicy
    replicatedJobs: list[ReplicatedJob]


class Metadata(Strict):
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)
    annotations: dict[str, str]


class JobSet(Strict):
    apiVersion: str = Field(pattern=r"^jobset\.x-k8s\.io/v1alpha2$")
    kind: str = Field(pattern="^JobSet$")
    metadata: Metadata
    spec: JobSetSpec


def told(folder: Path) -> list[str]:
    """The arguments that a job.sh holds, as the shell of a worker reads them."""
    code = f'source "{folder}/job.sh"; printf "%s\\0" "${{ftcot_arguments[@]}}"'
    return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


@pytest.mark.parametrize(
    ("kind", "slices", "capacity", "hosts", "chips"),
    [("v5litepod-1", 1, "spot", 1, 1), ("v6e-256", 2, "reserved", 64, 4), ("tpu7x-64", 3, "on-demand", 8, 4)],
)
def test_jobset(cloud: Cloud, kind: str, slices: int, capacity: str, hosts: int, chips: int) -> None:
    place = {"FTCOT_TPU_TYPE": kind, "FTCOT_TPU_SLICES": str(slices), "FTCOT_TPU_CAPACITY": capacity}
    code, _, said = cloud.run("gke.sh", "--yes", "d64", str(cloud.recipe), ODD, **IMAGE, **place)
    assert code == 0, said
    applied = list(yaml.safe_load_all((cloud.root / "applied.yaml").read_text().replace("# A run", "---\n# A run")))
    assert applied[0] == {"kind": "ConfigMap"}
    jobset = JobSet.model_validate(applied[1])
    (job,) = jobset.spec.replicatedJobs
    assert job.replicas == slices
    kubernetes_validate.validate(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **job.template}, "1.37", strict=True
    )
    spec = job.template["spec"]
    assert spec["parallelism"] == spec["completions"] == hosts
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"containerName": "ftcot", "operator": "NotIn", "values": [42, 137, 143]}
    pod = spec["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": chips}
    assert ("cloud.google.com/gke-spot" in pod["nodeSelector"]) == (capacity == "spot")
    assert len(pod["tolerations"]) == (2 if capacity == "spot" else 1)
    assert "@" not in json.dumps(applied[1])
    verbs = [call[1:3] for call in cloud.calls() if call[0] == "kubectl"]
    assert [verb[0] for verb in verbs] == ["get", "delete", "create", "apply", "apply"]


def test_a_jobset_that_runs_is_left_alone_and_one_that_ended_goes_on(cloud: Cloud) -> None:
    for status, changed in (("", False), ("Completed", True), ("Failed", True)):
        (cloud.root / "calls.jsonl").unlink(missing_ok=True)
        (cloud.root / "jobset").write_text(f"ftcot-d64={status}")
        assert cloud.run("gke.sh", "--yes", "d64", str(cloud.recipe), **IMAGE)[0] == 0
        assert any(call[1] == "apply" for call in cloud.calls()) == changed


def test_gke_and_xpk_take_tpu7x_and_refuse_what_they_cannot(cloud: Cloud) -> None:
    recipe = str(cloud.recipe)
    for script in ("gke.sh", "xpk.sh"):
        assert cloud.run(script, "--dry-run", "d64", recipe, **IMAGE, FTCOT_TPU_TYPE="tpu7x-16")[0] == 0
        assert cloud.run(script, "--yes", "--file", recipe, "d64", recipe, **IMAGE)[0] == 2
        assert cloud.run(script, "--yes", "d64", recipe, **IMAGE, FTCOT_TPU_SECRETS="A=b")[0] == 2
        assert cloud.run(script, "--yes", "d64", recipe, FTCOT_TPU_IMAGE="", FTCOT_TPU_CLUSTER="c")[0] == 2
    assert not cloud.calls()


def test_gke_and_xpk_take_no_folder_for_a_bucket_and_xpk_none_of_another_region(cloud: Cloud) -> None:
    cloud.script(location="US-CENTRAL1")
    words = ("--yes", "d64", str(cloud.recipe))
    for script in ("gke.sh", "xpk.sh"):
        code, _, said = cloud.run(script, *words, **IMAGE, FTCOT_TPU_BUCKET="/tmp/x")
        assert (code, "give gs://BUCKET" in said) == (2, True)
    assert not cloud.calls()
    code, _, said = cloud.run("xpk.sh", *words, **IMAGE)
    assert (code, "is in us-central1, the machines in us-west4" in said) == (2, True)
    assert not any(call[0] == "xpk" for call in cloud.calls())


def test_the_job_travels_through_xpk_whole(cloud: Cloud) -> None:
    code, _, said = cloud.run(
        "xpk.sh", "--yes", "d64", str(cloud.recipe), ODD, "name=it's", **IMAGE, FTCOT_TPU_SLICES="2"
    )
    assert code == 0, said
    region, call = cloud.calls()
    assert region[:4] == ["gcloud", "storage", "buckets", "describe"]
    assert call[:3] == ["xpk", "workload", "create"]
    options = dict(word.removeprefix("--").partition("=")[::2] for word in call[3:])
    assert options["tpu-type"] == "v5litepod-4"
    assert (options["num-slices"], options["max-restarts"], options["workload"]) == ("2", "100", "ftcot-d64")
    assert "spot" in options
    bundle = re.search(r"echo ([A-Za-z0-9+/=]+) \|", options["command"])
    assert bundle is not None
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(bundle[1]))) as tar:
        tar.extractall(cloud.root / "pod", filter="data")
    assert told(cloud.root / "pod") == WORDS
    assert (cloud.root / "pod/tiny.yaml").read_text() == "name: tiny\n"


def test_sky() -> None:
    """The keys used, each looked up by hand in the schema of SkyPilot 0.14.1, which is too heavy to install."""
    task = yaml.safe_load((SCRIPTS / "sky.yaml").read_text())
    assert set(task) == {"name", "workdir", "resources", "envs", "secrets", "setup", "run"}
    assert set(task["resources"]) == {"infra", "accelerators", "accelerator_args", "use_spot", "job_recovery"}
    assert task["resources"]["job_recovery"] == {"max_restarts_on_errors": 3, "recover_on_exit_codes": [42]}
    assert all(value is None or isinstance(value, str) for value in task["envs"].values())
    for part in ("setup", "run"):
        assert subprocess.run(["bash", "-n"], input=task[part], text=True).returncode == 0


@pytest.mark.parametrize("overrides", [[], [ODD], [ODD, "name=it's"]])
def test_what_sky_runs(cloud: Cloud, overrides: list[str]) -> None:
    task = yaml.safe_load((SCRIPTS / "sky.yaml").read_text())
    place = cloud.root / "home/ftcot-env/bin"
    place.mkdir(parents=True)
    (place / "ftcot").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (place / "ftcot").chmod(0o755)
    named = {"FTCOT_RECIPE": "r.yaml", "FTCOT_OUT": "gs://b/x", "FTCOT_OVERRIDES": "\n".join(overrides)}
    done = subprocess.run(["bash", "-c", task["run"]], env=cloud.environment | named, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["run", "r.yaml", *overrides, "--out", "gs://b/x"], done.stderr


@pytest.mark.parametrize(
    ("code", "times", "queued"), [(0, "0", False), (42, "0", True), (42, "50", False), (1, "0", False), (2, "0", False)]
)
def test_slurm(cloud: Cloud, code: int, times: str, queued: bool) -> None:
    """Exit code 42 goes back into the queue, a bounded number of times; others end the job as they are."""
    tools = cloud.root / "tools"
    tools.mkdir()
    (tools / "srun").write_text(f'#!/bin/bash\necho "srun $XLA_FLAGS|$*"\nexit {code}\n')
    (tools / "scontrol").write_text('#!/bin/bash\necho "scontrol $*"\n')
    (tools / "python").write_text("#!/bin/bash\necho --flag-of-$3\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = cloud.environment | {
        "PATH": f"{tools}:{cloud.environment['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_RESTART_COUNT": times,
    }
    script = [str(SCRIPTS / "slurm_gpu.sbatch"), "r.yaml", ODD, "--out", "/x"]
    done = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert f"srun --flag-of-gpu |--kill-on-bad-exit=0 ftcot run r.yaml {ODD} --out /x" in done.stdout
    assert ("scontrol requeue 7" in done.stdout) == queued
    head = (SCRIPTS / "slurm_gpu.sbatch").read_text()
    assert "#SBATCH --signal=TERM@120" in head
    assert "#SBATCH --ntasks-per-node=1" in head


def test_dockerfile_brings_what_the_pods_call() -> None:
    text = (SCRIPTS / "Dockerfile").read_text()
    root = SCRIPTS.parent
    copied = [word for line in re.findall(r"^COPY (.*)", text, flags=re.M) for word in line.split()[:-1]]
    assert copied
    assert all((root / word).exists() for word in copied)
    assert "WORKDIR /opt/ftcot" in text
    assert {"tpu_scripts", "ftcot_jax", "configs"} <= set(copied)
    assert "/opt/ftcot/tpu_scripts/worker.sh" in (SCRIPTS / "gke_jobset.yaml").read_text()
    assert not re.search(r"(KEY|TOKEN|SECRET)", text)
    assert (FAKE / "kubectl").resolve().name == "noted"
