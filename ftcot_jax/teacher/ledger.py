"""The ledger: every completion ever bought, so that nothing is bought twice.

An attempt is written down before its request is sent and its outcome after, each in a committed transaction. A
process killed in between leaves an attempt without outcome: perhaps paid, and counted as such. Identity is content
(endpoint, model, prompt, sampling settings, sample number): asking for more samples buys only the difference.

Several processes may share a ledger. An attempt without outcome is also its process's claim on those samples, for as
long as that process is alive: its pid on the same machine, and a heartbeat whose *change* the others watch by their own
monotonic clocks, so that a clock that jumps breaks no claim.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ftcot_jax.errors import FtcotError
from ftcot_jax.teacher.ledger_layout import FIRST_LAYOUT, SECOND_LAYOUT

BEAT_SECONDS = 5.0
LEASE_SECONDS = 30.0

# Rows one by one take a third longer: each is a statement of its own to SQLite.
_ROWS_A_STATEMENT = 64
_INSERT = "INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_MANY = _INSERT + ", (?, ?, ?, ?, ?, ?)" * (_ROWS_A_STATEMENT - 1)


class Sample(NamedTuple):
    """One text the teacher wrote, why it stopped, and the reasoning a reasoning model sent apart from the text."""

    text: str
    finish_reason: str | None
    reasoning: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Intent:
    """Samples about to be bought.

    Attributes:
      request: identity.
      numbers: of the samples.
      job: from `Ledger.job`.
      cost: US dollars it may cost at most; None without a price.
      seen: `Ledger.changes` when the samples were found missing.
    """

    request: str
    numbers: Sequence[int]
    job: int | None = None
    cost: float | None = None
    seen: int = -1


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt: `state` is 'answered', 'failed: ...' (not paid) or 'unknown: ...' (perhaps paid)."""

    attempt: int
    state: str
    request: str = ""
    bought: Mapping[int, Sample] = dataclasses.field(default_factory=dict)
    usage: tuple[int, int] = (0, 0)
    cost: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """What the ledger holds.

    Attributes:
      answered: attempts with an answer.
      failed: attempts the server refused or failed; not paid.
      perhaps_paid: attempts whose outcome nobody knows, those of other processes' requests in flight excluded.
      duplicates: samples that came although another process had already bought them.
      prompt_tokens, completion_tokens: of answered attempts.
      cost: US dollars of answered attempts that had a price.
      perhaps_cost: US dollars that attempts without outcome may have cost at most.
    """

    answered: int
    failed: int
    perhaps_paid: int
    prompt_tokens: int
    completion_tokens: int
    duplicates: int = 0
    cost: float = 0.0
    perhaps_cost: float = 0.0


