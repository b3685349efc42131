"""A trial's metrics as TensorBoard scalars.

Written by the caller's own thread, one event a step: tensorboardX's SummaryWriter hands each scalar to a thread
that dies of a full disk, and its callers then wait for it for ever.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from ftcot_jax.training.metric_log import full_disk_is_one_line

_FLUSH_SECONDS = 10
_number = itertools.count()


class Board:
    """Scalars of one trial, by step; those from `resume_step` on that an earlier run left are hidden.

    Args:
      folder: where the event files are.
      resume_step: the first step still to come.
    """

    def __init__(self, folder: Path, resume_step: int) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with full_disk_is_one_line(folder):
            self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{next(_number):06}")
            start = SessionLog(status=SessionLog.START)  # what it hides may have been written on another machine
            self._writer.write_event(Event(wall_time=time.time(), step=resume_step, session_log=start))
            self._writer.flush()
        self._flushed = time.monotonic()

    def write(self, row: dict[str, Any]) -> None:
        """Writes every number of the row under its name at ``step``."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items() if name != "step"]
        with full_disk_is_one_line(self._folder):
            self._writer.write_event(Event(wall_time=time.time(), step=row["step"], summary=Summary(value=values)))
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._writer.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        with full_disk_is_one_line(self._folder):
            self._writer.close()
