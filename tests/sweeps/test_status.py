"""The status of a sweep under way, from files alone."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

import pytest
from etils import epath
from rich.console import Console

from ftcot_jax.errors import UsageError
from ftcot_jax.sweeps.claims import Claims, Machine
from ftcot_jax.sweeps.listing import write_listing
from ftcot_jax.sweeps.rows import Rows
from ftcot_jax.sweeps.status import read_status, show


def trial(key: str, group: str = "g", steps: int = 100) -> dict[str, Any]:
    return {"key": key, "name": f"trial {key}", "arm": f"arm {key}", "group": group, "steps": steps, "overlay": {}}


@pytest.fixture
def folder(tmp_path: Path) -> epath.Path:
    """One done, one failed, two running (one of them by a worker that was lost), one waiting; and one only asked."""
    place = epath.Path(tmp_path)
    write_listing(place, "tiny", [*(trial(key) for key in "abcde"), trial("f", "asked", 0)])
    rows = Rows(place)
    rows.prepare()
    who = {"worker": {"session": "w1of2-x", "share": "1/2"}}
    seconds = {"train": 50.0, "score": 4.0}
    rows.publish("a", {"accuracy": 0.5, "seconds": seconds, "finished_at": "1", "name": "trial a"} | who)
    rows.fail("b", 1, {"reason": "loss became [nan]"} | who)
    living, lost = (Claims(place, name, 100.0) for name in ("w1of2", "w2of2"))
    living._machine = lost._machine = Machine("elsewhere", "kernel", 1, 1)
    living.beat([{"key": "c", "name": "trial c", "steps": 100, "step": 40, "steps_per_second": 2.0}])
    lost.beat([{"key": "d", "name": "trial d", "steps": 100, "step": 40, "steps_per_second": 2.0}])
    os.utime(tmp_path / "workers" / f"{lost.session}.json", (0, time.time() - 101))
    return place


def test_states_and_time_left(folder: epath.Path) -> None:
    (sweep,) = read_status(folder)
    assert [one.state for one in sweep.trials] == ["done", "failed", "running", "waiting", "waiting", "waiting"]
    assert sweep.workers == 1
    trained, asked = sweep.groups
    # 60 steps are left of c, 100 of d and e each, at 2 a second; and three scorings at 4 seconds.
    assert trained.eta_seconds == pytest.approx((60 + 200) / 2 + 3 * 4)
    assert asked.eta_seconds is None
    assert sweep.trials[2].step == 40


def test_time_left_while_nothing_runs(folder: epath.Path) -> None:
    for path in (folder / "workers").iterdir():
        path.unlink()
    (sweep,) = read_status(folder)
    assert sweep.workers == 0
    assert sweep.groups[0].eta_seconds == pytest.approx(300 * 50 / 100 + 3 * 4)


def test_what_is_shown(folder: epath.Path) -> None:
    text = io.StringIO()
    show(read_status(folder, "tiny"), Console(file=text, width=120))
    shown = text.getvalue()
    assert "tiny: 6 trials: 1 done, 1 running, 1 failed, 3 waiting; 1 workers" in shown
    assert "40 of 100" in shown
    assert "loss became [nan]" in shown
    assert "0:02:22" in shown
    assert "arm a and 4 more" in shown


def test_where_nothing_has_begun(tmp_path: Path, folder: epath.Path) -> None:
    with pytest.raises(UsageError, match="no sweep has begun here"):
        read_status(epath.Path(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="no sweep of other has begun here"):
        read_status(folder, "other")
