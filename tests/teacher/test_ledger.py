"""The ledger: content-addressed, shared by processes, whole whenever its process is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ftcot_jax.errors import FtcotError
from ftcot_jax.tasks.question import Question
from ftcot_jax.teacher import ledger as ledger_module
from ftcot_jax.teacher.group_commit import GroupCommit
from ftcot_jax.teacher.identity import IdentityMaker
from ftcot_jax.teacher.ledger import Intent, Ledger, Outcome, Sample
from ftcot_jax.teacher.ledger_layout import FIRST_LAYOUT
from ftcot_jax.teacher.sampler import sample
from tests.teacher.asking import ask, assert_whole, know, teacher
from tests.teacher.fault_server import FaultServer, hang

ROOT = Path(__file__).parents[2]
CLIENT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from ftcot_jax.tasks.question import Question
    from ftcot_jax.teacher.sampler import sample
    from ftcot_jax.teacher.settings import TeacherSettings
    questions = [Question(number, f"How many is {number}?", str(number)) for number in range(int(sys.argv[3]))]
    settings = TeacherSettings(endpoint=sys.argv[1], model="teacher", diversity=4, seed=1, concurrency=int(sys.argv[4]))
    print("ready", flush=True)
    sample(settings, questions, Path(sys.argv[2]))
    """
)


def client(server: FaultServer, ledger: Path, questions: int, concurrency: int = 4) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLIENT, server.url, str(ledger), str(questions), str(concurrency)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_identity_is_content() -> None:
    source, sampling = {"model": "m", "endpoint": "e"}, {"temperature": 0.7, "max_tokens": 128}
    same = IdentityMaker({"endpoint": "e", "model": "m"}, {"max_tokens": 128, "temperature": 0.7})('a "ü"\n')
    assert IdentityMaker(source, sampling)('a "ü"\n') == same
    others = {
        IdentityMaker({**source, "model": "n"}, sampling)('a "ü"\n'),
        IdentityMaker(source, sampling)('a "ü"'),
        IdentityMaker(source, {**sampling, "max_tokens": 129})('a "ü"\n'),
    }
    assert len(others | {same}) == 4
    assert same == "c1859ec30c5cb29b576ec6de9563e82a"  # as it was when the first ledgers were written


def test_a_ledger_of_the_first_layout_goes_on(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger")) as db:
        db.executescript(FIRST_LAYOUT)
        db.execute("INSERT INTO attempts VALUES (1, 'r', '[0, 1]', 1.0, 'answered', 5, 6)")
        db.execute("INSERT INTO attempts VALUES (2, 'r', '[2]', 1.0, NULL, NULL, NULL)")
        db.execute("INSERT INTO samples VALUES ('r', 0, 'text', 'stop', 1)")
        db.commit()
    with contextlib.closing(Ledger(tmp_path / "ledger")) as ledger:
        assert ledger.samples("r") == {0: Sample("text", "stop")}
        account = ledger.account()
        assert (account.answered, account.perhaps_paid, account.completion_tokens) == (1, 1, 6)
        assert ledger.begin("r", [1]) == 3
    with contextlib.closing(Ledger(tmp_path / "ledger")) as ledger:
        assert ledger.account().perhaps_paid == 2


def test_a_claim_holds_while_its_owner_lives(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path / "ledger"), Ledger(tmp_path / "ledger")
    attempt = one.begin("r", [0, 1])
    assert other.commit([Intent("r", [1, 2]), Intent("r", [2]), Intent("s", [0])], [])[0] is None
    assert None not in other.commit([Intent("r", [3])], [])
    one.answered(attempt, "r", {0: Sample("a", "stop"), 1: Sample("b", "stop")}, (1, 2))
    assert other.commit([Intent("r", [1])], []) == [None]  # bought by now
    assert other.account().perhaps_paid == 0  # in flight, not lost
    one.begin("r", [7])
    one.close()
    (again,) = other.commit([Intent("r", [7])], [])
    assert again is not None
    assert other.account().perhaps_paid == 1
    other.close()


def test_an_owner_without_a_heartbeat_loses_its_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only goes forward: an owner on another machine, of which only the heartbeat is seen."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    here = ledger_module._machine()
    monkeypatch.setattr(ledger_module, "_machine", lambda: "elsewhere")
    far = Ledger(tmp_path / "ledger")
    far.begin("r", [0])
    monkeypatch.setattr(ledger_module, "_machine", lambda: here)
    near = Ledger(tmp_path / "ledger")
    for _ in range(10):  # it beats, so it may take as long as it likes
        now[0] += ledger_module.LEASE_SECONDS * 0.9
        far.beat()
        assert near.commit([Intent("r", [0])], []) == [None]
    now[0] += ledger_module.LEASE_SECONDS + 1
    assert near.commit([Intent("r", [0])], []) != [None]
    assert near.account().perhaps_paid == 1
    far.beat()  # it was only asleep: it is there again, and sees what was taken over
    assert far.commit([Intent("r", [0])], []) == [None]
    far.close()
    near.close()


def test_what_gathers_is_committed_together_and_before_it_is_sent(tmp_path: Path) -> None:
    async def run() -> None:
        commits = GroupCommit(ledger)
        async with commits.beating():
            futures = [commits.intend(Intent(f"r{number}", [0])) for number in range(50)]
            assert ledger.account().answered == 0
            attempts = [await future for future in futures]
            with contextlib.closing(sqlite3.connect(tmp_path / "ledger")) as other:  # sees only what is committed
                assert other.execute("SELECT COUNT(*) FROM attempts").fetchone() == (50,)
            for number, attempt in enumerate(attempts):
                assert attempt is not None
                commits.note(Outcome(attempt, "answered", f"r{number}", {0: Sample(str(number), "stop")}, (1, 1)))
            found = await commits.look(["r3", "r7", "nobody"])
            assert {request: have[0].text for request, have in found.items()} == {"r3": "3", "r7": "7"}
            cancelled = commits.intend(Intent("late", [0]))
            cancelled.cancel()
        assert ledger.account().answered == 50

    with contextlib.closing(Ledger(tmp_path / "ledger")) as ledger:
        asyncio.run(run())
    with contextlib.closing(Ledger(tmp_path / "ledger")) as ledger:
        assert ledger.account().perhaps_paid == 0


def test_two_processes_do_not_buy_the_same(tmp_path: Path) -> None:
    """Nothing is answered before both are at it; together they buy each sample once."""
    server = FaultServer()

    async def wait_for_both(*_: object) -> None:
        while server.most_at_once <= 3:  # what one of them asks at once
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.03)

    server.always = wait_for_both
    with server.serving():
        know(tmp_path / "ledger", teacher(server))
        both = [client(server, tmp_path / "ledger", questions=30, concurrency=3) for _ in range(2)]
        assert [process.wait(timeout=120) for process in both] == [0, 0]
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger")) as db:
            owners = db.execute("SELECT owner, COUNT(*) FROM attempts GROUP BY owner").fetchall()
        assert len(owners) == 2
        assert min(count for _, count in owners) > 10
    assert server.bought_twice == 0
    assert len(server.bodies) == 30 * 5