class Ledger:
    """An SQLite file in write-ahead mode; every change is on the disk when the call returns.

    Attributes:
      changes: grows whenever another process is seen to have written.

    Raises:
      FtcotError: the file is not a ledger.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.changes = 0
        self._next_attempt = 0
        self._data_version = -1
        self._others: dict[int, tuple[int, float]] = {}  # owner -> its last beat and when we first saw that
        try:
            self._db = sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA cache_size = -65536")
            self._db.execute("PRAGMA wal_autocheckpoint = 8192")
            self._db.executescript(FIRST_LAYOUT)
            self._register()
        except sqlite3.DatabaseError as error:
            raise FtcotError(f"{file}: not a ledger ({error}); move it away to start a new one") from error

    def samples(self, request: str) -> dict[int, Sample]:
        """The samples of a request that have been bought, by number."""
        return self.samples_of((request,)).get(request, {})

    def samples_of(self, requests: Sequence[str]) -> dict[str, dict[int, Sample]]:
        """The samples of many requests, by request and number; a request without any is left out."""
        found: dict[str, dict[int, Sample]] = {}
        for start in range(0, len(requests), 8192):
            some = requests[start : start + 8192]
            rows = self._db.execute(
                "SELECT request, number, text, finish_reason, reasoning FROM samples WHERE request IN "
                f"({','.join('?' * len(some))})",
                some,
            )
            have: dict[int, Sample] = {}
            last = None
            for request, number, *sample in rows:  # a request's samples come together
                if request != last:
                    have = found.setdefault(request, {})
                    last = request
                have[number] = Sample._make(sample)
        return found

    def bought(self, requests: Sequence[str]) -> set[str]:
        """Those of the requests whose sample number 0 has been bought."""
        found: set[str] = set()
        for start in range(0, len(requests), 8192):
            some = requests[start : start + 8192]
            asked = ",".join("?" * len(some))
            rows = self._db.execute(f"SELECT request FROM samples WHERE number = 0 AND request IN ({asked})", some)
            found.update(request for (request,) in rows)
        return found

    def job(self, dataset: str, step: str) -> int:
        """The number under which purchases for a dataset and step are kept apart in the report."""
        self._db.execute("INSERT OR IGNORE INTO jobs (dataset, step) VALUES (?, ?)", (dataset, step))
        return self._one("SELECT id FROM jobs WHERE dataset = ? AND step = ?", (dataset, step))

    def fact(self, name: str) -> Any:
        """A JSON value remembered by `remember`, or None."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def remember(self, name: str, value: Any) -> None:
        """Keeps a JSON value under a name, in place of an earlier one."""
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def commit(self, intents: Sequence[Intent], outcomes: Sequence[Outcome]) -> list[int | None]:
        """`write` and `settle`."""
        attempts = self.write(intents, outcomes)
        self.settle()
        return attempts

    def write(self, intents: Sequence[Intent], outcomes: Sequence[Outcome]) -> list[int | None]:
        """Writes outcomes and intents into one transaction; they are on the disk once `settle` has returned.

        Returns:
          For each intent its attempt's id, or None where another process has bought or is buying one of its samples.

        Raises:
          sqlite3.Error: nothing of it was written.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._look_around()
            self._write_outcomes(outcomes)
            attempts: list[int | None] = []
            rows = []
            now = time.time()
            for intent in intents:
                if (self._others or intent.seen != self.changes) and self._is_taken(intent):
                    attempts.append(None)
                    continue
                self._next_attempt += 1
                attempts.append(self._next_attempt)
                numbers = f"[{','.join(map(str, intent.numbers))}]"
                rows.append((self._next_attempt, intent.request, numbers, now, self._owner, intent.job, intent.cost))
            self._db.executemany(
                "INSERT INTO attempts (id, request, numbers, sent_at, owner, job, cost) VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
        except BaseException:
            self._roll_back()
            raise
        return attempts

    def settle(self) -> None:
        """Brings what `write` wrote onto the disk; may run on another thread, if nothing else is called meanwhile.

        Raises:
          sqlite3.Error: nothing of it was written.
        """
        try:
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def begin(self, request: str, numbers: Sequence[int], job: int | None = None) -> int:
        """Writes down that samples are about to be bought; returns the attempt's id.

        Raises:
          FtcotError: another process is buying them.
        """
        (attempt,) = self.commit([Intent(request, numbers, job)], [])
        if attempt is None:
            raise FtcotError(f"{self.file}: another process is buying the same samples; wait for it to end")
        return attempt

    def answered(self, attempt: int, request: str, bought: Mapping[int, Sample], usage: tuple[int, int]) -> None:
        """Writes an attempt's samples and token usage, all or nothing."""
        self.commit([], [Outcome(attempt, "answered", request, bought, usage)])

    def failed(self, attempt: int, reason: str) -> None:
        """Writes that an attempt brought nothing: the server said so."""
        self.commit([], [Outcome(attempt, f"failed: {reason}")])

    def beat(self) -> None:
        """Shows other processes that this one lives; to be called every `BEAT_SECONDS`."""
        row = (self._owner, _machine(), os.getpid())  # there again if others took a long sleep for its death
        self._db.execute("INSERT INTO owners VALUES (?, ?, ?, 0) ON CONFLICT (id) DO UPDATE SET beat = beat + 1", row)

    def account(self) -> Account:
        """Counts of attempts and tokens, over the ledger's whole life."""
        values = self._db.execute(
            "SELECT COALESCE(SUM(outcome = 'answered'), 0), COALESCE(SUM(outcome LIKE 'failed:%'), 0), "
            "COALESCE(SUM(outcome LIKE 'unknown:%'), 0), COALESCE(SUM(prompt_tokens), 0), "
            "COALESCE(SUM(completion_tokens), 0), COALESCE(SUM(duplicates), 0), "
            "COALESCE(SUM(CASE WHEN outcome = 'answered' THEN cost END), 0.0), "
            "COALESCE(SUM(CASE WHEN outcome LIKE 'unknown:%' THEN cost END), 0.0) FROM attempts"
        ).fetchone()
        return Account(*values)

    def report(self) -> list[tuple[str, str, int, int, int, float]]:
        """Rows of (dataset, step, answered attempts, prompt tokens, completion tokens, US dollars)."""
        return self._db.execute(
            "SELECT dataset, step, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), COALESCE(SUM(cost), 0.0) "
            "FROM attempts JOIN jobs ON jobs.id = attempts.job WHERE outcome = 'answered' GROUP BY dataset, step"
        ).fetchall()

    def usual_tokens(self, job: int) -> float | None:
        """Completion tokens of a job's samples on average; None if it has none."""
        tokens, samples = self._db.execute(
            "SELECT SUM(completion_tokens), SUM(json_array_length(numbers)) FROM attempts "
            "WHERE job = ? AND outcome = 'answered'",
            (job,),
        ).fetchone()
        return tokens / samples if samples and tokens else None

    def close(self) -> None:
        """Gives up this process's claims; attempts still without outcome become perhaps paid."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._bury([self._owner])
            self.settle()
        except sqlite3.Error:  # a full disk, say: whoever opens the ledger next sees that this process has ended
            self._roll_back()
        self._db.close()

    def _register(self) -> None:
        """Brings an older ledger up to date and enters this process among its owners."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self._one("PRAGMA user_version") < 2:
                for statement in SECOND_LAYOUT.split(";"):
                    self._db.execute(statement)
            row = (_machine(), os.getpid())
            self._owner = self._db.execute("INSERT INTO owners (machine, pid, beat) VALUES (?, ?, 0)", row).lastrowid
            self._look_around()
        except BaseException:
            self._roll_back()
            raise
        self.settle()

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # a full disk has already done it
            self._db.execute("ROLLBACK")

    def _one(self, query: str, values: Sequence[Any] = ()) -> Any:
        return self._db.execute(query, values).fetchone()[0]

    def _write_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        rows: list[Any] = []
        for outcome in outcomes:
            request, attempt = outcome.request, outcome.attempt
            for number, (text, reason, reasoning) in outcome.bought.items():
                rows += request, number, text, reason, attempt, reasoning
        bought, kept = len(rows) // 6, 0
        whole = len(rows) - len(rows) % (6 * _ROWS_A_STATEMENT)
        for start in range(0, whole, 6 * _ROWS_A_STATEMENT):
            kept += self._db.execute(_INSERT_MANY, rows[start : start + 6 * _ROWS_A_STATEMENT]).rowcount
        if whole < len(rows):
            kept += self._db.executemany(_INSERT, zip(*[iter(rows[whole:])] * 6, strict=True)).rowcount
        # An unknown outcome keeps the intent's cost: what it may have cost at most.
        self._db.executemany(
            "UPDATE attempts SET outcome = ?1, prompt_tokens = ?2, completion_tokens = ?3, "
            "cost = CASE WHEN ?1 LIKE 'unknown:%' THEN cost ELSE ?4 END WHERE id = ?5",
            [(outcome.state, *outcome.usage, outcome.cost, outcome.attempt) for outcome in outcomes],
        )
        if kept < bought:
            row = (bought - kept, outcomes[0].attempt)
            self._db.execute("UPDATE attempts SET duplicates = ? WHERE id = ?", row)

    def _look_around(self) -> None:
        """Notices, inside a transaction, what other processes wrote since the last one and which of them died."""
        version = self._one("PRAGMA data_version")
        if version == self._data_version and not self._others:
            return
        if version != self._data_version:
            self._data_version = version
            self.changes += 1
            self._next_attempt = self._one("SELECT COALESCE(MAX(id), 0) FROM attempts")
        now, here = time.monotonic(), _machine()
        living, dead = {}, []
        for owner, machine, pid, beat in self._db.execute("SELECT id, machine, pid, beat FROM owners").fetchall():
            last, since = self._others.get(owner, (beat, now))
            since = now if beat != last else since
            if owner == self._owner:
                continue
            if (machine == here and not _is_running(pid)) or now - since > LEASE_SECONDS:
                dead.append(owner)
            else:
                living[owner] = (beat, since)
        self._bury(dead)
        self._others = living

    def _bury(self, owners: Iterable[int | None]) -> None:
        for owner in owners:
            self._db.execute(
                "UPDATE attempts SET outcome = 'unknown: its process ended' WHERE outcome IS NULL AND owner = ?",
                (owner,),
            )
            self._db.execute("DELETE FROM owners WHERE id = ?", (owner,))

    def _is_taken(self, intent: Intent) -> bool:
        wanted = set(intent.numbers)
        have = self._db.execute("SELECT number FROM samples WHERE request = ?", (intent.request,))
        if any(number in wanted for (number,) in have):
            return True
        claims = self._db.execute(
            "SELECT numbers FROM attempts WHERE request = ? AND outcome IS NULL AND owner <> ?",
            (intent.request, self._owner),
        )
        return any(wanted.intersection(json.loads(numbers)) for (numbers,) in claims)


def _machine() -> str:
    """This machine and its process namespace: where one container's pids mean nothing to another."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{socket.gethostname()} {namespace}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
