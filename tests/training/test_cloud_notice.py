"""The cloud's notice, by a metadata server of our own on loopback."""

from __future__ import annotations

import http.server
import os
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftcot_jax.training import cloud_notice as module
from ftcot_jax.training.cloud_notice import CloudNotice, cloud_notice
from ftcot_jax.training.preemption import stop_when_asked
from tests.stages.test_road import ftcot, recipe

__all__ = ["recipe"]


class Metadata(http.server.ThreadingHTTPServer):
    """Answers as Google's server does: at once where the etag differs, else when the value changes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.values = {"preempted": "FALSE", "maintenance-event": "NONE"}
        self.changed = threading.Condition()
        self.asked: list[str] = []
        self.errors = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def set(self, key: str, value: str) -> None:
        with self.changed:
            self.values[key] = value
            self.changed.notify_all()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Metadata

    def do_GET(self) -> None:
        place, _, query = self.path.partition("?")
        key = place.removeprefix("/computeMetadata/v1/instance/")
        self.server.asked.append(self.path)
        if self.server.errors or key not in self.server.values or self.headers["Metadata-Flavor"] != "Google":
            self.server.errors -= 1 if self.server.errors else 0
            self.send_error(503 if key in self.server.values else 404)
            return
        wanted = dict(urllib.parse.parse_qsl(query))
        assert wanted["wait_for_change"] == "true"
        with self.server.changed:
            self.server.changed.wait_for(lambda: self.server.values[key] != wanted["last_etag"], timeout=20)
            value = self.server.values[key]
        self.send_response(200)
        self.send_header("ETag", value)
        self.send_header("Content-Length", str(len(value)))
        self.end_headers()
        self.wfile.write(value.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with Metadata() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def wait_for(notice: CloudNotice, seconds: float = 10) -> str | None:
    deadline = time.monotonic() + seconds
    while notice.reason is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return notice.reason


@pytest.mark.parametrize(
    ("key", "value"), [("preempted", "TRUE"), ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")]
)
def test_a_notice_is_seen(key: str, value: str, metadata: Metadata) -> None:
    notice = CloudNotice(metadata.host)
    metadata.set("maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE")
    assert wait_for(notice, 0.3) is None  # a move while it runs is none
    metadata.set(key, value)
    assert wait_for(notice) == f"the cloud's notice ({key}: {value})"


def test_one_that_is_there_already_and_a_server_that_fails_at_first(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.05)
    metadata.errors = 3
    metadata.set("preempted", "TRUE")
    assert wait_for(CloudNotice(metadata.host)) == "the cloud's notice (preempted: TRUE)"


def test_a_machine_without_such_notices_is_asked_once(metadata: Metadata) -> None:
    metadata.values.clear()
    notice = CloudNotice(metadata.host)
    assert wait_for(notice, 0.5) is None
    assert len(metadata.asked) == 2


def test_elsewhere_nothing_is_asked_or_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GCE_METADATA_HOST", raising=False)
    product = tmp_path / "product_name"
    monkeypatch.setattr(module, "_PRODUCT", product)
    for content in (None, "Standard PC (Q35 + ICH9, 2009)"):
        if content is not None:
            product.write_text(content)
        cloud_notice.cache_clear()
        threads = threading.active_count()
        began = time.monotonic()
        with stop_when_asked() as stop:
            assert stop.reason is None
        assert time.monotonic() - began < 0.1
        assert threading.active_count() == threads
    product.write_text("Google Compute Engine\n")
    assert module._on_google()
    cloud_notice.cache_clear()


def test_a_run_saves_and_exits_42(metadata: Metadata, recipe: Path, tmp_path: Path) -> None:
    metadata.set("preempted", "TRUE")
    command = ["train", str(recipe), "sweep={}", "--out", str(tmp_path / "out")]
    done = ftcot(*command, check=False, env={"GCE_METADATA_HOST": metadata.host})
    assert done.returncode == 42, done.stderr
    said = "ftcot: stopped by the cloud's notice (preempted: TRUE) and saved; run the same command to go on"
    assert done.stderr.splitlines()[-1] == said
    assert os.listdir(next((tmp_path / "out" / "pools").iterdir()) / "checkpoints") != []
