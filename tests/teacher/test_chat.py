"""Chat and reasoning teachers, one step and two; and the few-shot prompt through the same sampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import Kind, answer_prompt, get_template, zero_shot_cot_prompt
from ftcot_jax.teacher.completion import Completion
from ftcot_jax.teacher.ledger import Sample
from ftcot_jax.teacher.plan import PromptPlan, plan_of
from ftcot_jax.teacher.sampler import Sampled, sample
from ftcot_jax.teacher.wire import split_thinking
from tests.teacher.asking import QUESTIONS, ask, assert_whole, know, teacher
from tests.teacher.fault_server import Fault, FaultServer

ONE_STEP = PromptPlan("zs_chat", lambda question: question.question, None)
FEW_SHOT = PromptPlan("fs_cot", lambda question: f"Q: 1 + 1?\nA: It is 2.\n\nQ: {question.question}\nA:", None, ("Q:",))


def says(**message: Any) -> Fault:
    """A reasoning model: the same message for each choice but for a number."""

    async def play(request: web.Request, body: dict[str, Any]) -> web.Response:
        seed = body.get("seed", 0)
        rows = [
            {
                "index": n,
                "finish_reason": "stop",
                "message": {name: text and f"{text}{n} {seed}" for name, text in message.items()},
            }
            for n in range(body["n"])
        ]
        return web.json_response({"choices": rows, "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    return play


def run(server: FaultServer, ledger: Path, plan: PromptPlan | None = None, **settings: Any) -> Sampled:
    asked = teacher(server, **{"api": "chat", "diversity": 2, **settings})
    know(ledger, asked)
    return sample(asked, QUESTIONS, ledger) if plan is None else sample(asked, QUESTIONS, ledger, plan=plan)


def first_row(sampled: Sampled) -> Completion:
    return next(iter(sampled.completions))


def test_two_steps_over_chat(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        assert_whole(run(server, tmp_path / "ledger"), diversity=2)
        assert all("prompt" not in body for body in server.bodies)
        assert server.bodies[0]["messages"][0]["role"] == "user"
        asked = len(server.bodies)
        assert_whole(run(server, tmp_path / "ledger"), diversity=2)
        assert len(server.bodies) == asked
        assert_whole(ask(server, tmp_path / "ledger", diversity=2), diversity=2)  # /completions is another thing to buy
        assert len(server.bodies) == 2 * asked
    assert server.bought_twice == 12 + 12  # by the server's count: the same prompts over another route


def test_a_chat_goes_on_in_turns(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        sampled = run(server, tmp_path / "ledger", plan_of(get_template("zs_cot", "chat")))
    row = first_row(sampled)
    assert len(sampled.completions) == 12
    assert server.bodies[0]["messages"] == [{"role": "user", "content": row.reasoning_prompt}]
    first = next(body["messages"] for body in server.bodies if len(body["messages"]) == 3)
    assert [turn["role"] for turn in first] == ["user", "assistant", "user"]
    asked = [body["messages"][1]["content"] for body in server.bodies if len(body["messages"]) == 3]
    assert row.reasoning_completion in asked
    assert row.prompt == (
        f"user: {row.reasoning_prompt}\n\nassistant: {row.reasoning_completion}\n\nuser: {first[2]['content']}"
    )


@pytest.mark.parametrize("kind", ["decoder", "api", "chat"])
def test_every_asking_template_makes_a_plan(kind: Kind) -> None:
    question = Question(0, "How many?", "3")
    steps = {name: plan_of(get_template(name, kind)) for name in ("zs", "zs_cot")}
    assert steps["zs"].second is None
    second = steps["zs_cot"].second
    assert second is not None
    first = steps["zs_cot"].first(question)
    assert "How many?" in first
    assert "step by step" in first
    assert "Therefore" in second(first, " 1 + 2.")
    assert "1 + 2." in second(first, " 1 + 2.")
    shots = plan_of(get_template("fs_cot", kind).with_exemplars("Q: 1?\nA: 1."))
    assert shots.first(question) == "Q: 1?\nA: 1.\nQ: How many?\nA:"
    assert shots.stop == ("Q:",)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_the_rationale_and_the_answer_follows_it(field: str, tmp_path: Path) -> None:
    with FaultServer(always=says(**{field: "Two and two ", "content": "It is 4. "})).serving() as server:
        row = first_row(run(server, tmp_path / "ledger"))
        assert len(server.bodies) == 6  # no second question where the answer is there
    seed = server.bodies[0]["seed"]
    assert row.reasoning_prompt == row.prompt == zero_shot_cot_prompt(QUESTIONS[0].question)
    assert (row.reasoning_completion, row.completion) == (f"Two and two 0 {seed}", f"It is 4. 0 {seed}")


def test_reasoning_cut_off_before_its_answer_is_asked_for_it(tmp_path: Path) -> None:
    async def play(request: web.Request, body: dict[str, Any]) -> web.Response | None:
        if body["temperature"] == 0:
            return None
        return await says(reasoning="Two and ", content=None)(request, body)

    with FaultServer(always=play).serving() as server:
        row = first_row(run(server, tmp_path / "ledger"))
    assert row.reasoning_completion is not None
    assert row.reasoning_completion.startswith("Two and 0")
    assert row.prompt == answer_prompt(zero_shot_cot_prompt(QUESTIONS[0].question), row.reasoning_completion)
    assert row.completion.startswith(" text")


def test_one_step_with_and_without_reasoning(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        row = first_row(run(server, tmp_path / "ledger", ONE_STEP))
        assert len(server.bodies) == 6
        assert (row.reasoning_prompt, row.reasoning_completion, row.reasoning_finish_reason) == (None, None, None)
        assert (row.prompt, row.finish_reason) == (QUESTIONS[0].question, "stop")
        assert row.completion.startswith(" text")
    with FaultServer(always=says(content="<think>Hm, ")).serving() as server:
        row = first_row(run(server, tmp_path / "other", ONE_STEP))
        assert (row.reasoning_completion or "").startswith("Hm, 0")
        assert row.completion == ""


def test_few_shot_goes_through_the_same_sampler(tmp_path: Path) -> None:
    """A stop string that the server leaves in the text, with what follows it, is cut off."""

    async def play(request: web.Request, body: dict[str, Any]) -> web.Response:
        assert body["stop"] == ["Q:"]
        rows = [{"index": 0, "text": f" It is {body['prompt'][-5]}.\n\nQ: More?", "finish_reason": "stop"}]
        return web.json_response({"choices": rows})

    with FaultServer(always=play).serving() as server:
        sampled = run(server, tmp_path / "ledger", FEW_SHOT, api="completions", diversity=1, temperature=0.0)
    rows = list(sampled.completions)
    assert all("Q:" not in row.completion and row.completion.startswith(" It is") for row in rows)
    assert rows[0].prompt.endswith(f"Q: {QUESTIONS[0].question}\nA:")


@pytest.mark.parametrize(
    ("text", "thought", "rest"),
    [
        ("plain", None, "plain"),
        ("<think>\nHm.\n</think>\n\nIt is 4.", "Hm.", "It is 4."),
        ("Hm.</think>It is 4.", "Hm.", "It is 4."),
        ("<think>Hm, and", "Hm, and", ""),
        ("a </thinking> b", None, "a </thinking> b"),
    ],
)
def test_thinking_in_the_text(text: str, thought: str | None, rest: str) -> None:
    assert split_thinking(Sample(text, "stop")) == (thought, rest)


def test_reasoning_apart_wins_over_the_text() -> None:
    assert split_thinking(Sample("It is 4.", "stop", " Hm. ")) == ("Hm.", "It is 4.")
