"""The hub in process 0: gathers what the processes bring, and tells all of them when one has failed or died."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from ftcot_jax.training.processes import BEAT_SECONDS, read_lines

SECONDS_BETWEEN_LINES = 60.0
SECONDS_OF_ABSENCE = 10.0  # at the start, where somebody forgotten is likely


@dataclasses.dataclass(eq=False)
class _Member:
    """A process that has come.

    Attributes:
      line: to it.
      host: where it runs.
      at: what it waits at, and what it brought; None while it works.
      left: it ended in peace.
      steps: those it has begun.
      moved: when that last changed.
    """

    line: socket.socket
    host: str
    at: tuple[str, Any] | None = None
    left: bool = False
    steps: int = 0
    moved: float = dataclasses.field(default_factory=time.monotonic)
    sending: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def send(self, **message: Any) -> None:
        try:
            with self.sending:
                self.line.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # its reader notices, and knows more


class Hub:
    """Serves the line of all processes, in threads of its own, until the process that holds it ends.

    Args:
      port: where the processes come to.
      count: how many there are.
      join_seconds: how long they are waited for.
      silence_seconds: without a sign of life for so long, a process counts as dead.
      note: JSON values told to all when everyone is there.
      say: receives lines about who is waited for.

    Raises:
      OSError: the port is taken.
    """

    def __init__(
        self,
        port: int,
        count: int,
        join_seconds: float,
        silence_seconds: float,
        note: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self._count, self._join, self._silence, self._note, self._say = count, join_seconds, silence_seconds, note, say
        self._members: dict[int, _Member] = {}
        self._lock = threading.RLock()
        self._over = False
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        self._server = socket.create_server(("", port), family=family, dualstack_ipv6=dual, backlog=max(128, count))
        for job in (self._accept, self._watch):
            threading.Thread(target=job, daemon=True).start()

    def _accept(self) -> None:
        while True:
            line, _ = self._server.accept()
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.settimeout(self._silence)
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        lines = read_lines(line)
        try:
            hello = next(lines, None)
        except TimeoutError:
            hello = None
        number: int = -1 if hello is None else hello.get("process", -1)
        if hello is None or number not in range(self._count) or not {"of", "host"} <= hello.keys():
            line.close()  # a stranger, such as a port scanner
            return
        if not self._admit(number, hello, _Member(line, str(hello["host"]))):
            return
        how = "died"
        try:
            for message in lines:
                self._hear(number, message)
        except TimeoutError:
            how = f"gave no sign of life for {self._silence:g} s"
        with self._lock:
            if not self._members[number].left:
                self._end(f"{self._name(number)} {how}", 1, None)

    def _admit(self, number: int, hello: dict[str, Any], member: _Member) -> bool:
        with self._lock:
            twin = self._members.get(number)
            if hello["of"] != self._count:
                wrong = f"on {member.host} says there are {hello['of']} processes, process 0 says {self._count}"
            elif twin is not None:
                wrong = f"was started twice, on {twin.host} and on {member.host}"
            else:
                self._members[number] = member
                member.send(welcome=True)
                if len(self._members) == self._count:
                    hosts = [self._members[place].host for place in range(self._count)]
                    for one in self._members.values():
                        one.send(here=hosts, note=self._note)
                return True
            line = f"process {number} {wrong}; give every process its own number and all the same count"
            member.send(end=line, code=2, by=None)
            self._end(line, 2, None)
            return False

    def _hear(self, number: int, message: dict[str, Any]) -> None:
        with self._lock:
            if "at" in message:
                self._members[number].at = (message["at"], message["value"])
                self._meet()
            elif "failed" in message:
                self._end(f"{self._name(number)}: {message['failed']}", int(message["code"]), number)
            elif "bye" in message:
                self._members[number].left = True
            elif message.get("beat") != self._members[number].steps:
                self._members[number].steps, self._members[number].moved = message["beat"], time.monotonic()

    def _meet(self) -> None:
        """Answers all once they have come to one point; ends all if they are at different ones."""
        waiting = {number: member.at for number, member in sorted(self._members.items()) if member.at is not None}
        points: dict[str, int] = {}
        for number, (what, _) in waiting.items():
            points.setdefault(what, number)
        if len(points) > 1:
            (what, number), (other, another) = list(points.items())[:2]
            self._end(
                f"process {number} is at '{what}' and process {another} at '{other}': they do not do the same; start "
                "all with the same command, recipe and ftcot version, and an --out that all of them see",
                1,
                None,
            )
        elif len(waiting) == self._count:
            values = [waiting[number][1] for number in range(self._count)]
            for member in self._members.values():
                member.at = None
            for member in self._members.values():
                member.send(all=values)

    def _watch(self) -> None:
        """Beats, gives up on those who do not come, and says who is waited for."""
        began = said = time.monotonic()
        while True:
            time.sleep(BEAT_SECONDS)
            now = time.monotonic()
            with self._lock:
                members = list(self._members.values())
                absent = [number for number in range(self._count) if number not in self._members]
                line = self._who_is_late(absent)
            names = ", ".join(map(str, absent))
            if absent and now - began > self._join:
                self._end(
                    f"of {self._count} processes, {names} did not come within {self._join:g} s; start one with each "
                    "number, all with the same coordinator (FTCOT_PROCESSES=1 runs alone)",
                    1,
                    None,
                )
            for member in [] if absent else members:
                member.send(beat=True)
            if line is None:
                said = now
            elif now - said > (SECONDS_OF_ABSENCE if absent else SECONDS_BETWEEN_LINES):
                said = now
                self._say(line)

    def _who_is_late(self, absent: list[int]) -> str | None:
        """What to say of those who are waited for; None if nobody is, or for process 0, whose progress is seen."""
        if absent:
            names = ", ".join(map(str, absent))
            return f"waiting for {len(absent)} of {self._count} processes: {names} (FTCOT_PROCESSES=1 runs alone)"
        lead = self._members[0]
        if lead.at is not None:
            busy = [self._name(number) for number, member in sorted(self._members.items()) if member.at is None]
            return f"at '{lead.at[0]}': waiting for {', '.join(busy)}"
        still = time.monotonic() - max(member.moved for member in self._members.values())
        behind = [number for number, member in sorted(self._members.items()) if member.steps < lead.steps]
        if still < SECONDS_BETWEEN_LINES or not behind:
            return None
        return f"no step for {still:.0f} s: waiting for {', '.join(map(self._name, behind))}, which stays behind"

    def _end(self, line: str, code: int, by: int | None) -> None:
        """Tells all, once, that the run is over, and because of whom."""
        with self._lock:
            if not self._over:
                self._over = True
                for member in self._members.values():
                    member.send(end=line, code=code, by=by)

    def _name(self, number: int) -> str:
        return f"process {number} of {self._count} (on {self._members[number].host})"
