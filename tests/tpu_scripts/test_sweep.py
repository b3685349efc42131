"""A grid over several slices: what is prepared goes out, what is made comes back, and a second call goes on."""

from __future__ import annotations

import time

import pytest

from tests.tpu_scripts.cloud import ACTIVE, GONE, Cloud

SHARDS = ("--shard", "d1", "select.diversity=1", "--shard", "d8", "sweep.axes=[{select.diversity: [4, 8]}]", "x=1")


def test_shards_run_at_once_and_come_together(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE, ACTIVE, *GONE]}, {"states": [ACTIVE]})
    cloud.behave(steps=5, stall={"0": 2})
    prepared = cloud.bucket("ds/artifacts/records-1")
    prepared.mkdir(parents=True)
    (prepared / "manifest.json").write_text("{}")
    partial = cloud.bucket("ds/artifacts/.partial-records-2")
    partial.mkdir()
    (partial / "half").write_text("")
    code, _, said = cloud.run("sweep.sh", "--yes", "ds", str(cloud.recipe), "seed=1", *SHARDS)
    assert code == 0, said
    assert "2 x v5litepod-4 = 8 chips" in said
    assert "all 2 shards finished" in said
    for shard, words in (("d1", ["select.diversity=1"]), ("d8", ["sweep.axes=[{select.diversity: [4, 8]}]", "x=1"])):
        mine = [one["words"] for one in cloud.started() if one["words"][-1] == f"gs://my-bucket/ds-{shard}"]
        assert (
            mine == [["run", "tiny.yaml", "seed=1", *words, "--out", f"gs://my-bucket/ds-{shard}"]] * 2
        )  # preempted once
        assert cloud.steps(f"ds-{shard}") == list(range(5))
        assert cloud.bucket(f"ds-{shard}/artifacts/records-1/manifest.json").is_file()
        assert cloud.bucket(f"ds/artifacts/student-ds-{shard}").is_file()
        assert not cloud.bucket(f"ds-{shard}/artifacts/.partial-records-2").exists()
    assert not cloud.slices()


@pytest.mark.slow
def test_failed_and_preempted_shards_are_told_apart_and_gone_on_with(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]}, {"states": [ACTIVE]})
    cloud.behave(steps=5, exits={"0.0": 2})
    code, _, said = cloud.run("sweep.sh", "--yes", "ds", str(cloud.recipe), *SHARDS)
    assert code == 1
    assert "failed: ds-d1 ds-d8" in said
    cloud.behave(steps=5)
    code, _, said = cloud.run("sweep.sh", "--yes", "ds", str(cloud.recipe), *SHARDS)
    assert code == 0, said
    before = len(cloud.started())
    code, _, said = cloud.run("sweep.sh", "--yes", "ds", str(cloud.recipe), *SHARDS)
    assert code == 0, said
    assert len(cloud.started()) == before  # finished shards take no machines again


@pytest.mark.slow
def test_the_sweep_killed_and_called_again(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]}, {"states": [ACTIVE]})
    cloud.behave(steps=5, stall={"0": 2})
    sweep = cloud.start("sweep.sh", "--yes", "ds", str(cloud.recipe), *SHARDS)
    end = time.monotonic() + 60
    while len(cloud.started()) < 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    sweep.terminate()
    _, said = sweep.communicate(timeout=60)
    assert sweep.returncode == 42
    assert "delete.sh ds-d1 ds-d8" in said
    assert cloud.slices() == ["ftcot-ds-d1", "ftcot-ds-d8"]
    cloud.behave(steps=5)
    code, _, said = cloud.run("sweep.sh", "--yes", "ds", str(cloud.recipe), *SHARDS)
    assert code == 0, said
    assert len(cloud.started()) == 2
    assert not cloud.slices()


def test_wrong_shards(cloud: Cloud) -> None:
    recipe = str(cloud.recipe)
    for words, told in (
        ([], "no --shard given"),
        (["--shard"], "wants a name"),
        (["--shard", "a", "x=1", "--shard", "a"], "two shards are called 'a'"),
        (["--shard", "A"], "lower-case"),
    ):
        code, _, said = cloud.run("sweep.sh", "--yes", "ds", recipe, *words)
        assert code == 2
        assert told in said
    assert not cloud.calls()
