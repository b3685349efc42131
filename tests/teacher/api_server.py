"""A fake of the files, batches, fine-tuning and completion APIs on loopback, with faults on cue and a count of all.

What matters is its own ledger: `uploads`, `creations` and `bought` say what a client really caused, whatever the
client believes. A fault plays either before a request has its effect or after it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclasses.dataclass(frozen=True)
class Fault:
    """Plays `play(request, answer)` in place of an answer; `after` the request had its effect, or instead of it."""

    play: Callable[[web.Request, web.StreamResponse | None], Awaitable[web.StreamResponse]]
    after: bool


@dataclasses.dataclass
class Ending:
    """How a batch ends: its status, how many of its rows are answered, and what some rows say instead."""

    status: str = "completed"
    rows: int | None = None
    row_faults: dict[str, tuple[int, dict[str, Any]]] = dataclasses.field(default_factory=dict)
    choices: int | None = None  # a server that gives fewer choices than asked for
    errors: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    polls: int = 1  # looks at it before it ends


class ApiServer:
    """The server; `script[route]` holds the faults of that route's next requests (None: no fault).

    Attributes:
      url: base URL.
      uploads: file name to times uploaded.
      creations: (kind, key) to times created, where the key is the client's own metadata.
      bought: (prompt, seed, choice) to times a text was made for it.
      hits: route to requests.
      keys: Authorization headers seen.
    """

    def __init__(self) -> None:
        self.url = ""
        self.script: dict[str, list[Fault | None]] = collections.defaultdict(list)
        self.endings: list[Ending] = []
        self.job_endings: list[dict[str, Any]] = []
        self.uploads: collections.Counter[str] = collections.Counter()
        self.creations: collections.Counter[tuple[str, str]] = collections.Counter()
        self.bought: collections.Counter[tuple[str, int, int]] = collections.Counter()
        self.hits: collections.Counter[str] = collections.Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.models: dict[str, str] = {}
        self.keeps_metadata = True
        self.lists_paged = True
        self.seconds = 0.0  # that an answer takes
        self.answer: Callable[[str], str] = lambda prompt: f" text {hashlib.sha256(prompt.encode()).hexdigest()[:6]}"
        self._endings: dict[str, Ending] = {}

    @contextlib.contextmanager
    def serving(self) -> Iterator[ApiServer]:
        app = web.Application(client_max_size=2**28)
        for method, path, handler in (
            ("POST", "/files", self._upload),
            ("GET", "/files", self._list_files),
            ("GET", "/files/{id}/content", self._content),
            ("POST", "/batches", self._create_batch),
            ("GET", "/batches", self._list_batches),
            ("GET", "/batches/{id}", self._batch),
            ("POST", "/fine_tuning/jobs", self._create_job),
            ("GET", "/fine_tuning/jobs", self._list_jobs),
            ("GET", "/fine_tuning/jobs/{id}", self._job),
            ("POST", "/completions", self._complete),
            ("POST", "/chat/completions", self._complete),
        ):
            app.router.add_route(method, f"/v1{path}", self._scripted(f"{method} {path}", handler))
        loop = asyncio.new_event_loop()
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        loop.run_until_complete(runner.setup())
        loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _scripted(self, route: str, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.hits[route] += 1
            self.keys.add(request.headers.get("Authorization"))
            waiting = self.script[route]
            fault = waiting.pop(0) if waiting else None
            if fault is not None and not fault.after:
                return await fault.play(request, None)
            answer = await handler(request)
            return answer if fault is None else await fault.play(request, answer)

        return handle

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload = form["file"]
        assert isinstance(upload, web.FileField)
        content = upload.file.read()
        self.uploads[upload.filename] += 1
        return web.json_response(self._add_file(upload.filename, content, str(form["purpose"])))

    def _add_file(self, name: str, content: bytes, purpose: str) -> dict[str, Any]:
        file_id = f"file-{len(self.files)}"
        self.contents[file_id] = content
        self.files[file_id] = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": len(self.files),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        return self.files[file_id]

    async def _list_files(self, request: web.Request) -> web.Response:
        purpose = request.query.get("purpose")
        return self._page(request, [row for row in self.files.values() if purpose in (None, row["purpose"])])

    def _page(self, request: web.Request, rows: list[dict[str, Any]]) -> web.Response:
        rows = rows[::-1]  # newest first, as OpenAI
        if not self.lists_paged:  # a server that ignores `after` and says nothing of more
            return web.json_response({"object": "list", "data": rows})
        ids = [row["id"] for row in rows]
        start = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        page = rows[start : start + 3]  # small pages, so that every test walks them
        return web.json_response({"object": "list", "data": page, "has_more": start + 3 < len(rows)})

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.contents[request.match_info["id"]], content_type="application/octet-stream")

    async def _create_batch(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["input_file_id"] not in self.files:
            return web.json_response(
                {"error": {"message": f"No such File object: {body['input_file_id']}"}}, status=400
            )
        metadata = body.get("metadata") or {}
        self.creations["batch", metadata.get("ftcot_key", "")] += 1
        batch_id = f"batch_{len(self.batches)}"
        rows = self.contents[body["input_file_id"]].splitlines()
        self._endings[batch_id] = self.endings.pop(0) if self.endings else Ending()
        self.batches[batch_id] = {
            "id": batch_id,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": body["completion_window"],
            "created_at": len(self.batches),
            "status": "validating",
            "request_counts": {"total": len(rows), "completed": 0, "failed": 0},
            "metadata": metadata if self.keeps_metadata else None,
        }
        return web.json_response(self.batches[batch_id])

    async def _list_batches(self, request: web.Request) -> web.Response:
        return self._page(request, list(self.batches.values()))

    async def _batch(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return web.json_response({"error": {"message": "No such batch"}}, status=404)
        ending = self._endings[batch["id"]]
        if batch["status"] in ("validating", "in_progress"):
            if ending.polls > 0:
                ending.polls -= 1
                batch["status"] = "in_progress"
            else:
                self._end(batch, ending)
        return web.json_response(batch)

    def _end(self, batch: dict[str, Any], ending: Ending) -> None:
        rows = [json.loads(line) for line in self.contents[batch["input_file_id"]].splitlines()]
        batch["status"], batch["errors"] = ending.status, {"object": "list", "data": ending.errors}
        if ending.status == "failed":
            return
        output, errors = [], []
        for place, row in enumerate(rows):
            result = {"id": f"batch_req_{place}", "custom_id": row["custom_id"], "response": None, "error": None}
            if ending.rows is not None and place >= ending.rows:
                result["error"] = {"code": f"batch_{ending.status}", "message": "This request could not be executed."}
                errors.append(result)
            elif row["custom_id"] in ending.row_faults:
                status, body = ending.row_faults[row["custom_id"]]
                errors.append(result | {"response": {"status_code": status, "request_id": "r", "body": body}})
            else:
                body = self.complete(row["body"], chat="chat" in row["url"], choices=ending.choices)
                output.append(result | {"response": {"status_code": 200, "request_id": "r", "body": body}})
        output.reverse()  # the order of the input is not promised
        for name, made in (("output", output), ("error", errors)):
            if made:
                content = "".join(json.dumps(row) + "\n" for row in made).encode()
                batch[f"{name}_file_id"] = self._add_file(f"{batch['id']}_{name}.jsonl", content, "batch_output")["id"]
        batch["request_counts"] = {"total": len(rows), "completed": len(output), "failed": len(errors)}

    def complete(self, body: dict[str, Any], chat: bool, choices: int | None = None) -> dict[str, Any]:
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        count = min(body.get("n", 1), choices or 10**9)
        made = []
        for choice in range(count):
            # As vLLM: sibling choices have consecutive seeds.
            seed = body.get("seed", 0) + choice
            self.bought[prompt, body.get("seed", 0), choice] += 1
            text = self.answer(prompt) + (f" {seed}" if body["temperature"] else "")
            said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            made.append({"index": choice, "finish_reason": "stop"} | said)
        return {"choices": made[::-1], "usage": {"prompt_tokens": 3, "completion_tokens": 2 * count}}

    async def _create_job(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["training_file"] not in self.files:
            return web.json_response({"error": {"message": "training file not found"}}, status=400)
        metadata = body.get("metadata") or {}
        self.creations["job", metadata.get("ftcot_key", "")] += 1
        self.bodies.append(body)
        job_id = f"ftjob-{len(self.jobs)}"
        self.jobs[job_id] = {
            "id": job_id,
            "object": "fine_tuning.job",
            "created_at": len(self.jobs),
            "model": body["model"],
            "training_file": body["training_file"],
            "hyperparameters": body.get("hyperparameters") or {},
            "metadata": metadata if self.keeps_metadata else None,
            "organization_id": "org",
            "result_files": [],
            "seed": body.get("seed") or 0,
            "status": "validating_files",
            "fine_tuned_model": None,
            "ending": self.job_endings.pop(0) if self.job_endings else {},
        }
        return web.json_response(self._shown(self.jobs[job_id]))

    async def _list_jobs(self, request: web.Request) -> web.Response:
        return self._page(request, [self._shown(job) for job in self.jobs.values()])

    async def _job(self, request: web.Request) -> web.Response:
        job = self.jobs[request.match_info["id"]]
        steps = ["validating_files", "queued", "running", "succeeded"]
        if job["status"] in steps[:3]:
            job["status"] = steps[steps.index(job["status"]) + 1]
            if job["status"] == "succeeded":
                model = f"ft:{job['model']}:{job['id']}"
                self.models[model] = job["training_file"]
                job |= {"fine_tuned_model": model, "trained_tokens": 1234} | job["ending"]
        return web.json_response(self._shown(job))

    def _shown(self, job: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in job.items() if name != "ending"}

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        await asyncio.sleep(self.seconds)
        return web.json_response(self.complete(body, chat=request.path.endswith("/chat/completions")))


def refuse(status: int, body: Any = "", headers: dict[str, str] | None = None) -> Fault:
    """Answers with an error and does nothing."""

    async def play(request: web.Request, answer: web.StreamResponse | None) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/html" if text.startswith("<") else "application/json"
        return web.Response(status=status, text=text, headers=headers, content_type=kind)

    return Fault(play, after=False)


def done_but(status: int, text: str = "oops") -> Fault:
    """Does what was asked and answers as if it had not."""
    return dataclasses.replace(refuse(status, text), after=True)


def done_but_cut_off() -> Fault:
    """Does what was asked and drops the connection before a byte of the answer."""

    async def play(request: web.Request, answer: web.StreamResponse | None) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return Fault(play, after=True)


def done_but_silent(reached: threading.Event) -> Fault:
    """Does what was asked, sets the event, and never answers: time to kill the client."""

    async def play(request: web.Request, answer: web.StreamResponse | None) -> web.Response:
        reached.set()
        await asyncio.sleep(60)
        return web.Response()

    return Fault(play, after=True)


def cut_short(share: float) -> Fault:
    """Sends only the first part of a file, with a length that agrees, so that nothing on the way notices."""

    async def play(request: web.Request, answer: web.StreamResponse | None) -> web.Response:
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        return web.Response(body=answer.body[: int(len(answer.body) * share)])

    return Fault(play, after=True)


def kill_when(reached: threading.Event, command: list[str]) -> bool:
    """Runs a client from the checkout's root and kills it with SIGKILL at the event; False if it ended before."""
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    while process.poll() is None and not reached.wait(0.05):
        pass
    killed = process.poll() is None
    if killed:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return killed
