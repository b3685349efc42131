"""The scripts as text: linted, strict, and plain about wrong settings before anything is called."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.tpu_scripts.cloud import ACTIVE, SCRIPTS, Cloud, shellcheck

ENTRIES = sorted(path.name for path in SCRIPTS.glob("*.sh") if path.name not in ("library.sh",))
DRIVERS = sorted(set(ENTRIES) - {"worker.sh", "startup.sh"})


def test_shellcheck_finds_nothing() -> None:
    files = [str(SCRIPTS / name) for name in (*ENTRIES, "library.sh", "slurm_gpu.sbatch")]
    done = subprocess.run([shellcheck(), "--check-sourced", *files], cwd=SCRIPTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    parts = {path.stem for path in (SCRIPTS / "lib").glob("*.sh")}
    sourced = set(
        re.findall(r"lib/(\w+)\.sh", "".join((SCRIPTS / name).read_text() for name in (*ENTRIES, "library.sh")))
    )
    assert parts == sourced  # a part that nobody sources would not have been checked


def test_every_script_is_strict_and_says_what_it_does(cloud: Cloud) -> None:
    for name in DRIVERS:
        text = (SCRIPTS / name).read_text()
        assert text.splitlines()[1].startswith(f"# {name} "), name
        assert 'source "$(dirname "${BASH_SOURCE[0]}")/library.sh"' in text
        code, out, said = cloud.run(name, "--help")
        assert (code, said) == (0, ""), name
        assert out.startswith(f"{name} [--dry-run]"), name
    for name in ("library.sh", "worker.sh", "startup.sh", "slurm_gpu.sbatch"):
        assert "set -euo pipefail" in (SCRIPTS / name).read_text()
    assert not cloud.calls()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("FTCOT_TPU_PROJECT", "", "FTCOT_TPU_PROJECT is not set"),
        ("FTCOT_TPU_PROJECT", "my project", "no project id"),
        ("FTCOT_TPU_ZONE", "us-west4", "no zone"),
        ("FTCOT_TPU_BUCKET", "my-bucket", "give gs://BUCKET"),
        ("FTCOT_TPU_BUCKET", "gs://b-1/$(touch x)", "give gs://BUCKET"),
        ("FTCOT_TPU_TYPE", "v9-8", "is not in"),
        ("FTCOT_TPU_TYPE", "tpu7x-16", "TPU7x is offered through GKE only"),
        ("FTCOT_TPU_CAPACITY", "cheap", "take spot, reserved or on-demand"),
        ("FTCOT_TPU_SLICES", "0", "no number of slices"),
        ("FTCOT_TPU_POLL", "1m", "no number of seconds"),
        ("FTCOT_TPU_POLL", "0", "no number of seconds"),
        ("FTCOT_TPU_MAX_PREEMPTIONS", "many", "FTCOT_TPU_MAX_PREEMPTIONS='many' is no whole number"),
        ("FTCOT_TPU_MAX_FAILURES", "010", "is no whole number"),
        ("FTCOT_TPU_MAX_REFUSALS", "20x", "is no whole number"),
    ],
)
def test_wrong_settings(cloud: Cloud, variable: str, value: str, told: str) -> None:
    code, _, said = cloud.run("create.sh", "d64", **{variable: value})
    assert code == 2
    assert told in said
    assert len(said.splitlines()) == 1
    assert not cloud.calls()


@pytest.mark.parametrize("name", ["D64", "a b", "-x", "x" * 41, "$(touch x)", "d64-"])
def test_wrong_names(cloud: Cloud, name: str) -> None:
    code, _, said = cloud.run("create.sh", "--", name)
    assert code == 2
    assert "lower-case letters" in said
    assert not cloud.calls()


def test_wrong_words(cloud: Cloud) -> None:
    for words in (
        ["run.sh", "d64"],
        ["create.sh"],
        ["run.sh", "--what", "d64", "r"],
        ["copy.sh", "d64"],
        ["delete.sh"],
    ):
        assert cloud.run(*words)[0] == 2
    code, _, said = cloud.run("run.sh", "--yes", "d64", "missing.yaml")
    assert (code, "missing.yaml: no such recipe" in said) == (2, True)
    code, _, said = cloud.run("run.sh", "--yes", "--file", "missing", "d64", str(cloud.recipe))
    assert (code, "missing: no such file" in said) == (2, True)
    assert cloud.run("copy.sh", "d64", "../other", "x")[0] == 2
    for folder in ("a", "b"):
        (cloud.root / folder).mkdir()
        (cloud.root / folder / "it's x").write_text(folder)
    files = ("--file", str(cloud.root / "a/it's x"), "--file", str(cloud.root / "b/it's x"))
    code, _, said = cloud.run("run.sh", "--yes", *files, "d64", str(cloud.recipe))
    assert (code, "a second one of this name" in said) == (2, True)


@pytest.mark.parametrize(
    ("location", "code", "told"),
    [
        ("US-WEST4", 0, ""),
        ("US", 0, "one in us-west4 alone is faster"),
        ("US-CENTRAL1", 2, "is in us-central1, the machines in us-west4"),
        ("EU", 2, "is in eu"),
        ("NAM4", 2, "is in nam4"),
    ],
)
def test_bucket_and_machines_in_one_region(cloud: Cloud, location: str, code: int, told: str) -> None:
    cloud.script({"states": [ACTIVE]}, location=location)
    found, _, said = cloud.run("create.sh", "--yes", "d64")
    assert found == code
    assert told in said
    assert cloud.slices() == ([] if code else ["ftcot-d64"])


def test_a_zone_for_accelerators_belongs_to_its_region(cloud: Cloud) -> None:
    """v6e and TPU7x are offered in zones such as us-south1-ai1b (docs.cloud.google.com/tpu/docs/regions-zones)."""
    cloud.script({"states": [ACTIVE]}, location="US-SOUTH1")
    code, _, said = cloud.run("create.sh", "--yes", "d64", FTCOT_TPU_ZONE="us-south1-ai1b", FTCOT_TPU_TYPE="v6e-16")
    assert code == 0, said
    assert cloud.slices() == ["ftcot-d64"]


def test_no_machines_without_consent(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]})
    code, _, said = cloud.run("create.sh", "d64", FTCOT_TPU_TYPE="v5p-512", FTCOT_TPU_CAPACITY="on-demand")
    assert code == 2
    assert "256 chips, on-demand, about $1075.20 an hour" in said
    assert "from memory" in said
    assert "say --yes" in said
    assert not cloud.slices()


def test_secrets_are_names_only(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]})
    key = "sk-abc/def+123"
    code, _, said = cloud.run("run.sh", "--yes", "d64", str(cloud.recipe), FTCOT_TPU_SECRETS=f"OPENAI_API_KEY={key}")
    assert code == 2
    assert "never write a key itself" in said
    assert "sk-abc" not in said
    key = {"OPENAI_API_KEY": "sk-proj-abc", "FTCOT_TPU_SECRETS": "OPENAI_API_KEY=sk-proj-abc"}
    code, out, said = cloud.run("run.sh", "--dry-run", "d64", str(cloud.recipe), **key)
    assert code == 2
    assert "OPENAI_API_KEY has the key itself" in said
    assert "sk-proj" not in out + said


@pytest.mark.parametrize("option", ["--dry-run", "--yes", "--keep", "--file", "--help"])
def test_an_option_behind_the_name_is_refused_not_passed_on(cloud: Cloud, option: str) -> None:
    """A --dry-run that went to ftcot's command line instead created machines."""
    cloud.script({"states": [ACTIVE]})
    for words in (["run.sh", "--yes", "d64", str(cloud.recipe)], ["copy.sh", "d64", "report"], ["status.sh", "d64"]):
        code, out, said = cloud.run(*words, option)
        assert (code, out) == (2, ""), words
        assert said == f"tpu_scripts: {option} belongs before d64\n"
    assert not cloud.calls()


