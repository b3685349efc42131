"""The ledger: every completion ever bought, so that nothing is bought twice.

An attempt is written down before its request is sent and its outcome after, each in a committed transaction. A
process killed in between leaves an attempt without outcome: perhaps paid, and counted as such. Identity is content
(endpoint, model, prompt, sampling settings, sample number): asking for more samples buys only the difference.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftcot_jax.errors import FtcotError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS attempts (
  id INTEGER PRIMARY KEY,
  request TEXT NOT NULL,
  numbers TEXT NOT NULL,
  sent_at REAL NOT NULL,
  outcome TEXT,
  prompt_tokens INTEGER,
  completion_tokens INTEGER
);
CREATE TABLE IF NOT EXISTS samples (
  request TEXT NOT NULL,
  number INTEGER NOT NULL,
  text TEXT NOT NULL,
  finish_reason TEXT,
  attempt INTEGER NOT NULL REFERENCES attempts (id),
  PRIMARY KEY (request, number)
) WITHOUT ROWID;
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One text the teacher wrote, and why it stopped."""

    text: str
    finish_reason: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """What the ledger holds: attempts with an answer, refused, without an outcome, and tokens used."""

    answered: int
    failed: int
    perhaps_paid: int
    prompt_tokens: int
    completion_tokens: int


def request_identity(source: Mapping[str, Any], prompt: str, sampling: Mapping[str, Any]) -> str:
    """Address of everything that decides a request's samples, apart from their number."""
    text = json.dumps([dict(source), prompt, dict(sampling)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Ledger:
    """An SQLite file in write-ahead mode; every change is on the disk when the call returns.

    Raises:
      FtcotError: the file is not a ledger.
    """

    def __init__(self, file: Path) -> None:
        try:
            self._db = sqlite3.connect(file, timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise FtcotError(f"{file}: not a ledger ({error}); move it away to start a new one") from error

    def samples(self, request: str) -> dict[int, Sample]:
        """The samples of a request that have been bought, by number."""
        rows = self._db.execute("SELECT number, text, finish_reason FROM samples WHERE request = ?", (request,))
        return {number: Sample(text, reason) for number, text, reason in rows}

    def begin(self, request: str, numbers: Sequence[int]) -> int:
        """Writes down that samples are about to be bought; returns the attempt's id."""
        row = (request, json.dumps(list(numbers)), time.time())
        cursor = self._db.execute("INSERT INTO attempts (request, numbers, sent_at) VALUES (?, ?, ?)", row)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def answered(self, attempt: int, request: str, bought: Mapping[int, Sample], usage: tuple[int, int]) -> None:
        """Writes an attempt's samples and token usage, all or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(
                "INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?, ?)",
                [(request, number, sample.text, sample.finish_reason, attempt) for number, sample in bought.items()],
            )
            self._db.execute(
                "UPDATE attempts SET outcome = 'answered', prompt_tokens = ?, completion_tokens = ? WHERE id = ?",
                (*usage, attempt),
            )
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has already rolled it back
                self._db.execute("ROLLBACK")
            raise

    def failed(self, attempt: int, reason: str) -> None:
        """Writes that an attempt brought nothing: the server said so."""
        self._db.execute("UPDATE attempts SET outcome = ? WHERE id = ?", (f"failed: {reason}", attempt))

    def account(self) -> Account:
        """Counts of attempts and tokens, over the ledger's whole life."""
        answered, failed, unknown, prompt, completion = self._db.execute(
            "SELECT COALESCE(SUM(outcome = 'answered'), 0), COALESCE(SUM(outcome LIKE 'failed:%'), 0), "
            "COALESCE(SUM(outcome IS NULL), 0), COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0) "
            "FROM attempts"
        ).fetchone()
        return Account(answered, failed, unknown, prompt, completion)

    def close(self) -> None:
        self._db.close()
