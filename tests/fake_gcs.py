"""A bucket service in memory: the part of Google's JSON API that gcsfs, Google's client and TensorStore speak.

Run in a thread of the test; processes reach it through the variables in `environment`. Written after the API's public
reference, strict about what it does not know: an unknown path answers 501 and is kept in `strange`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import threading
import urllib.parse
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from aiohttp import web

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # read on import; it asks over gRPC what kind of bucket it is


@dataclass
class Blob:
    """An object: its content, and a number that no other write ever got."""

    content: bytes
    generation: int


@dataclass
class FakeGcs:
    """Buckets in memory behind HTTP on a loopback port.

    Attributes:
      buckets: name -> key -> object.
      unplugged: connections for what this pattern is found in are dropped without an answer.
      forbidden: requests for what this pattern is found in are answered with `refusal`.
      refusal: 403, or 401 as for a caller without credentials.
      requests: method and path of all so far.
    """

    names: tuple[str, ...] = ("bucket",)
    unplugged: str | None = None
    forbidden: str | None = None
    refusal: int = 403
    buckets: dict[str, dict[str, Blob]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    _sessions: dict[str, tuple[str, str, bytearray, str | None]] = field(default_factory=dict)
    _generation: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to see these buckets and no others."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "NO_GCE_CHECK": "true",
        }

    def files(self, bucket: str = "bucket", under: str = "") -> dict[str, bytes]:
        """Keys below a prefix, with their contents."""
        return {key: blob.content for key, blob in sorted(self.buckets[bucket].items()) if key.startswith(under)}

    def __enter__(self) -> FakeGcs:
        for name in self.names:
            self.buckets.setdefault(name, {})
        started = threading.Event()
        self._loop = asyncio.new_event_loop()

        async def serve() -> None:
            app = web.Application(client_max_size=2**31)
            app.router.add_route("*", "/{path:.*}", self._answer)
            self._runner = web.AppRunner(app, shutdown_timeout=0.1)
            await self._runner.setup()
            site = web.TCPSite(self._runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
            started.set()

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.create_task(serve())
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        self.requests.append(f"{request.method} {path}")
        what = str(request.rel_url)
        if self.unplugged is not None and re.search(self.unplugged, what):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.forbidden is not None and re.search(self.forbidden, what):
            who = "the caller" if self.refusal == 403 else "Anonymous caller"
            return _error(self.refusal, f"{who} does not have storage.objects.get access")
        body = await request.read()
        for pattern, method in (
            (r"/upload/(?:storage/v1/|resumable/)?b/([^/]+)/o", self._upload),
            (r"/(?:storage/v1/|)b/([^/]+)/o/([^/]+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/]+)", self._copy),
            (r"/(?:storage/v1/|)b/([^/]+)/o/([^/]+)/moveTo/o/([^/]+)", self._move),
            (r"/(?:download/)?(?:storage/v1/|)b/([^/]+)/o/([^/]+)", self._object),
            (r"/(?:storage/v1/|)b/([^/]+)/o/?", self._list),
            (r"/(?:storage/v1/|)b/([^/]+)", self._bucket),
        ):
            match = re.fullmatch(pattern, path)
            if match:
                names = [urllib.parse.unquote(name) for name in match.groups()]
                if names[0] not in self.buckets:
                    return _error(404, f"The specified bucket does not exist: {names[0]}")
                return method(request, body, *names)
        self.strange.append(f"{request.method} {request.rel_url}")
        return _error(501, f"not part of this fake: {request.method} {path}")

    def _bucket(self, request: web.Request, body: bytes, bucket: str) -> web.Response:
        return web.json_response({"kind": "storage#bucket", "name": bucket, "id": bucket, "location": "US"})

    def _list(self, request: web.Request, body: bytes, bucket: str) -> web.Response:
        query = request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, prefixes = [], set()
        for key in sorted(self.buckets[bucket]):
            if not key.startswith(prefix) or key < query.get("startOffset", ""):
                continue
            if "endOffset" in query and key >= query["endOffset"]:
                continue
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if found:
                prefixes.add(prefix + head + delimiter)
            else:
                items.append(self._meta(bucket, key))
        page, size = int(query.get("pageToken", "0")), int(query.get("maxResults", "1000"))
        answer: dict[str, Any] = {"kind": "storage#objects", "items": items[page : page + size]}
        if prefixes and not page:
            answer["prefixes"] = sorted(prefixes)
        if page + size < len(items):
            answer["nextPageToken"] = str(page + size)
        return web.json_response(answer)

    def _object(self, request: web.Request, body: bytes, bucket: str, key: str) -> web.Response:
        blob, query = self.buckets[bucket].get(key), request.query
        if blob is None:
            return _error(404, f"No such object: {bucket}/{key}")
        for condition, met in (("ifGenerationMatch", True), ("ifGenerationNotMatch", False)):
            if condition in query and (int(query[condition]) == blob.generation) != met:
                return _error(412 if met else 304, "conditionNotMet")
        if request.method == "DELETE":
            del self.buckets[bucket][key]
            return web.Response(status=204)
        if request.method != "GET":
            return _error(501, request.method)
        if query.get("alt") != "media":
            return web.json_response(self._meta(bucket, key))
        headers = {"x-goog-generation": str(blob.generation), "x-goog-hash": f"md5={_md5(blob.content)}"}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if part is None:
            return web.Response(body=blob.content, headers=headers)
        first, last = int(part[1]), min(int(part[2] or len(blob.content)), len(blob.content) - 1)
        if first >= len(blob.content):
            return _error(416, "range not satisfiable")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(blob.content)}"
        return web.Response(status=206, body=blob.content[first : last + 1], headers=headers)

    def _upload(self, request: web.Request, body: bytes, bucket: str) -> web.Response:
        query, condition = request.query, request.query.get("ifGenerationMatch")
        if request.method == "PUT" or "upload_id" in query:
            return self._chunk(request, body)
        if query["uploadType"] == "media":
            return self._write(bucket, query["name"], body, condition)
        if query["uploadType"] == "resumable":
            name = query.get("name") or json.loads(body)["name"]
            session = str(len(self._sessions))
            self._sessions[session] = (bucket, name, bytearray(), condition)
            where = f"{self.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session}"
            return web.Response(headers={"Location": where})
        boundary = request.headers["Content-Type"].partition("boundary=")[2].strip("\"'").encode()
        _, head, rest = body.split(b"--" + boundary, 2)
        content = rest.rpartition(b"--" + boundary + b"--")[0]
        meta = json.loads(re.split(rb"\r?\n\r?\n", head, maxsplit=1)[1])
        content = re.split(rb"\r?\n\r?\n", content, maxsplit=1)[1]
        content = content[:-2] if content.endswith(b"\r\n") else content[:-1]
        return self._write(bucket, meta["name"], content, condition)

    def _chunk(self, request: web.Request, body: bytes) -> web.Response:
        bucket, name, so_far, condition = self._sessions[request.query["upload_id"]]
        if request.method == "DELETE":
            return web.Response(status=499)
        so_far += body
        total = request.headers.get("Content-Range", "").rpartition("/")[2]
        if total.isdigit() and len(so_far) >= int(total):
            return self._write(bucket, name, bytes(so_far), condition)
        return web.Response(status=308, headers={"Range": f"bytes=0-{len(so_far) - 1}"} if so_far else {})

    def _write(self, bucket: str, key: str, content: bytes, condition: str | None) -> web.Response:
        there = self.buckets[bucket].get(key)
        if condition is not None and int(condition) != (0 if there is None else there.generation):
            return _error(412, "conditionNotMet")
        self._generation += 1
        self.buckets[bucket][key] = Blob(content, self._generation)
        return web.json_response(self._meta(bucket, key))

    def _copy(self, request: web.Request, body: bytes, bucket: str, key: str, to: str, name: str) -> web.Response:
        blob = self.buckets[bucket].get(key)
        if blob is None:
            return _error(404, f"No such object: {bucket}/{key}")
        self._write(to, name, blob.content, None)
        return web.json_response({"done": True, "resource": self._meta(to, name)})

    def _move(self, request: web.Request, body: bytes, bucket: str, key: str, name: str) -> web.Response:
        answer = self._copy(request, body, bucket, key, bucket, name)
        if answer.status != 200:
            return answer
        del self.buckets[bucket][key]
        return web.json_response(self._meta(bucket, name))

    def _meta(self, bucket: str, key: str) -> dict[str, Any]:
        blob = self.buckets[bucket][key]
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": key,
            "id": f"{bucket}/{key}/{blob.generation}",
            "generation": str(blob.generation),
            "size": str(len(blob.content)),
            "md5Hash": _md5(blob.content),
            "updated": "2026-01-01T00:00:00.000Z",
            "timeCreated": "2026-01-01T00:00:00.000Z",
        }


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"code": status, "message": message}}, status=status)
