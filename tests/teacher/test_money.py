"""Prices, the cap, the estimate before and the bill after."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from ftcot_jax.errors import UsageError
from ftcot_jax.teacher.estimate import estimate
from ftcot_jax.teacher.ledger import Ledger
from ftcot_jax.teacher.money import BudgetSpent, bill, price_of, price_table
from ftcot_jax.teacher.sampler import Sampled, sample
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.teacher.tally import Tally
from tests.teacher.asking import QUESTIONS, assert_whole, know, teacher
from tests.teacher.fault_server import FaultServer, reset_in_body, status

PRICE = {"prompt": 1000.0, "completion": 2000.0}  # the server counts 3 and 2 n tokens a request


def priced(server: FaultServer, ledger: Path, **settings: object) -> Sampled:
    asked = teacher(server, price=PRICE, max_tokens=4, answer_max_tokens=4, **settings)
    know(ledger, asked)
    return sample(asked, QUESTIONS, ledger, dataset="numbers")


def test_the_bill_by_dataset_and_step(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        sampled = priced(server, tmp_path / "ledger")
    texts, answers = 6 * (3 * 1e-3 + 8 * 2e-3), 24 * (3 * 1e-3 + 2 * 2e-3)
    assert sampled.account.cost == pytest.approx(texts + answers)
    assert bill(sampled.report, sampled.account) == [
        "numbers, zs_cot answer: 24 answers, 72 prompt and 48 completion tokens, $0.1680",
        "numbers, zs_cot text: 6 answers, 18 prompt and 48 completion tokens, $0.1140",
        "in all $0.2820",
    ]


def test_what_failed_costs_nothing_and_what_was_lost_perhaps(tmp_path: Path) -> None:
    server = FaultServer(script=[status(500), reset_in_body()])
    with server.serving():
        sampled = priced(server, tmp_path / "ledger", concurrency=1)
    assert_whole(sampled)
    assert sampled.account.cost == pytest.approx(0.282)
    first = len(server.bodies[1]["prompt"]) / 4 * 1e-3 + 16 * 2e-3  # about its prompt, and at most four texts of four
    assert sampled.account.perhaps_cost == pytest.approx(first)
    assert bill(sampled.report, sampled.account)[-1] == (
        f"1 requests have no outcome: perhaps paid, ${first:,.4f} at most"
    )


def test_the_budget_stops_cleanly_and_more_of_it_goes_on(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        with pytest.raises(BudgetSpent, match=r"of \$0.2000 is spent .* raise teacher.budget and run the same command"):
            priced(server, tmp_path / "ledger", budget=0.2)
        with contextlib.closing(Ledger(tmp_path / "ledger")) as ledger:
            account = ledger.account()
        assert 0.1 < account.cost <= 0.2
        assert account.perhaps_paid == 0
        bought = len(server.bodies)
        with pytest.raises(BudgetSpent):  # the cap is on the ledger, not on the run
            priced(server, tmp_path / "ledger", budget=0.2)
        assert len(server.bodies) == bought
        assert_whole(priced(server, tmp_path / "ledger", budget=0.5))
        assert server.bought_twice == 0
    assert BudgetSpent("").exit_code == 1


def test_a_budget_waits_for_what_is_in_flight(tmp_path: Path) -> None:
    """Requests reserve what they may cost at most; what they did not need is there for others."""
    with FaultServer().serving() as server:
        asked = teacher(server, price=PRICE, budget=4.0)  # one request may take 1.03, and does take 0.019
        know(tmp_path / "ledger", asked)
        sampled = sample(asked, QUESTIONS, tmp_path / "ledger")
        assert server.most_at_once <= 20
    assert_whole(sampled)
    assert sampled.account.cost == pytest.approx(0.282)


def test_the_estimate_sends_nothing_and_bounds_the_bill(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        asked = teacher(server, price=PRICE, max_tokens=4, answer_max_tokens=4)
        before = estimate(asked, QUESTIONS, tmp_path / "ledger", dataset="numbers")
        assert not (tmp_path / "ledger").exists()
        assert server.bodies == []
        assert [(step.requests, step.samples) for step in before.steps] == [(6, 24), (24, 24)]
        assert [step.completion_tokens for step in before.steps] == [96, 96]
        sampled = priced(server, tmp_path / "ledger")
        assert before.cost is not None
        assert sampled.account.cost <= before.cost
        more = teacher(server, price=PRICE, max_tokens=4, answer_max_tokens=4, diversity=6)
        after = estimate(more, QUESTIONS, tmp_path / "ledger", dataset="numbers")
        assert [(step.requests, step.samples) for step in after.steps] == [(6, 12), (12, 12)]
        assert after.steps[0].usual_tokens == pytest.approx(12 * 2)
        assert after.lines()[0] == "0 of 6 questions are in the ledger already"
        assert "12 samples in 6 requests" in after.lines()[1]
        assert "(about 24 if as long as those before)" in after.lines()[1]
        whole = estimate(asked, QUESTIONS, tmp_path / "ledger", dataset="numbers")
        assert (whole.complete, whole.cost) == (6, 0.0)


def test_prices_of_the_table_and_of_the_recipe() -> None:
    assert price_table()["gpt-4o-mini"].completion == 0.6
    listed = TeacherSettings(endpoint="http://x/v1", model="gpt-4o-mini", budget=1.0)
    assert price_of(listed) == price_table()["gpt-4o-mini"]
    own = TeacherSettings(endpoint="http://x/v1", model="gpt-4o-mini", price={"prompt": 7, "completion": 8})  # type: ignore[arg-type]
    assert (price_of(own).prompt, price_of(own).completion) == (7, 8)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"teacher.budget: no price is known for model 'mine'; give teacher.price="):
        price_of(TeacherSettings(endpoint="http://x/v1", model="mine", budget=1.0))


def test_the_tally_in_one_line(tmp_path: Path) -> None:
    tallies: list[Tally] = []
    with FaultServer(script=[status(429)]).serving() as server:
        asked = teacher(server, price=PRICE)
        know(tmp_path / "ledger", asked)
        sample(asked, QUESTIONS, tmp_path / "ledger", tallies.append)
    assert (tallies[-1].done, tallies[-1].total, tallies[-1].in_flight) == (6, 6, 0)
    assert ", 186 tokens, $0.2820, 1 retries" in tallies[-1].note
    assert Tally(1, 2, 3, 4, 5, 6, 1_234_567, 12.3456).note == (
        "4 of 5 in flight, 1.2M tokens, $12.35, 6 retries, 3 refused"
    )
    assert Tally(1, 2, 0, 4, 5, 0, 12_345, None).note == "4 of 5 in flight, 12k tokens"
