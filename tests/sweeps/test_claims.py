"""Claims: one holder at a time, lapsed ones followed, whatever workers do between each other's steps."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from etils import epath
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftcot_jax.sweeps.claims import Claims, Machine
from ftcot_jax.sweeps.rows import Rows

LEASE = 8.0


@dataclasses.dataclass
class Clock:
    """One worker's own clock; that of another may stand anywhere."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def worker(folder: Path, name: str, clock: Clock, elsewhere: bool = True) -> Claims:
    """A worker of its own machine, unless told."""
    claims = Claims(epath.Path(folder), name, LEASE, clock)
    if elsewhere:
        claims._machine = Machine(f"host-{name}", f"kernel-{name}", 1, 1)
    claims.beat()
    claims.look()
    return claims


def test_one_holder_who_may_let_go(tmp_path: Path) -> None:
    one, two = worker(tmp_path, "w1of2", Clock()), worker(tmp_path, "w2of2", Clock(1e9))
    assert one.take("trial")
    two.look()
    assert not two.may_take("trial")
    assert not two.take("trial")
    assert two.holder("trial") == one.session
    one.release("trial")
    assert not one.holds("trial")
    two.look()
    assert two.take("trial")
    assert two.holds("trial")


def test_who_read_the_same_state_does_not_get_the_same_claim(tmp_path: Path) -> None:
    one, two = worker(tmp_path, "w1of2", Clock()), worker(tmp_path, "w2of2", Clock())
    assert one.may_take("trial")
    assert two.may_take("trial")
    assert one.take("trial")
    assert not two.take("trial")


def test_a_silent_worker_is_followed_after_the_lease_by_the_watchers_clock(tmp_path: Path) -> None:
    mine, theirs = Clock(), Clock(-1e6)
    lost, heir = worker(tmp_path, "w1of2", theirs), worker(tmp_path, "w2of2", mine)
    assert lost.take("trial")
    for passed in (0.0, LEASE - 0.1):
        mine.now = passed
        heir.look()
        assert not heir.may_take("trial")
    lost.beat()  # just in time
    mine.now = LEASE + 0.1
    heir.look()
    assert not heir.may_take("trial")
    mine.now = 2 * LEASE + 0.1
    heir.look()
    assert heir.take("trial")
    assert lost.superseded() == ["trial"]
    assert not lost.holds("trial")
    lost.release("trial")  # which changes nothing for the heir
    assert heir.holds("trial")
    lost.look()
    assert not lost.may_take("trial")


def test_a_watcher_that_was_frozen_has_watched_nothing(tmp_path: Path) -> None:
    mine = Clock()
    holder, watcher = worker(tmp_path, "w1of2", Clock()), worker(tmp_path, "w2of2", mine)
    assert holder.take("trial")
    watcher.look()
    assert not watcher.may_take("trial")
    holder.beat()
    mine.now = 100 * LEASE
    watcher.look()
    assert not watcher.may_take("trial")


def test_the_longer_of_two_leases_counts(tmp_path: Path) -> None:
    mine = Clock()
    patient = Claims(epath.Path(tmp_path), "w1of2", 3 * LEASE, Clock())
    patient._machine = Machine("host", "kernel", 1, 1)
    patient.beat()
    patient.look()
    assert patient.take("trial")
    hasty = worker(tmp_path, "w2of2", mine)
    hasty.may_take("trial")
    for passed, may in ((2 * LEASE, False), (3 * LEASE, True)):
        mine.now = passed
        hasty.look()
        assert hasty.may_take("trial") == may


def test_a_closed_worker_leaves_nothing_held(tmp_path: Path) -> None:
    one, two = worker(tmp_path, "w1of2", Clock()), worker(tmp_path, "w2of2", Clock())
    assert one.take("a")
    assert one.take("b")
    one.close()
    two.look()
    assert two.take("a")
    assert two.take("b")
    assert two.sessions.ended(one.session)


def test_a_dead_process_of_this_machine_is_known_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from etils import epath; from ftcot_jax.sweeps.claims import Claims;"
        f"claims = Claims(epath.Path({os.fspath(tmp_path)!r}), 'w1of2', 1000); claims.beat(); claims.look();"
        "print(claims.take('trial'), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        here = worker(tmp_path, "w2of2", Clock(), elsewhere=False)
        assert not here.may_take("trial")
        process.send_signal(signal.SIGSTOP)
        here.look()
        assert not here.may_take("trial")  # frozen is not dead
        process.kill()
        process.wait()
    here.look()
    assert here.take("trial")


