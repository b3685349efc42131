"""Batch files answered on this machine by a command such as ``vllm run-batch``, or by the user."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ftcot_jax.errors import Preempted, UsageError
from ftcot_jax.teacher.api_state import ApiState
from ftcot_jax.teacher.batch_lines import count_rows
from ftcot_jax.teacher.batch_remote import Finished, Report, input_file, output_file
from ftcot_jax.teacher.batch_settings import BatchSettings

_STOP_SECONDS = 20.0


class LocalBatches:
    """Runs batch files one after the other by `settings.command`; without one, prepares them for the user.

    Args:
      state: its folder has the files.
      settings: the command.
      model: put in place of {model}.
      say: receives a line for every command started or waited for.
      report: receives the rows answered so far and what is running.
    """

    def __init__(
        self, state: ApiState, settings: BatchSettings, model: str, say: Callable[[str], None], report: Report
    ) -> None:
        self._state, self._settings, self._model = state, settings, model
        self._say, self._report = say, report

    def begun(self, part: str) -> bool:
        return input_file(self._state.folder, part).exists()

    def finished(self, parts: Sequence[str]) -> Iterator[Finished]:
        """Has each file answered and yields it.

        Raises:
          Preempted: files are prepared and wait for the user.
          UsageError: the command cannot be started.
        """
        waiting: list[str] = []
        for part in parts:
            if self._settings.command is not None:
                yield self._run(part, self._settings.command)
            elif self._rows(part) >= len(self._state.lines(part)):
                yield Finished(part, "completed", (self._output(part),))
            else:
                waiting.append(part)
        if waiting:
            folder = self._state.folder
            asked, there = sum(len(self._state.lines(part)) for part in waiting), sum(map(self._rows, waiting))
            raise Preempted(
                f"{len(waiting)} batch files are ready in {folder} ({there} of {asked} rows answered); answer each, as "
                f"by `vllm run-batch --model {self._model} -i {input_file(folder, waiting[0])} -o "
                f"{output_file(folder, waiting[0])}`, then run the same command again"
            )

    def _run(self, part: str, command: Sequence[str]) -> Finished:
        """Runs the command for one file unless an earlier one, perhaps of a killed run, left results."""
        with self._held(part) as lock:
            reason = ""
            if not self._rows(part):
                code = self._command(part, command, lock)
                log = self._log(part)
                reason = f"the command ended with exit code {code}; its output is in {log}"
            output = self._output(part)
        if count_rows(output) >= len(self._state.lines(part)):
            return Finished(part, "completed", (output,))
        return Finished(part, "stopped", (output,), reason=reason)

    @contextlib.contextmanager
    def _held(self, part: str) -> Iterator[int]:
        """Holds the file's lock, which its command inherits: one that outlived its run is waited for."""
        lock = os.open(self._state.folder / f"{part}.running", os.O_RDWR | os.O_CREAT)
        try:
            told = False
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not told:
                        self._say(f"batch {part}: the command of an earlier run is still at work; waiting for it")
                    told = True
                    self._report(0, f"{part} running")
                    time.sleep(min(self._settings.poll_seconds, 5.0))
            yield lock
        finally:
            os.close(lock)

    def _command(self, part: str, command: Sequence[str], lock: int) -> int:
        folder = self._state.folder
        fillings = {
            "{input}": str(input_file(folder, part)),
            "{output}": str(output_file(folder, part)),
            "{model}": self._model,
        }
        words = [_filled(word, fillings) for word in command]
        self._say(f"batch {part}: {len(self._state.lines(part))} requests, running {words[0]}")
        self._report(0, f"{part} running")
        with self._log(part).open("ab") as log:
            try:
                process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lock,))
            except OSError as error:
                raise UsageError(
                    f"teacher.batch.command: '{words[0]}' cannot be started ({error.strerror}); name a program on PATH"
                ) from error
            try:
                return process.wait()
            except BaseException:
                process.terminate()
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                raise

    def _log(self, part: str) -> Path:
        return self._state.folder / f"{part}.log"

    def _output(self, part: str) -> bytes:
        try:
            return output_file(self._state.folder, part).read_bytes()
        except FileNotFoundError:
            return b""

    def _rows(self, part: str) -> int:
        return count_rows(self._output(part))


def _filled(word: str, fillings: dict[str, str]) -> str:
    for name, value in fillings.items():
        word = word.replace(name, value)
    return word
