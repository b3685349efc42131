"""Files in a bucket: created once however many try, made and found whole, and one line where it cannot be reached."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest
from etils import epath

from ftcot_jax import artifacts
from ftcot_jax.artifacts import Artifact, Store, write_atomically
from ftcot_jax.errors import FtcotError
from ftcot_jax.remote_folder import Mirror, create_exclusively, sizes
from tests.fake_gcs import FakeGcs


@pytest.mark.parametrize("where", ["bucket", "disk"])
def test_one_of_many_creates_a_file(bucket: FakeGcs, where: str, tmp_path: Path) -> None:
    path = epath.Path("gs://bucket/claims/one") if where == "bucket" else epath.Path(tmp_path / "one")
    said: dict[int, bool] = {}
    threads = [
        threading.Thread(target=lambda n=n: said.update({n: create_exclusively(path, f"writer {n}")})) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number, made in said.items() if made]
    assert len(said) == 8
    assert len(winners) == 1
    assert path.read_text() == f"writer {winners[0]}"
    assert create_exclusively(path, f"writer {winners[0]}")  # its answer may have been lost
    assert not create_exclusively(path, "another")
    path.unlink()
    assert create_exclusively(path, "another")
    assert [found.name for found in path.parent.iterdir()] == ["one"]


def test_what_cannot_be_reached_is_one_line(bucket: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> None:
    path = epath.Path("gs://bucket/x")
    with pytest.raises(FtcotError, match=r"gs://nowhere/x: cannot be reached .no such bucket"):
        create_exclusively(epath.Path("gs://nowhere/x"), "text")
    bucket.forbidden = ""
    with pytest.raises(FtcotError, match=r"gs://bucket/x: cannot be reached .*the caller does not have"):
        create_exclusively(path, "text")
    monkeypatch.setattr(bucket, "refusal", 401)
    anonymous = r"gs://bucket/x: cannot be reached .*Anonymous caller .* doctor --out"
    for reach in (lambda: create_exclusively(path, "a"), lambda: sizes(path), lambda: write_atomically(path, "a")):
        with pytest.raises(FtcotError, match=anonymous):
            reach()
    bucket.forbidden = None

    def lacks(*args: object) -> None:
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "filesystem", lacks)
    with pytest.raises(FtcotError, match=r'gs://bucket/x: needs gcsfs; pip install "ftcot_jax\[gcs\]"'):
        create_exclusively(path, "text")


def make(folder: epath.Path) -> dict[str, Any]:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text("content")
    (folder / "top").write_text(str(folder))
    return {"count": 1}


def store(disk: Path) -> tuple[Store, list[str]]:
    lines: list[str] = []
    return Store(epath.Path("gs://bucket/artifacts"), lines.append, local=disk), lines


def test_an_artefact_is_made_here_kept_there_and_fetched_by_who_reads_it(bucket: FakeGcs, tmp_path: Path) -> None:
    ours, _ = store(tmp_path / "ours")
    made = ours.make("thing", {"a": 1}, make)
    assert made.fresh
    assert not [path for path in (tmp_path / "ours").rglob("*") if path.is_file() and ".locks" not in path.parts]
    theirs, lines = store(tmp_path / "theirs")
    found = theirs.make("thing", {"a": 1}, lambda folder: pytest.fail("made twice"))
    assert lines == [f"thing: reusing {made.path}"]
    assert found.manifest == made.manifest
    assert not (tmp_path / "theirs" / "file").exists()
    assert (found.on_disk("sub") / "file").read_text() == "content"
    kept = [path for path in (tmp_path / "theirs").rglob("*") if path.is_file() and ".locks" not in path.parts]
    assert [path.name for path in kept] == ["file"]  # what nobody asked for stays where it is
    kept[0].write_text("cut")
    assert found.on_disk("sub/file").read_text() == "content"
    asked = len(bucket.requests)
    assert found.on_disk("sub/file").read_text() == "content"
    assert len(bucket.requests) == asked


def test_two_workers_at_once_make_one_whole_artefact(bucket: FakeGcs, tmp_path: Path) -> None:
    """Neither can see the other before both have made theirs."""
    both = threading.Barrier(2)
    said: list[list[str]] = []
    found: list[Artifact] = []

    def build(folder: epath.Path) -> dict[str, Any]:
        summary = make(folder)
        both.wait(20)
        return summary

    def work(number: int) -> None:
        ours, lines = store(tmp_path / str(number))
        found.append(ours.make("thing", {"a": 1}, build))
        said.append(lines)

    threads = [threading.Thread(target=work, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(artifact.fresh for artifact in found) == [False, True]
    assert found[0].path == found[1].path
    assert found[0].on_disk("top").read_text() == found[1].on_disk("top").read_text()
    assert sorted(line.split()[1] for lines in said for line in lines) == ["another", "made"]
    keys = sorted(bucket.files())
    folder = f"artifacts/{found[0].name}"
    part = found[0].manifest["at"]
    assert keys == sorted([f"{folder}/manifest.json", f"{folder}/{part}/sub/file", f"{folder}/{part}/top"])


def test_what_a_kill_leaves_is_no_artefact(bucket: FakeGcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: Any) -> bool:
        raise KeyboardInterrupt

    ours, _ = store(tmp_path / "ours")
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "create_exclusively", killed)
        with pytest.raises(KeyboardInterrupt):
            ours.make("thing", {"a": 1}, make)
    assert len(bucket.files()) == 2
    again, _ = store(tmp_path / "theirs")
    assert again.find("thing", {"a": 1}) is None
    made = again.make("thing", {"a": 1}, make)
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "remove_tree", killed)
        with pytest.raises(KeyboardInterrupt):
            again.remove(made)
    assert len(bucket.files()) == 4
    assert again.find("thing", {"a": 1}) is None
    assert again.make("thing", {"a": 1}, make).fresh


def test_a_removed_artefact_is_gone_here_and_there(bucket: FakeGcs, tmp_path: Path) -> None:
    ours, _ = store(tmp_path / "ours")
    ours.make("thing", {"a": 1}, make)
    other = ours.make("thing", {"a": 2}, make)
    found = ours.find("thing", {"a": 1})
    assert found is not None
    found.on_disk("top")
    ours.remove(found)
    assert ours.find("thing", {"a": 1}) is None
    assert not list((tmp_path / "ours").rglob("top"))
    assert {key.split("/")[1] for key in bucket.files()} == {other.name}


def test_a_damaged_artefact_is_named(bucket: FakeGcs, tmp_path: Path) -> None:
    made = store(tmp_path / "ours")[0].make("thing", {"a": 1}, make)
    key = f"artifacts/{made.name}/{made.manifest['at']}/sub/file"
    bucket.buckets["bucket"][key].content = b"cut"
    message = rf"gs://bucket/{key} has 3 bytes, not 7: damaged; delete gs://bucket/artifacts/{made.name} to make it"
    with pytest.raises(FtcotError, match=message):
        store(tmp_path / "theirs")[0].find("thing", {"a": 1})
    late, _ = store(tmp_path / "late")
    bucket.buckets["bucket"][key].content = b"content"
    found = late.find("thing", {"a": 1})
    assert found is not None
    del bucket.buckets["bucket"][key]
    with pytest.raises(FtcotError, match=rf"{made.path}: a file of it is gone"):
        found.on_disk("sub")
    assert not [path for path in (tmp_path / "late").rglob("*") if path.is_file()]


def test_logs_follow_a_trial_from_machine_to_machine(bucket: FakeGcs, tmp_path: Path) -> None:
    remote = epath.Path("gs://bucket/pool")

    def write(machine: str, name: str, text: str) -> Path:
        path = tmp_path / machine / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    first = Mirror(tmp_path / "first", remote)
    mine = write("first", "metrics/a", "1")
    write("first", "metrics/b", "another worker's")
    first.fetch("metrics/a")  # there is none yet
    first.push(["metrics/a", "wandb"])
    assert bucket.files() == {"pool/metrics/a": b"1"}
    second = Mirror(tmp_path / "second", remote)
    second.fetch("metrics/a")
    assert (tmp_path / "second" / "metrics" / "a").read_text() == "1"
    write("second", "metrics/a", "2")  # of the same size: what is fetched is known by more
    second.push(["metrics/a"])
    write("second", "board/x/events", "e")
    second.push(["metrics/a", "board"])
    assert bucket.files() == {"pool/metrics/a": b"2", "pool/board/x/events": b"e"}
    asked = len([request for request in bucket.requests if request.startswith("POST")])
    second.push(["metrics/a", "board"])
    assert len([request for request in bucket.requests if request.startswith("POST")]) == asked
    Mirror(tmp_path / "first", remote).fetch("metrics/a")
    assert mine.read_text() == "2"
    here = Mirror(tmp_path / "first", epath.Path(tmp_path / "first"))
    here.fetch("metrics/a")
    here.push(["metrics/a"])
    assert mine.read_text() == "2"
