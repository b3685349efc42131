"""What has been created at an API and what came of it, so that a killed run creates and buys nothing twice.

One folder: `state.sqlite` (write-ahead mode, every change on the disk when the call returns) and the files that
were sent and received. An intent is written down before its request is sent and the answer after; an intent
without an answer is looked for at the server before anything is sent again (`OpenAIAccount.create_once`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock

from ftcot_jax.errors import FtcotError
from ftcot_jax.teacher.ledger import Sample

_SCHEMA = """
CREATE TABLE IF NOT EXISTS intents (
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  sent_at REAL,
  sends INTEGER NOT NULL DEFAULT 0,
  remote_id TEXT,
  adopted INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
  key TEXT PRIMARY KEY,
  content TEXT NOT NULL,
  made_at REAL NOT NULL,
  outcome TEXT
);
CREATE TABLE IF NOT EXISTS lines (
  part TEXT NOT NULL,
  custom_id TEXT NOT NULL,
  request TEXT NOT NULL,
  numbers TEXT NOT NULL,
  outcome TEXT,
  prompt_tokens INTEGER,
  completion_tokens INTEGER,
  PRIMARY KEY (part, custom_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (
  request TEXT NOT NULL,
  number INTEGER NOT NULL,
  text TEXT NOT NULL,
  finish_reason TEXT,
  PRIMARY KEY (request, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refusals (request TEXT PRIMARY KEY, reason TEXT NOT NULL);
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Intent:
    """Something to create at the server: when it was last sent, and the id the server gave it, if known."""

    sent_at: float | None
    remote_id: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch file: it asks for the samples `numbers` of `request`."""

    custom_id: str
    request: str
    numbers: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class LineResult:
    """What came of a line.

    Attributes:
      outcome: ``answered``; ``refused: why`` for good; ``failed: why``, ``expired``, ``cancelled`` or ``stopped``, to
        be asked again; ``unread``, as those but perhaps paid; ``fatal: why`` where all others would fail too.
    """

    custom_id: str
    outcome: str
    samples: tuple[Sample, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ApiState:
    """The folder, on a local disk, of one run's dealings with an API; one process at a time.

    Raises:
      FtcotError: another process works in the folder, or its state.sqlite is none of ours; as a context, also when
        the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = filelock.FileLock(str(folder / ".lock"))
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise FtcotError(f"{folder}: another process is working in it; wait for it or stop it") from error
        file = folder / "state.sqlite"
        try:
            self._db = sqlite3.connect(file, timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._lock.release()
            raise FtcotError(f"{file}: not a state file ({error}); move it away to start a new one") from error

    def __enter__(self) -> ApiState:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        self._lock.release()
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or isinstance(error, sqlite3.Error):
            raise FtcotError(
                f"{self.folder} cannot be written ({error}); what came before is in it: make room and run the same "
                "command again"
            ) from error

    # Intents: things created at the server.

    def intent(self, kind: str, key: str) -> Intent:
        """The intent of this kind and key; an empty one if nothing was ever sent."""
        row = self._db.execute("SELECT sent_at, remote_id FROM intents WHERE kind = ? AND key = ?", (kind, key))
        return Intent(*(row.fetchone() or (None, None)))

    def sending(self, kind: str, key: str) -> None:
        """Writes that a creation is about to be sent."""
        self._db.execute(
            "INSERT INTO intents (kind, key, sent_at, sends) VALUES (?, ?, ?, 1) "
            "ON CONFLICT DO UPDATE SET sent_at = excluded.sent_at, sends = sends + 1",
            (kind, key, time.time()),
        )

    def not_created(self, kind: str, key: str) -> None:
        """Writes that the server said it created nothing."""
        self._db.execute("UPDATE intents SET sent_at = NULL, sends = sends - 1 WHERE kind = ? AND key = ?", (kind, key))

    def created(self, kind: str, key: str, remote_id: str, adopted: bool) -> None:
        """Writes the server's id of a thing; `adopted` if it was found there instead of answered."""
        self._db.execute(
            "INSERT INTO intents (kind, key, remote_id, adopted) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET remote_id = excluded.remote_id, adopted = excluded.adopted",
            (kind, key, remote_id, adopted),
        )

    def perhaps_paid(self, kind: str) -> int:
        """Requests of a kind that were sent and perhaps had their effect beside the one that was answered."""
        return self._count(
            "SELECT COALESCE(SUM(MAX(0, sends - (remote_id IS NOT NULL))), 0) FROM intents WHERE kind = ?", kind
        )

    def adoptions(self, kind: str) -> int:
        """Things of a kind that were found at the server instead of created again."""
        return self._count("SELECT COUNT(*) FROM intents WHERE kind = ? AND adopted", kind)

    # Samples: texts that were bought.

    def samples(self, request: str) -> dict[int, Sample]:
        """The samples of a request that have been bought, by number."""
        rows = self._db.execute("SELECT number, text, finish_reason FROM samples WHERE request = ?", (request,))
        return {number: Sample(text, reason) for number, text, reason in rows}

    def store(self, request: str, bought: dict[int, Sample], answers: tuple[str, str] | None = None) -> None:
        """Writes samples of a request, and, in one transaction, that they answer the intent (kind, key)."""
        with self._transaction():
            self._insert_samples(request, bought)
            if answers is not None:
                self._db.execute("UPDATE intents SET remote_id = 'answered' WHERE kind = ? AND key = ?", answers)

    def refusal(self, request: str) -> str | None:
        """Why the server will not answer a request, if it said so."""
        row = self._db.execute("SELECT reason FROM refusals WHERE request = ?", (request,)).fetchone()
        return None if row is None else str(row[0])

    def refuse(self, request: str, reason: str) -> None:
        """Writes that the server will never answer a request."""
        self._db.execute("INSERT OR REPLACE INTO refusals VALUES (?, ?)", (request, reason))

    # Parts: batch files and their lines.

    def add_part(self, key: str, content: str, lines: Sequence[Line]) -> None:
        """Writes down a batch file before anything of it is sent."""
        with self._transaction():
            self._db.execute("INSERT INTO parts VALUES (?, ?, ?, NULL)", (key, content, time.time()))
            self._db.executemany(
                "INSERT INTO lines (part, custom_id, request, numbers) VALUES (?, ?, ?, ?)",
                [(key, line.custom_id, line.request, json.dumps(line.numbers)) for line in lines],
            )

    def drop_part(self, key: str) -> None:
        """Removes a file of which nothing but perhaps its upload exists at the server."""
        with self._transaction():
            for table, column in (("lines", "part"), ("parts", "key"), ("intents", "key")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (key,))

    def open_parts(self) -> list[str]:
        """Keys of the batch files whose results have not been collected, oldest first."""
        return [key for (key,) in self._db.execute("SELECT key FROM parts WHERE outcome IS NULL ORDER BY made_at, key")]

    def parts_made(self) -> int:
        """How many batch files were made."""
        return self._count("SELECT COUNT(*) FROM parts")

    def times_made(self, content: str) -> int:
        """How many batch files have held just these lines."""
        return self._count("SELECT COUNT(*) FROM parts WHERE content = ?", content)

    def lines(self, part: str) -> list[Line]:
        """The lines of a batch file."""
        rows = self._db.execute("SELECT custom_id, request, numbers FROM lines WHERE part = ?", (part,))
        return [Line(custom_id, request, tuple(json.loads(numbers))) for custom_id, request, numbers in rows]

    def collect(self, part: str, outcome: str | None, results: Iterable[LineResult]) -> None:
        """Writes what came of a batch file, all or nothing; `outcome` None leaves it open for more."""
        lines = {line.custom_id: line for line in self.lines(part)}
        with self._transaction():
            for result in results:
                line = lines[result.custom_id]
                self._insert_samples(line.request, dict(zip(line.numbers, result.samples, strict=False)))
                if result.outcome.startswith("refused: "):
                    self.refuse(line.request, result.outcome.removeprefix("refused: "))
                self._db.execute(
                    "UPDATE lines SET outcome = ?, prompt_tokens = ?, completion_tokens = ? "
                    "WHERE part = ? AND custom_id = ?",
                    (result.outcome, result.prompt_tokens, result.completion_tokens, part, result.custom_id),
                )
            self._db.execute("UPDATE parts SET outcome = ? WHERE key = ?", (outcome, part))

    def line_outcomes(self) -> dict[str, int]:
        """How many lines came to what, over the folder's whole life, by the outcome's first word."""
        counts: dict[str, int] = {}
        for outcome, number in self._db.execute("SELECT outcome, COUNT(*) FROM lines GROUP BY outcome"):
            word = "open" if outcome is None else outcome.split(":")[0]
            counts[word] = counts.get(word, 0) + number
        return counts

    def tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens of all answered lines, as the server counted them."""
        prompt, completion = self._db.execute(
            "SELECT COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0) FROM lines"
        ).fetchone()
        return prompt, completion

    def _insert_samples(self, request: str, bought: dict[int, Sample]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?)",
            [(request, number, sample.text, sample.finish_reason) for number, sample in bought.items()],
        )

    def _count(self, query: str, *values: Any) -> int:
        return int(self._db.execute(query, values).fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has already rolled it back
                self._db.execute("ROLLBACK")
            raise
