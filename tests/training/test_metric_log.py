"""The metric log: a resume, damaged lines, TensorBoard without duplicates, a full disk."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from ftcot_jax.training.board import Board
from ftcot_jax.training.metric_log import MetricLog, read_metrics
from tests.training.test_checkpoints import on_a_small_disk


def rows(steps: range) -> list[dict[str, Any]]:
    return [{"step": step, "loss": 1 / (1 + step)} for step in steps]


def write(log: MetricLog | Board, steps: range) -> None:
    for row in rows(steps):
        log.write(row)
    log.close()


def test_a_resume_drops_what_is_made_again(tmp_path: Path) -> None:
    said: list[str] = []
    file = tmp_path / "logs" / "a.jsonl"
    write(MetricLog(file, 0, said.append), range(7))
    with file.open("a") as half:
        half.write('{"step": 7, "lo')  # killed in the middle of a line
    write(MetricLog(file, 4, said.append), range(4, 9))
    assert read_metrics(file) == rows(range(9))
    assert said == []


def test_damaged_lines_are_dropped_counted_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    file = tmp_path / "a.jsonl"
    write(MetricLog(file, 0, said.append), range(6))
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1], lines[3] = b"\x00\xff\xfe garbage\n", b'{"loss": 3}\n'
    file.write_bytes(b"".join(lines))
    assert [row["step"] for row in read_metrics(file)] == [0, 2, 4, 5]
    write(MetricLog(file, 5, said.append), range(5, 8))
    assert [row["step"] for row in read_metrics(file)] == [0, 2, 4, 5, 6, 7]
    assert said == [f"{file}: 2 damaged lines dropped; the other steps' metrics are there"]


def events(folder: Path) -> list[Event]:
    """Every event in order, checksums checked."""
    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data = file.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            assert masked_crc32c(data[:8]) == int.from_bytes(data[8:12], "little")
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def shown(folder: Path) -> list[tuple[int, str, float]]:
    """What TensorBoard shows: a session that starts at a step hides that step and all later ones before it."""
    points: list[tuple[int, str, float]] = []
    for event in events(folder):
        if event.session_log.status == SessionLog.START:
            points = [point for point in points if point[0] < event.step]
        points += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return points


@pytest.mark.parametrize("resumed_at", [0, 4])
def test_tensorboard_shows_every_step_once_after_a_kill(resumed_at: int, tmp_path: Path) -> None:
    write(Board(tmp_path, 0), range(7))
    assert len(shown(tmp_path)) == 7
    write(Board(tmp_path, resumed_at), range(resumed_at, 9))
    assert shown(tmp_path) == [(row["step"], "loss", pytest.approx(row["loss"])) for row in rows(range(9))]


def test_the_tensorboard_package_agrees(tmp_path: Path) -> None:
    """Where tensorboard itself is installed, its own reader is asked."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(Board(tmp_path, 0), range(7))
    time.sleep(1.1)  # file names count seconds
    write(Board(tmp_path, 4), range(4, 9))
    read = reader.EventAccumulator(str(tmp_path)).Reload()
    assert [scalar.step for scalar in read.Scalars("loss")] == list(range(9))


def test_a_full_disk_is_one_line_and_never_a_hang(tmp_path: Path) -> None:
    done = on_a_small_disk(
        tmp_path,
        1,
        """
        import json, sys
        from pathlib import Path
        from ftcot_jax.errors import FtcotError
        from ftcot_jax.training import board
        from ftcot_jax.training.metric_log import MetricLog, read_metrics
        folder, said = Path(sys.argv[1]), []
        board._FLUSH_SECONDS = 0
        def fill(log):
            step = 0
            try:
                while True:
                    log.write({"step": step, "loss": 0.5, **{f"filler{n}": 1.0 for n in range(50)}})
                    step += 1
            except FtcotError as error:
                said.append(str(error))
            return step
        steps = fill(MetricLog(folder / "a.jsonl", 0, said.append))
        read = [row["step"] for row in read_metrics(folder / "a.jsonl")]
        try:
            MetricLog(folder / "a.jsonl", 3, said.append).close()
        except FtcotError as error:
            said.append(str(error))
        (folder / "a.jsonl").unlink()
        fill(board.Board(folder / "board", 0))
        print(json.dumps([said, steps, len(read), read == list(range(steps))]))
        """,
    )
    assert done.returncode == 0, done.stderr
    said, steps, read, in_order = json.loads(done.stdout.splitlines()[-1])
    advice = "No space left on device; make room and run the same command, which goes on from the last checkpoint"
    assert said[0] == f"{tmp_path / 'a.jsonl'}: {advice}"
    assert said[-1] == f"{tmp_path / 'board'}: {advice}"
    assert steps == read > 100
    assert in_order
