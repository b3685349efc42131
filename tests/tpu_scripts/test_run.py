"""run.sh against a scripted cloud: from nothing to a finished run, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from tests.tpu_scripts.cloud import ACTIVE, COMING, GONE, Cloud

RUN = ("run.sh", "--yes", "d64")
PODS = {"FTCOT_TPU_TYPE": "v5litepod-16"}  # four machines


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_an_undisturbed_run_and_every_call_of_it(cloud: Cloud) -> None:
    cloud.script({"states": [*COMING, ACTIVE]})
    code, _, said = cloud.run(*RUN, str(cloud.recipe), "train.steps=3")
    assert code == 0, said
    place = ["--project=my-project", "--zone=us-west4-a"]
    queued = ["gcloud", "compute", "tpus", "queued-resources"]
    calls = cloud.calls()
    assert calls[0] == [
        "gcloud",
        "storage",
        "buckets",
        "describe",
        "gs://my-bucket",
        place[0],
        "--format=value(location)",
    ]
    assert calls[1] == ["gcloud", "storage", "cat", "gs://my-bucket/d64/launch/job", "--project=my-project"]
    sent = calls[2]
    assert sent[:4] == ["gcloud", "storage", "rsync", "--recursive"]
    assert sent[-2:] == ["gs://my-bucket/d64/launch", "--project=my-project"]
    assert calls[3] == ["gcloud", "storage", "cat", "gs://my-bucket/d64/launch.done", "--project=my-project"]
    assert calls[4] == [*queued, "describe", "ftcot-d64", "--format=value(state.state)", *place]
    created = calls[5]
    assert created[:6] == [*queued, "create", "ftcot-d64"]
    assert created[6:11] == [
        "--node-id=ftcot-d64",
        "--accelerator-type=v5litepod-4",
        "--runtime-version=v2-alpha-tpuv5-lite",
        "--spot",
        "--metadata=ftcot-launch=gs://my-bucket/d64/launch",
    ]
    assert created[11].startswith("--metadata-from-file=startup-script=/")
    assert created[12:] == place
    ssh = next(call for call in calls if "ssh" in call)
    assert ssh[:10] == [*queued, "ssh", "ftcot-d64", "--node=all", "--worker=all", "--batch-size=all", "--quiet"]
    verbs = cloud.verbs()
    assert verbs[:3] == ["create", "status", "start"]
    assert set(verbs[3:-1]) == {"status"}
    assert verbs[-1] == "delete"
    assert [*queued, "delete", "ftcot-d64", "--force", "--quiet", *place] in calls
    words = ["run", "tiny.yaml", "train.steps=3", "--out", "gs://my-bucket/d64"]
    assert cloud.started() == [{"machines": 0, "worker": 0, "words": words, "secret": None}]
    assert cloud.steps("d64") == [0, 1, 2, 3, 4]
    assert not cloud.slices()
    assert "ftcot ended with exit code 0" in next(cloud.bucket("d64/logs").iterdir()).read_text()


def test_taken_away_asked_for_again_and_gone_on(cloud: Cloud) -> None:
    """Create, run, preempt, delete, create, resume, done; no step is taken twice and none is left out."""
    cloud.script({"states": [*COMING, *[ACTIVE] * 6, *GONE]}, {"states": [*COMING, ACTIVE]})
    cloud.behave(steps=8, stall={"0": 4})
    code, _, said = cloud.run(*RUN, str(cloud.recipe))
    assert code == 0, said
    verbs = [verb for verb in cloud.verbs() if verb != "status"]
    assert verbs == ["create", "start", "delete", "create", "start", "delete"]
    assert cloud.steps("d64") == list(range(8))
    assert [start["machines"] for start in cloud.started()] == [0, 1]
    assert "preemption 1 of at most 100" in said


@pytest.mark.slow
def test_several_workers_of_several_slices(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE], "workers": 8})
    code, _, said = cloud.run(*RUN, str(cloud.recipe), **PODS, FTCOT_TPU_SLICES="2")
    assert code == 0, said
    created = next(call for call in cloud.calls() if "create" in call)
    assert created[6:8] == ["--node-count=2", "--node-prefix=ftcot-d64"]
    assert sorted(start["worker"] for start in cloud.started()) == list(range(8))
    assert all(cloud.steps("d64", worker) == list(range(5)) for worker in range(8))


def test_workers_that_gcloud_leaves_out_are_noticed(cloud: Cloud) -> None:
    """gcloud exits 0 when it could not prepare a machine; a run of three workers out of four must not pass."""
    cloud.script({"states": [ACTIVE], "workers": 4, "mute": 1, "mute_times": 2})
    code, _, said = cloud.run(*RUN, str(cloud.recipe), **PODS)
    assert code == 0, said
    assert "3 of 4 answered" in said
    assert len(cloud.started()) == 4


@pytest.mark.slow
def test_exit_42_on_living_machines_goes_on_there(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]})
    cloud.behave(steps=5, exits={"0.0": [42, 42, None]})
    code, _, said = cloud.run(*RUN, str(cloud.recipe))
    assert code == 0, said
    assert [verb for verb in cloud.verbs() if verb != "status"] == ["create", "start", "start", "start", "delete"], said
    assert "preemption 2 of at most 100" in said


@pytest.mark.slow
def test_other_exit_codes_are_tried_a_few_times_and_shown(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]})
    cloud.behave(steps=5, exits={"0.0": 1})
    code, _, said = cloud.run(*RUN, str(cloud.recipe))
    assert code == 1
    assert len(cloud.started()) == 3
    assert "failed 3 times (exit code 1); logs are in gs://my-bucket/d64/logs" in said
    assert "worker 0 ends with 1" in said
    assert not cloud.slices()


@pytest.mark.slow
def test_a_wrong_recipe_is_not_tried_again(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]})
    cloud.behave(steps=5, exits={"0.0": 2})
    code, _, said = cloud.run(*RUN, str(cloud.recipe))
    assert code == 2
    assert len(cloud.started()) == 1
    assert "the recipe or the command is wrong" in said


@pytest.mark.slow
def test_a_failure_by_machines_going_away_is_no_failure(cloud: Cloud) -> None:
    """When one machine goes, the job on the others fails before the state says why."""
    cloud.script({"states": [ACTIVE, ACTIVE, *GONE], "workers": 4}, {"states": [ACTIVE], "workers": 4})
    cloud.behave(steps=3, exits={f"0.{worker}": 1 for worker in range(4)})
    code, _, said = cloud.run(*RUN, str(cloud.recipe), FTCOT_TPU_POLL="1", FTCOT_TPU_MAX_FAILURES="1", **PODS)
    assert code == 0, said
    assert "failed" not in said
    assert "preemption 1" in said


@pytest.mark.slow
def test_a_worker_left_alone_is_stopped_and_all_begin_again(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE], "workers": 4})
    cloud.behave(steps=5, stall={"0": 2}, exits={"0.3": [42, None]})
    process = cloud.start(*RUN, str(cloud.recipe), **PODS)
    until(lambda: len(cloud.started()) >= 8)
    cloud.behave(steps=5)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "only 3 of 4 workers run: stopping them" in said
    assert "stop" in cloud.verbs()
    assert all(cloud.steps("d64", worker) == list(range(5)) for worker in range(4))


@pytest.mark.slow
def test_a_worker_that_cannot_be_stopped_ends_it_in_the_end(cloud: Cloud) -> None:
    """A job that waits in the device for lost neighbours does not hear SIGTERM: it was stopped again for ever."""
    deaf = cloud.root / "deaf"
    deaf.write_text(
        "#!/usr/bin/env bash\ntrap '' TERM\necho $$ >>$FAKE_MACHINE/pids\n"
        "[[ $FAKE_WORKER == 0 ]] || exit 1\nwhile :; do sleep 1; done\n"
    )
    deaf.chmod(0o755)
    cloud.script({"states": [ACTIVE], "workers": 4})
    code, _, said = cloud.run(*RUN, str(cloud.recipe), **PODS, FAKE_FTCOT=str(deaf), FTCOT_TPU_MAX_REFUSALS="2")
    assert code == 1, said
    assert "gave up after 2 refusals (only 1 of 4 workers run: stopping them)" in said
    assert cloud.verbs().count("stop") == 2
    assert not cloud.slices()


@pytest.mark.slow
def test_preemptions_are_bounded(cloud: Cloud) -> None:
    taken = {"states": [ACTIVE, ACTIVE, *GONE]}
    cloud.script(taken, taken, taken, taken)
    cloud.behave(steps=5, stall={str(number): 0 for number in range(4)})
    code, _, said = cloud.run(*RUN, str(cloud.recipe), FTCOT_TPU_MAX_PREEMPTIONS="2")
    assert code == 42, said
    assert cloud.verbs().count("create") == 3
    assert not cloud.slices()


@pytest.mark.slow
def test_no_room_is_asked_again_and_bounded(cloud: Cloud) -> None:
    full = {
        "refuse": 'There is no more capacity in the zone "us-west4-a"; you can try in another zone (RESOURCE_EXHAUSTED)'
    }
    failed = {"states": ["ACCEPTED", "FAILED"]}
    cloud.script(full, failed, {"states": [ACTIVE]})
    code, _, said = cloud.run(*RUN, str(cloud.recipe))
    assert code == 0, said
    assert [verb for verb in cloud.verbs() if verb != "status"] == [
        "create",
        "create",
        "delete",
        "create",
        "start",
        "delete",
    ]
    assert "has no room now" in said
    cloud.script(*[full] * 9)
    code, _, said = cloud.run("run.sh", "--yes", "other", str(cloud.recipe), FTCOT_TPU_MAX_REFUSALS="3")
    assert code == 1
    assert "gave up after 3 refusals (no room in us-west4-a)" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "RESOURCE_EXHAUSTED: Quota limit 'TPUV5sPreemptibleLitepodPerProjectPerZone' has been exceeded.",
            "quota does not",
        ),
        ("PERMISSION_DENIED: Permission 'tpu.nodes.create' denied", "PERMISSION_DENIED"),
        ("INVALID_ARGUMENT: Unknown runtime version", "Unknown runtime version"),
    ],
)
def test_what_asking_again_cannot_help(cloud: Cloud, words: str, told: str) -> None:
    cloud.script({"refuse": words})
    code, _, said = cloud.run(*RUN, str(cloud.recipe))
    assert code == 1
    assert told in said
    assert cloud.verbs() == ["create"]


@pytest.mark.slow
def test_silence_and_broken_connections_pass(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE], "silent": 3, "unreachable": 3})
    code, _, said = cloud.run(*RUN, str(cloud.recipe))
    assert code == 0, said
    assert "Connection refused" in said
    assert len(cloud.started()) == 1


@pytest.mark.slow
def test_a_connection_that_never_ends_is_cut(cloud: Cloud) -> None:
    """Machines taken away while ssh is connected: it may hang for ever, and the loop must not."""
    cloud.script({"states": [ACTIVE, *GONE], "hangs": 1}, {"states": [ACTIVE]})
    code, _, said = cloud.run(*RUN, str(cloud.recipe), FTCOT_TPU_SSH_SECONDS="5")
    assert code == 0, said
    assert "not every worker answers: ERROR: no end after 5 seconds" in said
    assert "preemption 1" in said
    assert cloud.steps("d64") == list(range(5))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_workers_are_asked_is_not_kept_waiting(cloud: Cloud, number: signal.Signals) -> None:
    cloud.script({"states": [ACTIVE], "hangs": 99})
    process = cloud.start(*RUN, str(cloud.recipe))
    until(lambda: "status" in cloud.verbs())
    os.killpg(process.pid, number)  # as a terminal does
    _, said = process.communicate(timeout=20)
    assert process.returncode == 42, said
    assert "cost money" in said


@pytest.mark.slow
def test_workers_out_of_reach_for_good_end_it(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE], "unreachable": 999})
    code, _, said = cloud.run(*RUN, str(cloud.recipe), FTCOT_TPU_MAX_REFUSALS="3")
    assert code == 1
    assert "not every worker answers" in said
    assert not cloud.slices()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["create", "start", "status"])
@pytest.mark.slow
def test_the_driver_killed_and_run_again(cloud: Cloud, moment: str, number: signal.Signals) -> None:
    """Machines and job live on without it; the same command finds them, and starts nothing twice."""
    cloud.script({"states": [*COMING, ACTIVE]})
    cloud.behave(steps=6, stall={"0": 3})
    process = cloud.start(*RUN, str(cloud.recipe))
    until(lambda: moment in cloud.verbs() and (moment == "create" or cloud.started()))
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == (42 if number == signal.SIGTERM else -number)
    assert number == signal.SIGKILL or "cost money" in said
    assert cloud.slices() == ["ftcot-d64"]
    looked = cloud.verbs().count("status")
    again = cloud.start(*RUN, str(cloud.recipe))
    until(lambda: cloud.verbs().count("status") > looked + 1)
    cloud.behave(steps=6)  # only now, for a job that has ended before it is found may be started again, to no effect
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert cloud.steps("d64") == list(range(6))
    assert len(cloud.started()) == 1
    assert cloud.verbs().count("create") == 1
    assert not cloud.slices()


@pytest.mark.slow
def test_two_drivers_of_one_run_on_one_computer(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]})
    cloud.behave(steps=5, stall={"0": 1})
    first = cloud.start(*RUN, str(cloud.recipe))
    until(cloud.started)
    code, _, said = cloud.run(*RUN, str(cloud.recipe))
    assert code == 1
    assert "another run.sh is at it" in said
    first.terminate()
    first.communicate(timeout=30)


@pytest.mark.slow
def test_a_finished_run_takes_no_machines_again_unless_the_job_changed(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]}, {"states": [ACTIVE]})
    assert cloud.run(*RUN, str(cloud.recipe))[0] == 0
    code, _, said = cloud.run(*RUN, str(cloud.recipe))
    assert code == 0
    assert "finished before" in said
    assert cloud.verbs().count("create") == 1
    assert cloud.run(*RUN, str(cloud.recipe), "seed=7")[0] == 0
    assert cloud.verbs().count("create") == 2


@pytest.mark.slow
def test_another_job_on_the_machines_is_left_alone(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]})
    cloud.behave(steps=5, stall={"0": 1})
    first = cloud.start(*RUN, str(cloud.recipe))
    until(cloud.started)
    first.kill()
    first.communicate(timeout=30)
    held = cloud.bucket("d64/launch/job").read_text()
    code, _, said = cloud.run(*RUN, str(cloud.recipe), "seed=7")
    assert code == 1
    assert "another job runs on its machines" in said
    assert cloud.bucket("d64/launch/job").read_text() == held, "a worker that restarts would take up the other job"
    assert len(cloud.started()) == 1
    assert cloud.slices() == ["ftcot-d64"]


@pytest.mark.slow
def test_kept_machines_serve_the_next_job(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]})
    assert cloud.run("run.sh", "--yes", "--keep", "d64", str(cloud.recipe))[0] == 0
    assert cloud.slices() == ["ftcot-d64"]
    assert cloud.run(*RUN, str(cloud.recipe), "seed=7")[0] == 0
    assert cloud.verbs().count("create") == 1
    assert [start["words"][2] for start in cloud.started()] == ["--out", "seed=7"]
    assert not cloud.slices()
