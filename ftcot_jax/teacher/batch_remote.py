"""Batch files at an OpenAI-compatible Batch API: uploaded, created, watched and downloaded, each once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ftcot_jax.errors import FtcotError, Preempted
from ftcot_jax.teacher.api_state import ApiState
from ftcot_jax.teacher.batch_lines import URLS, count_rows
from ftcot_jax.teacher.batch_settings import BatchSettings
from ftcot_jax.teacher.openai_account import OpenAIAccount, server_message, with_id

_UNDER_WAY = ("validating", "in_progress", "finalizing", "cancelling")
_ENDED = ("completed", "failed", "expired", "cancelled")
_METADATA_KEY = "ftcot_key"
_DOWNLOADS = 3  # of one file, before its missing rows are given up

Report = Callable[[int, str], None]


@dataclasses.dataclass(frozen=True)
class Finished:
    """A batch file that has ended.

    Attributes:
      part: its key.
      status: ``completed``, ``failed``, ``expired``, ``cancelled``, or ``stopped`` for a local command.
      files: the bytes of its output and error files.
      written: rows the runner says its output file has; None if it does not say.
      reason: why it failed, if it did.
      retry: whether the same lines may fare better in another file.
    """

    part: str
    status: str
    files: tuple[bytes, ...]
    written: int | None = None
    reason: str = ""
    retry: bool = True


class Runner(Protocol):
    """Answers batch files."""

    def begun(self, part: str) -> bool:
        """Whether anything of this file that would be paid again exists where it runs."""

    def finished(self, parts: Sequence[str]) -> Iterator[Finished]:
        """Has the files answered, and yields each as it ends."""


def input_file(folder: Path, part: str) -> Path:
    """Where the lines of a batch file are kept."""
    return folder / f"{part}.input.jsonl"


def output_file(folder: Path, part: str) -> Path:
    """Where the results of a batch file are kept."""
    return folder / f"{part}.output.jsonl"


class RemoteBatches:
    """Runs batch files at an API.

    Args:
      account: the API and its key.
      state: where intents are written.
      settings: form and times.
      say: receives a line for everything created or adopted.
      report: receives the rows answered so far and the state of what is under way.
    """

    def __init__(
        self,
        account: OpenAIAccount,
        state: ApiState,
        settings: BatchSettings,
        say: Callable[[str], None],
        report: Report,
    ) -> None:
        self._account, self._state, self._settings = account, state, settings
        self._say, self._report = say, report
        self._leave_at = None if settings.wait_seconds is None else time.monotonic() + settings.wait_seconds

    def begun(self, part: str) -> bool:
        return self._account.exists(self._state, "batch", part, lambda: self._find(part))

    def finished(self, parts: Sequence[str]) -> Iterator[Finished]:
        """Submits the files and yields each as it ends.

        Raises:
          Preempted: `wait_seconds` are over; the same command goes on.
          FtcotError: the API fails or refuses.
        """
        waiting = {part: self._submit(part) for part in parts}
        while waiting:
            states, answered = [], 0
            for part, batch_id in list(waiting.items()):
                batch = self._retrieve(batch_id)
                if batch.status in _ENDED:
                    del waiting[part]
                    yield self._results(part, batch)
                elif batch.status in _UNDER_WAY:
                    states.append(f"{batch_id} {batch.status}")
                    answered += batch.request_counts.completed if batch.request_counts else 0
                else:
                    raise FtcotError(f"batch {batch_id} has a status this program does not know: {batch.status!r}")
            if waiting:
                self._report(answered, ", ".join(states[:3]) + (", ..." if len(states) > 3 else ""))
                self._wait(len(waiting))

    def _submit(self, part: str) -> str:
        """Returns the id of the batch of this file, uploading and creating what is not there."""
        known = self._state.intent("batch", part).remote_id
        if known is not None:
            return known
        path, name = input_file(self._state.folder, part), _file_name(part)
        file_id = self._account.upload_once(self._state, part, path, name, "batch")

        def create() -> str:
            batch = self._account.client.batches.create(
                input_file_id=file_id,
                endpoint=URLS[self._settings.form],  # type: ignore[arg-type]
                completion_window="24h",
                metadata={_METADATA_KEY: part},
            )
            return with_id(batch).id

        def find() -> str | None:
            return self._find(part, file_id)

        batch_id = self._account.create_once(self._state, "batch", part, find=find, create=create)
        self._say(f"batch {batch_id}: {len(self._state.lines(part))} requests, file {file_id}")
        return batch_id

    def _find(self, part: str, file_id: str | None = None) -> str | None:
        """The batch of this file at the server: by our metadata, or by its input where servers drop metadata."""
        file_id = file_id or self._state.intent("batch file", part).remote_id
        found = [
            batch
            for batch in self._account.listed(lambda after: self._account.client.batches.list(limit=100, **after))
            if (batch.metadata or {}).get(_METADATA_KEY) == part
            or (file_id is not None and batch.input_file_id == file_id)
        ]
        found.sort(key=lambda batch: (batch.status != "completed", batch.status in _ENDED))
        return str(found[0].id) if found else None

    def _retrieve(self, batch_id: str) -> Any:
        return self._account.read(lambda: with_id(self._account.client.batches.retrieve(batch_id)))

    def _results(self, part: str, batch: Any) -> Finished:
        counts = batch.request_counts
        written = counts.completed if counts else None
        output = self._download(batch.output_file_id, written or 0)
        errors = self._download(batch.error_file_id, 0)
        output_file(self._state.folder, part).write_bytes(output)
        if errors:
            (self._state.folder / f"{part}.errors.jsonl").write_bytes(errors)
        problems = (batch.errors.data if batch.errors else None) or []
        reason = "; ".join(
            (f"line {problem.line}: " if problem.line else "") + server_message(problem.message or problem.code)
            for problem in problems[:3]
        )
        # A full queue empties; other reasons, such as an unknown model, would meet the same lines again.
        retry = batch.status != "failed" or any("limit" in (problem.code or "") for problem in problems)
        return Finished(part, batch.status, (output, errors), written, self._account.redact(reason), retry)

    def _download(self, file_id: str | None, rows: int) -> bytes:
        """A result file; fetched again while it has fewer rows than the server counts."""
        content = b""
        for tries in range(_DOWNLOADS if file_id else 0):
            if tries:
                time.sleep(min(self._settings.poll_seconds, self._settings.settle_seconds))
            fetched = self._account.download(str(file_id))
            content = max(content, fetched, key=count_rows)
            if count_rows(content) >= rows:
                break
        return content

    def _wait(self, batches: int) -> None:
        pause = self._settings.poll_seconds
        if self._leave_at is not None:
            pause = min(pause, self._leave_at - time.monotonic())
            if pause <= 0:
                raise Preempted(
                    f"{batches} batches are still under way after teacher.batch.wait_seconds="
                    f"{self._settings.wait_seconds:g}; run the same command later to collect them"
                )
        time.sleep(pause)


def _file_name(part: str) -> str:
    return f"ftcot-{part}.jsonl"
