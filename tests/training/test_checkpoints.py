"""Checkpoints: what is kept, what a damaged or half-written one does, and a full disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from ftcot_jax.errors import FtcotError
from ftcot_jax.training.checkpoints import Checkpoints
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.settings import MeshSettings
from ftcot_jax.training.slots import empty_slots
from ftcot_jax.training.step import SlotState, new_state
from tests.fake_gcs import FakeGcs
from tests.training.test_pool import STUDENT, make_trials

ROOT = Path(__file__).parents[2]


class Saver:
    """Checkpoints of two slots of the tiny student, whose numbers are all the tick they were saved at."""

    def __init__(self, folder: Path | epath.Path, architecture: str = "tiny", keep: int = 2) -> None:
        self.lines: list[str] = []
        self.mesh = make_mesh(MeshSettings())
        self.like = new_state(STUDENT.init(0), make_trials()[0].hyper)
        self.checkpoints = Checkpoints(epath.Path(folder), architecture, self.lines.append, keep)

    def state(self, tick: int) -> SlotState:
        empty = empty_slots(self.like, 2, self.mesh, ())
        return jax.tree.map(lambda leaf: jnp.full(leaf.shape, tick, leaf.dtype), empty)

    def save(self, *ticks: int) -> Saver:
        for tick in ticks:
            self.checkpoints.save(tick, self.state(tick), {"slots": [None, {"key": "x"}]})
        return self

    def restored(self) -> int | None:
        """The tick of what is restored, after checking every number of it."""
        found = self.checkpoints.restore(self.like, self.mesh, ())
        if found is None:
            return None
        tick, state, note = found
        assert note == {"slots": [None, {"key": "x"}]}
        jax.tree.map(np.testing.assert_array_equal, state, self.state(tick))
        return tick


@pytest.mark.parametrize(("keep", "kept"), [(1, ["9"]), (3, ["3", "6", "9"])])
def test_the_last_are_kept_and_the_newest_is_restored(keep: int, kept: list[str], tmp_path: Path) -> None:
    saver = Saver(tmp_path, keep=keep).save(1, 3, 6, 9)
    saver.checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    again = Saver(tmp_path, keep=keep)
    assert again.restored() == 9
    assert again.lines == []


def data_files(folder: Path) -> list[Path]:
    found = [file for file in (folder / "state").rglob("*") if file.is_file() and "d" in file.parts]
    assert found
    return found


def empty_arrays(folder: Path) -> None:
    for file in data_files(folder):
        file.write_bytes(b"")


def truncate_arrays(folder: Path) -> None:
    for file in data_files(folder):
        os.truncate(file, file.stat().st_size // 2)


def flip_a_bit(folder: Path) -> None:
    for file in data_files(folder):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


def lose_arrays(folder: Path) -> None:
    for file in data_files(folder):
        file.unlink()


def lose_metadata(folder: Path) -> None:
    (folder / "_CHECKPOINT_METADATA").unlink()


def halve_metadata(folder: Path) -> None:
    file = folder / "_CHECKPOINT_METADATA"
    file.write_bytes(file.read_bytes()[:40])


def lose_state(folder: Path) -> None:
    shutil.rmtree(folder / "state")


def empty_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        empty_arrays,
        truncate_arrays,
        flip_a_bit,
        lose_arrays,
        lose_metadata,
        halve_metadata,
        lose_state,
        empty_folder,
    ],
)
def test_a_damaged_checkpoint_is_moved_aside_and_the_one_before_used(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    Saver(tmp_path).save(3, 6).checkpoints.close()
    damage(tmp_path / "6")
    again = Saver(tmp_path)
    assert again.restored() == 3
    assert len(again.lines) == 1
    assert f"{tmp_path / '6'} is damaged (" in again.lines[0]
    assert (tmp_path / "damaged-6").is_dir()
    again.save(4, 6)  # the damaged one takes no good one's place
    again.checkpoints.close()
    last = Saver(tmp_path)
    assert last.restored() == 6
    assert last.lines == []
    assert {path.name for path in tmp_path.iterdir()} == {"4", "6", "damaged-6"}


def test_what_a_kill_in_the_middle_of_a_save_leaves_is_no_checkpoint(tmp_path: Path) -> None:
    Saver(tmp_path).save(3).checkpoints.close()
    half = tmp_path / "6.orbax-checkpoint-tmp-1700000000"
    shutil.copytree(tmp_path / "3", half)
    truncate_arrays(half)
    again = Saver(tmp_path)
    assert again.restored() == 3
    assert again.lines == []
    again.save(6).checkpoints.close()
    assert {path.name for path in tmp_path.iterdir()} == {"3", "6"}


def test_no_readable_checkpoint_is_a_fresh_start_that_is_said(tmp_path: Path) -> None:
    Saver(tmp_path).save(3).checkpoints.close()
    empty_arrays(tmp_path / "3")
    again = Saver(tmp_path)
    assert again.restored() is None
    assert len(again.lines) == 1


def test_another_students_checkpoint_is_refused(tmp_path: Path) -> None:
    Saver(tmp_path).save(3).checkpoints.close()
    with pytest.raises(FtcotError, match=r"checkpoint of another student \(tiny, not larger\)"):
        Saver(tmp_path, "larger").restored()


def on_a_small_disk(folder: Path, megabytes: int, script: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with a file system of its own at `folder`; skips where the kernel does not let users have one."""
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs {folder} && exec {sys.executable} - {folder}"
    if subprocess.run(["unshare", "-r", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("users may not mount here (unshare -r -m)")
    return subprocess.run(
        ["unshare", "-r", "-m", "sh", "-c", mount],
        input=textwrap.dedent(script),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_really_full_disk_costs_one_checkpoint_and_no_other(tmp_path: Path) -> None:
    done = on_a_small_disk(
        tmp_path,
        16,
        """
        import json, sys
        from pathlib import Path
        from tests.training.test_checkpoints import Saver
        folder = Path(sys.argv[1])
        saver = Saver(folder / "checkpoints").save(3)
        with (folder / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(1024))
            except OSError as error:
                full = error.errno
        saver.save(6)
        said, first = list(saver.lines), Saver(folder / "checkpoints").restored()
        (folder / "filler").unlink()
        saver.save(9)
        saver.checkpoints.close()
        print(json.dumps([full, said, first, saver.lines[len(said):], Saver(folder / "checkpoints").restored()]))
        """,
    )
    assert done.returncode == 0, done.stderr
    full, said, first, later, last = json.loads(done.stdout)
    assert full == 28
    assert len(said) == 1
    assert f"a checkpoint was not saved, the disk of {tmp_path / 'checkpoints'} is full; the run goes on" in said[0]
    assert (first, later, last) == (3, [], 9)


def test_an_error_other_than_a_full_disk_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = Saver(tmp_path)

    def fails(*args: Any, **kwargs: Any) -> None:
        raise OSError(13, os.strerror(13))

    monkeypatch.setattr(saver.checkpoints._checkpointer, "save_checkpointables_async", fails)
    with pytest.raises(OSError, match="Permission denied"):
        saver.save(2)


def test_in_a_bucket_too_a_damaged_checkpoint_is_moved_aside_and_the_one_before_used(bucket: FakeGcs) -> None:
    folder = epath.Path("gs://bucket/run/checkpoints")
    Saver(folder).save(3, 6, 9).checkpoints.close()
    assert {key.split("/")[2] for key in bucket.files()} == {"6", "9"}
    assert Saver(folder).restored() == 9
    arrays = [key for key in bucket.files() if "/9/" in key and "/d/" in key]
    for key in arrays:
        del bucket.buckets["bucket"][key]
    again = Saver(folder)
    assert again.restored() == 6
    assert len(again.lines) == 1
    assert f"{folder / '9'} is damaged (" in again.lines[0]
    again.save(9, 12).checkpoints.close()
    assert {key.split("/")[2] for key in bucket.files()} == {"9", "12", "damaged-9"}


def test_a_bucket_out_of_reach_damages_no_checkpoint(bucket: FakeGcs) -> None:
    folder = epath.Path("gs://bucket/run/checkpoints")
    ours = Saver(folder).save(3)
    bucket.forbidden = "checkpoints"
    with pytest.raises(FtcotError, match=r"gs://bucket/run/checkpoints.*: cannot be reached .*storage.objects"):
        ours.restored()
    with pytest.raises(FtcotError, match=r"gs://bucket/run/checkpoints: cannot be reached .*storage.objects"):
        ours.save(6)
    bucket.forbidden = None
    assert Saver(folder).restored() == 3
