"""The processes that train together: what each of them knows, and the line that joins them.

Every process holds one connection to a hub in process 0. Over it they wait for one another, and over it each learns
at once that another has failed or died. It is kept apart from JAX's own coordination service, which notices a death
late, or ends a survivor with a stack trace that names nobody.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

BEAT_SECONDS = 1.0
PARTING_SECONDS = 0.5
VERDICT_SECONDS = 2.0  # an error may only be the echo of another process's death, which the hub hears of


class Processes:
    """The processes of this run, seen from one of them. This class is of one alone, for whom all is free.

    Attributes:
      count: how many there are.
      number: of this one; number 0 leads: it alone writes what all have made.
    """

    count: int = 1
    number: int = 0

    @property
    def lead(self) -> bool:
        return self.number == 0

    def gather(self, what: str, value: Any = None) -> list[Any]:
        """Waits until every process is at `what`; returns what each brought (JSON values), in order of number."""
        return [value]

    def decide(self, what: str, value: Any = None) -> Any:
        """Waits until every process is at `what`; returns what the leader brought."""
        return self.gather(what, value)[0]

    def steps_begun(self, steps: int) -> None:
        """Lets the hub know how far this process has come, so that one that stays behind is named."""

    def fail(self, line: str, code: int, unexpected: bool = False) -> None:
        """Says why this process ends, to the user and to the others, and ends it; does nothing for one alone.

        Args:
          line: why.
          code: the exit code.
          unexpected: it may be the echo of another process's death, which then is what is said.
        """

    def leave(self) -> None:
        """Ends in peace, together with the others."""


ALONE = Processes()


class Linked(Processes):
    """One of several processes, on the line to process 0's hub.

    Args:
      number: of this process.
      count: of all.
      address: the hub's host and port.
      join_seconds: how long the hub is looked for, and the others waited for.
      silence_seconds: without a sign of life for so long, process 0 counts as dead.

    Attributes:
      note: what process 0 told all.

    Raises:
      OSError: nobody answers at the address.
    """

    def __init__(
        self, number: int, count: int, address: tuple[str, int], join_seconds: float, silence_seconds: float
    ) -> None:
        self.number, self.count = number, count
        self._silence = silence_seconds
        self._answers: queue.Queue[list[Any]] = queue.Queue()
        self._ended = threading.Event()
        self._leaving = False
        self._steps = 0
        self._sending = threading.Lock()
        self._lead = f"process 0 of {count} (on {address[0]})"
        self._line = _connect(address, join_seconds)
        self._line.settimeout(silence_seconds)
        lines = read_lines(self._line)
        self._send(process=number, of=count, host=socket.gethostname())
        stranger = f"{address[0]}:{address[1]} answers, but is no ftcot run; choose another port for the coordinator"
        self._obey(self._next(lines, stranger))
        threading.Thread(target=self._beat, daemon=True).start()
        self._line.settimeout(join_seconds + silence_seconds)  # the hub speaks when all are there, or gives up
        self.note: dict[str, Any] = self._obey(self._next(lines, f"{self._lead} died"))["note"]
        self._line.settimeout(silence_seconds)
        threading.Thread(target=self._listen, args=(lines,), daemon=True).start()

    def gather(self, what: str, value: Any = None) -> list[Any]:
        self._send(at=what, value=value)
        while True:
            try:
                return self._answers.get(timeout=0.2)  # now and then, so that signals are heard
            except queue.Empty:
                continue

    def steps_begun(self, steps: int) -> None:
        self._steps = steps

    def fail(self, line: str, code: int, unexpected: bool = False) -> None:
        if unexpected:
            time.sleep(VERDICT_SECONDS)
        sys.stdout.flush()
        os.write(2, f"ftcot: {line}\n".encode())
        self._send(failed=line, code=code)
        self._ended.wait(5)
        self._exit(code)

    def leave(self) -> None:
        self._leaving = True
        self.gather("the end")
        self._send(bye=True)

    def _listen(self, lines: Iterator[dict[str, Any]]) -> None:
        while True:
            message = self._obey(self._next(lines, f"{self._lead} died"))
            if "all" in message:
                self._answers.put(message["all"])
                if self._leaving:
                    return  # whoever is gone from now on has not died

    def _obey(self, message: dict[str, Any]) -> dict[str, Any]:
        """Ends this process if it is told to; otherwise returns the message."""
        if "end" in message:
            self._ended.set()
            if message["by"] != self.number:  # or else it knows, and ends itself
                self._end(message["end"], message["code"])
        return message

    def _next(self, lines: Iterator[dict[str, Any]], on_close: str) -> dict[str, Any]:
        try:
            message = next(lines, None)
        except TimeoutError:
            self._end(f"{self._lead} gave no sign of life for {self._silence:g} s", 1)
        if message is None:
            self._end(on_close, 1)
        return message

    def _beat(self) -> None:
        while True:
            self._send(beat=self._steps)
            time.sleep(BEAT_SECONDS)

    def _send(self, **message: Any) -> None:
        try:
            with self._sending:
                self._line.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # whoever listens notices, and knows more

    def _end(self, line: str, code: int) -> NoReturn:
        """Says why and ends, whatever the main thread is stuck in: a collective without a partner never returns."""
        os.write(2, f"ftcot: {line}; process {self.number} ends too\n".encode())
        self._exit(code)

    def _exit(self, code: int) -> NoReturn:
        if self.lead:
            time.sleep(PARTING_SECONDS)  # the hub lives here: let the others hear first
        os._exit(code)


def _connect(address: tuple[str, int], seconds: float) -> socket.socket:
    """Connects as soon as there is somebody to connect to.

    Raises:
      OSError: there is nobody for so many seconds.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            line = socket.create_connection(address, timeout=max(1.0, min(10.0, seconds)))
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return line


def read_lines(line: socket.socket) -> Iterator[dict[str, Any]]:
    """Yields what the other end says until it closes or says what is no message; raises TimeoutError on silence."""
    rest = b""
    while True:
        try:
            new = line.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            return
        if not new:
            return
        *whole, rest = (rest + new).split(b"\n")
        for text in whole:
            try:
                message = json.loads(text)
            except ValueError:
                return
            if not isinstance(message, dict):
                return
            yield message
