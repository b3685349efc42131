"""Files in a bucket: created once however many try; what cannot be reached is one line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from etils import epath

from ftcot_jax.errors import FtcotError
from ftcot_jax.remote_folder import create_exclusively
from tests.fake_gcs import FakeGcs

pytest.importorskip("gcsfs", reason="buckets need the gcs extra")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    with FakeGcs() as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        forget_clients()
        yield fake
        assert not fake.strange
    forget_clients()


def forget_clients() -> None:
    """Clients are kept for a process's life, with the address that they first saw."""
    import gcsfs
    from etils.epath import backend

    gcsfs.GCSFileSystem.clear_instance_cache()
    backend._FileSystemSpecBackend._get_filesystem.cache_clear()


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


def test_what_cannot_be_reached_is_one_line(bucket: FakeGcs) -> None:
    with pytest.raises(FtcotError, match=r"gs://nowhere/x: cannot be reached .no such bucket"):
        create_exclusively(epath.Path("gs://nowhere/x"), "text")
    bucket.forbidden = True
    with pytest.raises(FtcotError, match=r"gs://bucket/x: cannot be reached .*Forbidden"):
        create_exclusively(epath.Path("gs://bucket/x"), "text")
