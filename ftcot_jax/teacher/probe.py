"""What an endpoint really does with n, lists of prompts, stop and usage; asked once and kept in the ledger.

Servers that call themselves compatible ignore what they do not know: one returns a single sample for n=64, another
counts one sample's tokens, a third leaves the stop string in the text. Four short requests find out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from typing import Any

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.teacher.endpoint import Abilities, Endpoint
from ftcot_jax.teacher.ledger import Intent, Ledger, Outcome
from ftcot_jax.teacher.money import Purse, prompt_tokens
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.teacher.wire import Answer, Lost, Passing, Refused, Throttled, Wire

_TOKENS = 16
_TRIES = 3


async def probe(
    endpoint: Endpoint, settings: TeacherSettings, prompt: str, ledger: Ledger, purse: Purse, job: int
) -> Abilities:
    """Checks the endpoint and returns its abilities, from the ledger if it was probed before.

    Args:
      endpoint: whose.
      settings: the teacher.
      prompt: a real first prompt of the run.
      ledger: keeps the result, and the attempts.
      purse: pays.
      job: of the attempts.

    Raises:
      FtcotError, UsageError: it cannot be used at all.
    """
    row = await endpoint.check()
    name = fact_name(settings, endpoint.url)
    if (known := ledger.fact(name)) is not None:
        return Abilities(**known)
    context = _context_length(row)
    if context is not None and settings.max_tokens >= context:
        raise UsageError(
            f"teacher.max_tokens: {settings.max_tokens}, but the context of {endpoint.url} is {context} tokens"
        )
    asker = _Asker(endpoint, settings, prompt, ledger, purse, job)
    hot = settings.temperature or 0.7
    pair, usage_summed, distinct, largest_n = None, True, None, 1
    if settings.diversity > 1:
        pair = await asker.ask({"temperature": hot, "max_tokens": _TOKENS}, 1, 2)
        if pair is not None and len(pair.samples[0]) == 2:
            first, second = pair.samples[0]
            distinct = (first.text, first.reasoning) != (second.text, second.reasoning)
            largest_n = 1024
            both_full = first.finish_reason == second.finish_reason == "length"
            usage_summed = not (both_full and 0 < pair.usage[1] <= _TOKENS)
    cold = await asker.ask({"temperature": 0.0, "max_tokens": _TOKENS}, 1, 1)
    stop_excluded = None
    words = cold.samples[0][0].text.split() if cold is not None else []
    if words:
        stop = words[min(2, len(words) - 1)]
        cut = await asker.ask({"temperature": 0.0, "max_tokens": _TOKENS, "stop": [stop]}, 1, 1)
        stop_excluded = None if cut is None else stop not in cut.samples[0][0].text
    lists = None
    if settings.api == "completions":
        lists = await asker.ask({"temperature": 0.0, "max_tokens": 4}, 2, 1)
    abilities = Abilities(
        largest_n=largest_n,
        distinct=distinct,
        usage_summed=usage_summed,
        stop_excluded=stop_excluded,
        prompt_lists=lists is not None and all(len(samples) == 1 for samples in lists.samples),
        context_length=context,
        renamed_limit=endpoint.abilities.renamed_limit,
    )
    ledger.remember(name, dataclasses.asdict(abilities))
    return abilities


def fact_name(settings: TeacherSettings, url: str) -> str:
    """Under which the ledger keeps an endpoint's abilities."""
    return f"abilities of {settings.model_name} at {url} {settings.api}"


def describe(endpoint: Endpoint) -> str:
    """One line about what had to be worked around; empty where nothing was."""
    found = endpoint.abilities
    missing = []
    if found.largest_n == 1:
        missing.append("n is not supported: one request a sample")
    if not found.usage_summed:
        missing.append("usage counts one sample of n: multiplied")
    if found.stop_excluded is False:
        missing.append("stop strings stay in the text: cut off here")
    return f"{endpoint.url}: {'; '.join(missing)}" if missing else ""


class _Asker:
    """Sends probes; what the server will not answer is None."""

    def __init__(
        self, endpoint: Endpoint, settings: TeacherSettings, prompt: str, ledger: Ledger, purse: Purse, job: int
    ) -> None:
        self._endpoint, self._settings, self._prompt = endpoint, settings, prompt
        self._ledger, self._purse, self._job = ledger, purse, job

    async def ask(self, sampling: dict[str, Any], prompts: int, count: int) -> Answer | None:
        wire = _UncutWire(self._settings.api == "chat", self._settings.model_name, sampling)
        seed = self._settings.seed if self._settings.send_seed else None
        body = wire.request([self._prompt] * prompts, count, seed)
        tokens = prompts * (prompt_tokens(self._prompt) + count * sampling["max_tokens"])
        most = self._purse.cost(tokens, tokens)
        for tries in range(1, _TRIES + 1):
            wait = self._endpoint.wait(tokens)
            if wait > 0:
                await asyncio.sleep(wait)
            (attempt,) = self._ledger.commit([Intent("probe", [], self._job, most)], [])
            assert attempt is not None  # it claims no samples
            self._endpoint.reserve(tokens)
            try:
                answer = await self._endpoint.post(wire, body, prompts, count, tokens)
            except Lost as problem:
                self._ledger.commit([], [Outcome(attempt, f"unknown: {problem.args[0]}")])
                self._purse.settle(None, most)
            except (Throttled, Passing) as problem:
                self._ledger.commit([], [Outcome(attempt, f"failed: {problem.args[0]}")])
                if prompts > 1 or (tries == _TRIES and count > 1):
                    return None  # llama-cpp-python answers what it does not know with 500
            except (Refused, FtcotError) as problem:
                self._ledger.commit([], [Outcome(attempt, f"failed: {problem}")])
                if isinstance(problem, FtcotError):
                    raise
                if "max_completion_tokens" not in str(problem) or self._endpoint.abilities.renamed_limit:
                    return None
                self._endpoint.abilities = Abilities(renamed_limit=True)
            else:
                cost = self._purse.cost(*answer.usage)
                self._ledger.commit([], [Outcome(attempt, "answered", usage=answer.usage, cost=cost)])
                self._purse.settle(None, cost)
                return answer
            finally:
                self._endpoint.release()
        return None


class _UncutWire(Wire):
    """Leaves a text as the server sent it, to see whether it cut the stop string off."""

    def __init__(self, chat: bool, model: str, sampling: dict[str, Any]) -> None:
        super().__init__(chat, model, sampling)
        self._stops = ()


def _context_length(row: Any) -> int | None:
    """As vLLM, OpenRouter and llama.cpp tell it."""
    meta = row.get("meta") or {}
    for value in (row.get("max_model_len"), row.get("context_length"), meta.get("n_ctx_train")):
        if isinstance(value, int | float) and math.isfinite(value) and value > 0:
            return int(value)
    return None
