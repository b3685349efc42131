"""Asking a student that lives at an API: each answer is bought once and kept."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftcot_jax.errors import FtcotError
from ftcot_jax.teacher.api_state import ApiState
from ftcot_jax.teacher.batch_lines import read_body
from ftcot_jax.teacher.identity import IdentityMaker
from ftcot_jax.teacher.ledger import Sample
from ftcot_jax.teacher.openai_account import Again, OpenAIAccount, RefusedRequest, pause
from ftcot_jax.teacher.wire import Wire

_KIND = "answer"


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a student wrote.

    Attributes:
      samples: one a prompt, in order; None where the server refused the prompt.
      refused: number of the prompt to the server's reason.
      perhaps_paid: requests whose answer never came, over the folder's whole life.
    """

    samples: list[Sample | None]
    refused: dict[int, str]
    perhaps_paid: int


def ask_student(
    account: OpenAIAccount,
    state: ApiState,
    model: str,
    sampling: Mapping[str, Any],
    chat: bool,
    prompts: Sequence[str],
    concurrency: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Answers:
    """Brings one answer to each prompt, asking only for those that are not there.

    Args:
      account: where the student is served.
      state: where answers are kept.
      model: the student's name there.
      sampling: temperature, limit of tokens and stop texts.
      chat: prompts are user messages.
      prompts: what to ask; equal prompts share an answer.
      concurrency: requests in flight at most.
      on_progress: called with (answers there, prompts).

    Raises:
      FtcotError: the API keeps failing, or refuses the key or every prompt.
    """
    identity = IdentityMaker({"endpoint": account.endpoint, "model": model, "chat": chat}, sampling)
    wire = Wire(chat, model, sampling)
    requests = [identity(prompt) for prompt in prompts]
    texts = dict(zip(requests, prompts, strict=True))
    refused: dict[str, str] = {}
    waiting = collections.deque((request, 0, 0.0) for request in texts if 0 not in state.samples(request))
    done = len(texts) - len(waiting)
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        under_way: dict[concurrent.futures.Future[Sample], tuple[str, int]] = {}
        try:
            while waiting or under_way:
                while waiting and len(under_way) < concurrency:
                    request, tries, wait = waiting.popleft()
                    state.sending(_KIND, request)
                    under_way[pool.submit(_post, account, wire, texts[request], wait)] = (request, tries)
                ended, _ = concurrent.futures.wait(under_way, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in ended:
                    request, tries = under_way.pop(future)
                    try:
                        state.store(request, {0: future.result()}, answers=(_KIND, request))
                        done += 1
                    except Again as problem:
                        if problem.effect_known:
                            state.not_created(_KIND, request)
                        if tries + 1 >= account.attempts:
                            raise FtcotError(
                                f"{account.endpoint} failed {tries + 1} times in a row ({problem.reason}); answers so "
                                "far are kept, run the same command to go on"
                            ) from None
                        waiting.append((request, tries + 1, pause(tries + 1, problem.wait)))
                    except RefusedRequest as reason:
                        state.not_created(_KIND, request)
                        refused[request] = str(reason)
                    except FtcotError:
                        state.not_created(_KIND, request)
                        raise
                on_progress(done + len(refused), len(texts))
        finally:
            _keep(state, under_way, pool)
    if refused and len(refused) == len(texts):
        raise FtcotError(f"every question was refused: {next(iter(refused.values()))}")
    return Answers(
        [state.samples(request).get(0) for request in requests],
        {number: refused[request] for number, request in enumerate(requests) if request in refused},
        state.perhaps_paid(_KIND),
    )


def _post(account: OpenAIAccount, wire: Wire, prompt: str, wait: float) -> Sample:
    """Asks once, after a wait; runs in a thread of its own."""
    time.sleep(wait)
    client = account.client
    api: Any = client.chat.completions if wire.path.startswith("/chat") else client.completions

    def call() -> Sample:
        answer = api.create(**json.loads(wire.request([prompt], 1, None)))
        read = read_body(answer.model_dump() if hasattr(answer, "model_dump") else None, wire, 1)
        if read is None:
            raise Again("an answer without choices", None, effect_known=True)
        return read.samples[0][0]

    try:
        return account.attempt(call)
    except RefusedRequest as problem:
        if problem.status == 404:  # a model that was made a moment ago may take minutes to be served
            raise Again(str(problem), None, effect_known=True) from None
        raise


def _keep(
    state: ApiState,
    under_way: dict[concurrent.futures.Future[Sample], tuple[str, int]],
    pool: concurrent.futures.ThreadPoolExecutor,
) -> None:
    """Waits for what is in flight when the run stops, and keeps its answers: they are paid."""
    pool.shutdown(wait=True, cancel_futures=True)
    for future, (request, _) in under_way.items():
        problem = None if future.cancelled() else future.exception()
        if not future.cancelled() and problem is None:
            state.store(request, {0: future.result()}, answers=(_KIND, request))
        elif not isinstance(problem, Again) or problem.effect_known:
            state.not_created(_KIND, request)