def test_a_process_takes_over_from_a_killed_one(tmp_path: Path) -> None:
    server = FaultServer(always=hang(0.1))
    with server.serving():
        know(tmp_path / "ledger", teacher(server))
        one, other = (client(server, tmp_path / "ledger", questions=20, concurrency=2) for _ in range(2))
        while len(server.bodies) < 20:
            time.sleep(0.01)
        one.kill()
        one.wait()
        assert other.wait(timeout=120) == 0
    with contextlib.closing(Ledger(tmp_path / "ledger")) as ledger:
        lost = ledger.account().perhaps_paid
    assert lost <= 2
    assert server.bought_twice <= 4 * lost
    assert len({prompt for prompt, _, _ in server.bought}) == 20 + 80


@pytest.mark.parametrize("seed", range(4))
def test_kill_dash_nine_at_any_instant(seed: int, tmp_path: Path) -> None:
    """Killed again and again, at random instants: what was in flight at most is bought twice, and reported."""
    rng = random.Random(seed)
    server = FaultServer(always=hang(0.004))
    with server.serving():
        know(tmp_path / "ledger", teacher(server))
        kills = 0
        for _ in range(3):
            process = client(server, tmp_path / "ledger", questions=120)
            time.sleep(rng.uniform(0.05, 0.6))
            kills += process.poll() is None
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        process = client(server, tmp_path / "ledger", questions=120)
        assert process.wait(timeout=120) == 0
        sampled = ask(server, tmp_path / "ledger")
    assert kills > 0
    assert_whole(sampled)
    assert len({prompt for prompt, _, _ in server.bought}) == 120 + 480
    assert sampled.account.perhaps_paid <= 4 * kills  # four at a time
    assert server.bought_twice <= 4 * sampled.account.perhaps_paid


def test_duplicate_questions_are_bought_once(tmp_path: Path) -> None:
    twins = [Question(number, "How many is it?", "1") for number in range(8)]
    with FaultServer(always=hang(0.02)).serving() as server:
        asked = teacher(server)
        know(tmp_path / "ledger", asked)
        sampled = sample(asked, twins, tmp_path / "ledger")
    assert len(sampled.completions) == 8 * 4
    assert server.bought_twice == 0
    assert len(server.bodies) == 1 + 4


def test_begin_refuses_what_another_buys(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path / "ledger"), Ledger(tmp_path / "ledger")
    one.begin("r", [0])
    with pytest.raises(FtcotError, match="another process is buying the same samples"):
        other.begin("r", [0])
    one.close()
    other.close()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 150])
def test_many_samples_of_one_answer_are_kept_and_those_there_already_are_counted(count: int, tmp_path: Path) -> None:
    """Rows are written many to a statement: none may be lost or change places at its edges."""
    with contextlib.closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        first = ledger.begin("question", [count // 2])
        ledger.answered(first, "question", {count // 2: Sample("was there", "stop")}, (1, 1))
        bought = {
            n: Sample(f"text {n}", "length" if n % 2 else None, f"why {n}" if n % 3 else None) for n in range(count)
        }
        other = {0: Sample("of another", "stop")}
        intents = [Intent("question", range(count), seen=ledger.changes), Intent("second", [0], seen=ledger.changes)]
        attempts = [attempt for attempt in ledger.commit(intents, []) if attempt is not None]
        ledger.commit(
            [],
            [
                Outcome(attempts[0], "answered", "question", bought, (7, 9)),
                Outcome(attempts[1], "answered", "second", other, (1, 1)),
            ],
        )
        assert ledger.samples("question") == bought | {count // 2: Sample("was there", "stop")}
        assert ledger.samples("second") == other
        assert (ledger.account().duplicates, ledger.account().answered) == (1, 3)