def test_a_later_process_of_the_same_number_is_another(tmp_path: Path) -> None:
    here = Machine.here()
    assert not here.is_dead()
    assert here.started is not None
    assert dataclasses.replace(here, started=here.started - 1).is_dead()
    assert not dataclasses.replace(here, kernel="another's", started=0).is_dead()
    assert not dataclasses.replace(here, kernel=None).is_dead()


def test_one_result_a_trial(tmp_path: Path) -> None:
    rows = Rows(epath.Path(tmp_path))
    assert (rows.finished(), rows.failures()) == (set(), {})
    rows.prepare()
    assert rows.publish("trial", {"name": "a", "finished_at": "1", "by": 1})
    assert not rows.publish("trial", {"name": "a", "finished_at": "2", "by": 2})
    assert rows.fail("other", 1, {"reason": "x"})
    assert not rows.fail("other", 1, {"reason": "y"})
    assert rows.fail("other", 2, {"reason": "z"})
    assert (rows.finished(), rows.failures(), rows.failure("other", 1)) == ({"trial"}, {"other": 2}, {"reason": "x"})
    assert rows.publish("first", {"name": "b", "finished_at": "0"})
    assert rows.gather() == 2
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["b", "a"]
    rows.forget("trial")
    assert rows.finished() == {"first"}


@dataclasses.dataclass
class Actor:
    """A worker that goes through its trial's life one step at a time; frozen at any of them it goes on where it was."""

    claims: Claims
    rows: Rows
    clock: Clock
    alive: bool = True
    published: int = 0
    at: str = "idle"

    def step(self) -> None:
        if self.at == "idle":
            self.claims.look()
            self.at = "looked" if self.claims.may_take("trial") and "trial" not in self.rows.finished() else "idle"
        elif self.at == "looked":
            self.at = "took" if self.claims.take("trial") else "idle"
        elif self.at == "took":
            done = "trial" in self.rows.finished()
            if done:
                self.claims.release("trial")
            self.at = "idle" if done else "trained"
        elif self.at == "trained":
            self.at = "sure" if self.claims.holds("trial") else "superseded"
        elif self.at == "sure":
            self.published += self.rows.publish("trial", {"by": self.claims.session})
            self.at = "superseded"
        else:
            self.claims.release("trial")
            self.at = "idle"


MOVES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["step", "step", "step", "beat", "wait", "die"])), max_size=60
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moves=MOVES)
def test_any_interleaving_ends_with_one_result(moves: list[tuple[int, str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        actors = []
        for number in range(3):
            clock = Clock(1000.0 * number)
            rows = Rows(epath.Path(folder))
            rows.prepare()
            actors.append(Actor(worker(folder, f"w{number + 1}of3", clock), rows, clock))
        for number, move in moves:
            actor = actors[number]
            if not actor.alive:
                continue
            if move == "step":
                actor.step()
            elif move == "beat":
                actor.claims.beat()
            elif move == "wait":
                for one in actors:
                    one.clock.now += LEASE / 2
            elif sum(one.alive for one in actors) > 1:
                actor.alive = False
        left = [actor for actor in actors if actor.alive]
        for _ in range(40):  # whoever is left goes on, beating; the dead ones' claims lapse
            for actor in left:
                actor.claims.beat()
                actor.step()
                actor.clock.now += LEASE / 4
        assert sum(actor.published for actor in actors) == 1
        assert Rows(epath.Path(folder)).finished() == {"trial"}
        for actor in left:
            assert actor.at == "idle"
            assert not actor.claims.held


@pytest.mark.parametrize("count", [2, 5])
def test_the_heirs_of_one_claim_are_one(tmp_path: Path, count: int) -> None:
    clock = Clock()
    lost = worker(tmp_path, "lost", Clock())
    assert lost.take("trial")
    heirs = [worker(tmp_path, f"w{number}", clock) for number in range(count)]
    assert not any(heir.may_take("trial") for heir in heirs)
    clock.now = LEASE
    for heir in heirs:
        heir.look()
        assert heir.may_take("trial")
    assert [heir.take("trial") for heir in heirs] == [True] + [False] * (count - 1)