def test_without_gcloud_each_script_says_so_and_stops(cloud: Cloud) -> None:
    """status.sh answered UNKNOWN with exit code 0, create.sh advised to create a bucket."""
    tools = cloud.root / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "mktemp", "touch", "rm", "grep"):
        (tools / tool).symlink_to(f"/usr/bin/{tool}")
    for words in (["status.sh", "d64"], ["create.sh", "--yes", "d64"], ["run.sh", "--yes", "d64", str(cloud.recipe)]):
        code, out, said = cloud.run(*words, PATH=str(tools))
        assert (code, out) == (1, "")
        assert said.startswith("tpu_scripts: gcloud is not on PATH"), said
        assert len(said.splitlines()) == 1


def test_machines_that_are_not_there_or_do_not_answer_are_told(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE], "silent": 9})
    assert cloud.run("delete.sh", "d64") == (0, "", "ftcot-d64: not there in us-west4-a\n")
    assert cloud.run("create.sh", "--yes", "d64")[0] == 0
    code, out, said = cloud.run("status.sh", "d64")
    assert (code, out) == (1, "UNKNOWN\n")
    assert "no answer: ERROR: (gcloud...describe) UNAVAILABLE" in said


def test_types_hold_together() -> None:
    """Chips, hosts and topologies of types.tsv agree with one another."""
    rows = [line.split("\t") for line in (SCRIPTS / "types.tsv").read_text().splitlines() if not line.startswith("#")]
    assert len(rows) == len({row[0] for row in rows}) > 30
    priced = {
        line.split("\t")[0] for line in (SCRIPTS / "prices.tsv").read_text().splitlines() if not line.startswith("#")
    }
    for name, chips, hosts, runtime, label, topology, gke_hosts, gke_chips in rows:
        generation, _, number = name.rpartition("-")
        product = 1
        for side in topology.split("x"):
            product *= int(side)
        assert product == int(chips) == int(gke_hosts) * int(gke_chips), name
        assert int(number) == int(chips) * (1 if generation in ("v5litepod", "v6e") else 2), name
        assert int(chips) / int(hosts) in (1, 4, 8), name
        assert (runtime == "-") == (generation == "tpu7x")
        assert generation in priced or generation == "tpu7x"
        assert label.startswith("tpu")
