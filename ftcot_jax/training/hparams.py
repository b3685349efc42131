"""A finished trial in TensorBoard's HParams tab: what the grid changed, and what came of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from ftcot_jax.training.metric_log import full_disk_is_one_line

_ALWAYS = ("template", "train.learning_rate", "train.seed", "select.diversity")


def write_hparams(folder: Path, row: dict[str, Any]) -> None:
    """Adds a trial's hyper-parameters and accuracy to its events.

    Args:
      folder: of the trial's events.
      row: its result, with ``overlay``, ``recipe`` and ``accuracy``.
    """
    chosen = {key: _value(row["recipe"], key) for key in _ALWAYS} | row["overlay"]
    plain = {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in chosen.items()}
    # Without an experiment of its own the tab's columns are those of all trials together.
    _, start, end = hparams({key: value for key, value in plain.items() if value != "null"}, {})
    folder.mkdir(parents=True, exist_ok=True)
    accuracy = Summary(value=[Summary.Value(tag="accuracy", simple_value=row["accuracy"])])
    with full_disk_is_one_line(folder):
        writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.hparams")
        for summary in (start, accuracy, end):
            writer.write_event(Event(wall_time=time.time(), step=row["steps"], summary=summary))
        writer.close()


def _value(recipe: dict[str, Any], key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = None if value is None else value.get(part)
    return value
