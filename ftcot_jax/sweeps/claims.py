"""Who works on which trial: claims that one of many workers gets, and that lapse when it dies.

A claim is a file ``claims/KEY.GENERATION.json`` that one worker creates and nobody changes. It stands until its holder
releases it (``KEY.GENERATION.released``) or stops beating; then it may be followed by the next generation, which again
one worker gets. Whoever finds a later generation than its own has been superseded and publishes nothing.

A worker beats by rewriting ``workers/SESSION.json`` with a higher number. Clocks of two machines are never compared: a
worker has lapsed for another once that one has watched the same beat for the whole lease by its own clock. Only a
worker of one's own machine whose process is gone is known to be dead at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etils import epath

from ftcot_jax.artifacts import write_atomically
from ftcot_jax.remote_folder import create_exclusively, is_remote, names

BEATS_A_LEASE = 4


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where a process runs, as exactly as another on the same machine can tell.

    Attributes:
      host: its name, for people.
      kernel: this boot of this machine and the namespace of its process numbers; None where the system has no /proc.
      process: its number.
      started: when it was started, in the kernel's ticks; tells it from a later process of the same number.
    """

    host: str
    kernel: str | None
    process: int
    started: int | None

    @classmethod
    def here(cls) -> Machine:
        number = os.getpid()
        return cls(socket.gethostname(), _kernel(), number, _started(number))

    def is_dead(self) -> bool:
        """Whether the process is known to be gone; False also where nobody can know."""
        if self.kernel is None or self.kernel != _kernel():
            return False
        return _started(self.process) != self.started


def _kernel() -> str | None:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(process: int) -> int | None:
    """When a process was started; None if there is none, or only what its parent has not yet taken note of."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


class Sessions:
    """The workers of a sweep, as one of them sees the others.

    Args:
      folder: ``workers/`` of the sweep.
      lease: seconds without a beat after which a worker counts as lost.
      clock: seconds that only go forward.
    """

    def __init__(self, folder: epath.Path, lease: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._lease, self._clock = folder, lease, clock
        self._watched: dict[str, tuple[int | None, float]] = {}
        self._ended: set[str] = set()

    def read(self, session: str) -> dict[str, Any] | None:
        """What a worker last wrote; None if it never did."""
        try:
            note: dict[str, Any] = json.loads((self._folder / f"{session}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return note

    def ended(self, session: str) -> bool:
        """Whether a worker has ended or must be taken for lost, by what has been seen up to this call."""
        if session in self._ended:
            return True
        before = self._clock()  # who is frozen while it reads has watched nothing meanwhile
        note = self.read(session)
        beat = None if note is None else note["beat"]
        if session not in self._watched or self._watched[session][0] != beat:
            self._watched[session] = (beat, self._clock())
        lease = max(self._lease, 0.0 if note is None else note["lease_seconds"])
        ended: bool = before - self._watched[session][1] >= lease
        if note is not None:
            ended |= note["ended"] or Machine(**note["machine"]).is_dead()
        if ended and note is not None and note["ended"]:
            self._ended.add(session)  # for good; a lost one may wake up and beat again
        return ended


class Claims:
    """The claims of one worker.

    Args:
      folder: the sweep's.
      worker: what this worker is called, such as ``w2of3``.
      lease: seconds without a beat after which a worker counts as lost.
      clock: seconds that only go forward.
    """

    def __init__(
        self, folder: epath.Path, worker: str, lease: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._claims, self._workers = folder / "claims", folder / "workers"
        for place in (self._claims, self._workers):
            if not is_remote(place):
                place.mkdir(parents=True, exist_ok=True)
        self._worker, self._lease, self._beat = worker, lease, 0
        self._machine = Machine.here()
        self.session = f"{worker}-{uuid.uuid4().hex[:8]}"
        self.sessions = Sessions(self._workers, lease, clock)
        self._held: dict[str, int] = {}
        self._known: dict[str, tuple[int, bool]] = {}
        self._holders: dict[tuple[str, int], str] = {}
        self._ended: dict[str, bool] = {}  # since the last look, so that each session is asked once for all its claims

    @property
    def held(self) -> frozenset[str]:
        return frozenset(self._held)

    def beat(self, running: Any = (), ended: bool = False) -> None:
        """Tells that this worker lives, and what it does; to be called several times a lease, and before any claim."""
        self._beat += 1
        note = {
            "worker": self._worker,
            "beat": self._beat,
            "lease_seconds": self._lease,
            "machine": dataclasses.asdict(self._machine),
            "running": running,
            "ended": ended,
        }
        write_atomically(self._workers / f"{self.session}.json", json.dumps(note))

    def look(self) -> None:
        """Reads which claims there are; `may_take` answers from that."""
        known: dict[str, tuple[int, bool]] = {}
        released = set()
        for name in names(self._claims):
            key, _, rest = name.partition(".")
            number, _, kind = rest.partition(".")
            if not number.isdecimal():
                continue  # half written
            if kind == "released":
                released.add((key, int(number)))
            elif key not in known or known[key][0] < int(number):
                known[key] = (int(number), False)
        self._known = {key: (number, (key, number) in released) for key, (number, _) in known.items()}
        self._ended = {}

    def may_take(self, key: str) -> bool:
        """Whether nobody who lives holds a claim, as of the last `look`."""
        if key in self._held:
            return True
        _, released = self._known.get(key, (0, True))
        if released:
            return True
        holder = self.holder(key)
        if holder not in self._ended:
            self._ended[holder] = self.sessions.ended(holder)
        return self._ended[holder]

    def holder(self, key: str) -> str:
        """The session that holds, or held, a key's last claim as of the last `look`."""
        generation = self._known[key][0]
        if (key, generation) not in self._holders:
            claim = json.loads((self._claims / f"{key}.{generation}.json").read_text(encoding="utf-8"))
            self._holders[key, generation] = claim["session"]
        return self._holders[key, generation]

    def take(self, key: str) -> bool:
        """Claims a key that `may_take` allows; False if another was faster."""
        if key in self._held:
            return self.holds(key)
        if not self.may_take(key):
            return False
        generation = self._known.get(key, (0, True))[0] + 1
        text = json.dumps({"session": self.session})
        if not create_exclusively(self._claims / f"{key}.{generation}.json", text):
            return False
        self._held[key] = generation
        return True

    def holds(self, key: str) -> bool:
        """Whether this worker holds the key and nobody has taken it over; asks the folder, not memory."""
        generation = self._held.get(key)
        return generation is not None and not (self._claims / f"{key}.{generation + 1}.json").exists()

    def superseded(self) -> list[str]:
        """The keys claimed here that others have taken over."""
        return [key for key in self.held if not self.holds(key)]

    def release(self, key: str) -> None:
        """Lets go of a key, so that others may take it at once; nothing happens to one that was taken over."""
        generation = self._held.pop(key, None)
        if generation is not None:
            create_exclusively(self._claims / f"{key}.{generation}.released", self.session)

    def close(self) -> None:
        """Lets go of everything and says that this worker has ended."""
        for key in self.held:
            with contextlib.suppress(OSError):  # a full disk: the end of the session tells as much, or its silence
                self.release(key)
        with contextlib.suppress(OSError):
            self.beat(ended=True)
