"""Two-step Zero-shot-CoT by batch files: slower than the live sampler and, where APIs sell it so, half the price."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import answer_prompt, zero_shot_cot_prompt
from ftcot_jax.teacher.api_state import ApiState, LineResult
from ftcot_jax.teacher.batch_lines import Sampling, count_rows, read_results, split_thinking
from ftcot_jax.teacher.batch_local import LocalBatches
from ftcot_jax.teacher.batch_plan import Part, Want, plan_parts
from ftcot_jax.teacher.batch_remote import Finished, RemoteBatches, Runner, input_file
from ftcot_jax.teacher.batch_settings import BatchSettings
from ftcot_jax.teacher.completion import Completion
from ftcot_jax.teacher.ledger import Sample, request_identity
from ftcot_jax.teacher.openai_account import OpenAIAccount
from ftcot_jax.teacher.settings import TeacherSettings

_IDENTICAL_QUESTIONS = 5

Progress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True)
class BatchAccount:
    """What a folder's batches came to, over its whole life.

    Attributes:
      batches: created or adopted.
      adopted: of them, those that a run found at the server instead of creating them again.
      answered, refused, failed: requests; failed ones were asked again or will be.
      perhaps_paid: requests the server counts as answered but whose text never came.
      prompt_tokens, completion_tokens: as the server counted them.
    """

    batches: int
    adopted: int
    answered: int
    refused: int
    failed: int
    perhaps_paid: int
    prompt_tokens: int
    completion_tokens: int


@dataclasses.dataclass(frozen=True)
class BatchSampled:
    """What a teacher wrote.

    Attributes:
      completions: ordered by question and completion index.
      refused: sample index to the server's reason, for questions of which a rationale or an answer was refused.
      account: counts afterwards.
    """

    completions: list[Completion]
    refused: dict[int, str]
    account: BatchAccount


def sample_by_batch(
    teacher: TeacherSettings,
    batch: BatchSettings,
    questions: Sequence[Question],
    folder: Path,
    *,
    on_progress: Progress = lambda there, wanted, state: None,
    say: Callable[[str], None] = lambda line: None,
) -> BatchSampled:
    """Brings `teacher.diversity` completions of every question by batch files, buying only what the folder lacks.

    Args:
      teacher: model, sampling settings and, for the API runner, the endpoint and the key's variable.
      batch: how files are made and who answers them.
      questions: what to ask.
      folder: state of this teacher's batches, made if missing; the same folder goes on where the last run ended.
      on_progress: called with (samples there, samples wanted in this step, what is under way).
      say: receives a line for every batch started or ended.

    Raises:
      Preempted: `batch.wait_seconds` are over, or files wait for the user to answer them.
      FtcotError: the API or the command fails; everything finished is kept.
    """
    with ApiState(folder) as state:
        return _BatchSampler(teacher, batch, state, on_progress, say).sample(questions)


class _BatchSampler:
    def __init__(
        self,
        teacher: TeacherSettings,
        batch: BatchSettings,
        state: ApiState,
        on_progress: Progress,
        say: Callable[[str], None],
    ) -> None:
        self._teacher, self._batch, self._state = teacher, batch, state
        self._on_progress, self._say = on_progress, say
        self._choices = batch.choices
        self._there = self._wanted = 0
        self._source: dict[str, Any] = {"runner": batch.runner, "seed": teacher.seed}
        if batch.runner == "api":
            if not isinstance(teacher.endpoint, str):
                raise UsageError("teacher.batch: runner api needs one teacher.endpoint")
            self._source["endpoint"] = teacher.endpoint.rstrip("/")
            account = OpenAIAccount(
                teacher.endpoint,
                teacher.key_env,
                timeout_seconds=batch.timeout_seconds,
                attempts=batch.attempts,
                settle_seconds=batch.settle_seconds,
            )
            self._runner: Runner = RemoteBatches(account, state, batch, say, self._report)
        else:
            self._runner = LocalBatches(state, batch, teacher.model_name, say, self._report)

    def sample(self, questions: Sequence[Question]) -> BatchSampled:
        for part in self._state.open_parts():
            if not self._runner.begun(part):
                self._state.drop_part(part)  # nothing of it exists: its lines are planned afresh, as now wanted
        teacher, form = self._teacher, self._batch.form
        rationale = Sampling(teacher.model_name, form, teacher.temperature, teacher.max_tokens)
        answer = Sampling(teacher.model_name, form, 0.0, teacher.answer_max_tokens)

        of_rationale, of_answer = rationale.identity(), answer.identity()

        first: dict[int, Want] = {}
        for question in questions:
            prompt, index = zero_shot_cot_prompt(question.question), question.sample_index
            first[index] = Want(self._request(prompt, of_rationale), prompt, teacher.diversity, index, 0, 1)
        self._bring(list(first.values()), rationale)
        self._check_repeats(list(first.values()))

        second: dict[tuple[int, int], Want] = {}
        for index, asked in first.items():
            for number, sample in self._bought(asked):
                thought, text = split_thinking(sample.text)
                if thought is None or not text.strip():  # else a reasoning model has given its answer already
                    prompt = answer_prompt(asked.prompt, text if thought is None else thought)
                    second[index, number] = Want(self._request(prompt, of_answer), prompt, 1, index, number, 2)
        self._bring(list(second.values()), answer)

        completions = [
            row
            for question in sorted(questions, key=lambda question: question.sample_index)
            for number, sample in self._bought(first[question.sample_index])
            if (row := self._row(question, number, sample, first, second)) is not None
        ]
        refused = {
            want.sample_index: reason
            for want in [*second.values(), *first.values()]
            if (reason := self._state.refusal(want.request)) is not None
        }
        return BatchSampled(completions, refused, self._account())

    def _row(
        self,
        question: Question,
        number: int,
        sample: Sample,
        first: Mapping[int, Want],
        second: Mapping[tuple[int, int], Want],
    ) -> Completion | None:
        """A rationale with its answer; None if the answer was refused."""
        asked, follow = first[question.sample_index], second.get((question.sample_index, number))
        thought, text = split_thinking(sample.text)
        if follow is None:
            prompt, last = asked.prompt, Sample(text, sample.finish_reason)
        else:
            prompt, replies = follow.prompt, self._bought(follow)
            if not replies:
                return None
            last = replies[0][1]
        return Completion(
            sample_index=question.sample_index,
            completion_index=number,
            question=question.question,
            answer=question.answer,
            reasoning_prompt=asked.prompt,
            reasoning_completion=text if thought is None else thought,
            reasoning_finish_reason=sample.finish_reason,
            prompt=prompt,
            completion=split_thinking(last.text)[1],
            finish_reason=last.finish_reason,
        )

    def _request(self, prompt: str, sampling: dict[str, Any]) -> str:
        return request_identity(self._source, prompt, sampling)

    def _bought(self, want: Want) -> list[tuple[int, Sample]]:
        samples = self._state.samples(want.request)
        return [(number, samples[number]) for number in range(want.count) if number in samples]

    def _bring(self, wants: Sequence[Want], sampling: Sampling) -> None:
        """Has batches run until every want has its samples or a refusal."""
        distinct: dict[str, Want] = {}
        for want in wants:
            distinct.setdefault(want.request, want)  # equal prompts share their samples
        self._wanted = sum(want.count for want in distinct.values())
        failures: collections.Counter[str] = collections.Counter()
        while missing := self._missing(distinct.values()):
            self._there = self._wanted - sum(len(numbers) for numbers in missing.values())
            running = self._running(missing)
            lacking = [
                (distinct[request], rest)
                for request, numbers in missing.items()
                if (rest := [number for number in numbers if (request, number) not in running])
            ]
            settings = self._batch
            parts = plan_parts(
                lacking,
                sampling,
                self._teacher.seed,
                choices=self._choices,
                max_requests=settings.max_requests,
                max_bytes=settings.max_bytes,
            )
            planned = [self._write(part) for part in parts]
            ended = self._runner.finished([*dict.fromkeys(running.values()), *planned])
            if not sum(self._collect(batch, failures) for batch in ended):
                time.sleep(settings.poll_seconds)  # nothing came: a full queue, or a server in trouble
        self._on_progress(self._wanted, self._wanted, "")

    def _missing(self, wants: Iterable[Want]) -> dict[str, list[int]]:
        """Numbers of the samples that are neither bought nor refused, by request."""
        missing = {}
        for want in wants:
            have = self._state.samples(want.request)
            numbers = [number for number in range(want.count) if number not in have]
            if numbers and self._state.refusal(want.request) is None:
                missing[want.request] = numbers
        return missing

    def _running(self, missing: dict[str, list[int]]) -> dict[tuple[str, int], str]:
        """(request, number) to the open batch file that already asks for it."""
        return {
            (line.request, number): part
            for part in self._state.open_parts()
            for line in self._state.lines(part)
            if line.request in missing
            for number in line.numbers
        }

    def _write(self, part: Part) -> str:
        """Writes a batch file and its row down; returns its key."""
        # The same lines may be sent again after an expired batch: that is another file, with another key.
        key = hashlib.sha256(f"{part.content} {self._state.times_made(part.content)}".encode()).hexdigest()[:24]
        input_file(self._state.folder, key).write_bytes(part.text)
        self._state.add_part(key, part.content, part.lines)
        return key

    def _collect(self, batch: Finished, failures: collections.Counter[str]) -> int:
        """Writes down what an ended batch brought; returns how many of its requests were answered.

        Raises:
          FtcotError: what is missing would fail again, or has failed `rounds` times.
        """
        lines = self._state.lines(batch.part)
        reading = read_results(batch.files, lines, self._batch.form)
        there = {result.custom_id for result in reading.results}
        short = batch.status == "completed" or (batch.written or 0) > count_rows(batch.files[0])
        lost = "unread" if short else f"failed: {batch.reason}" if batch.status == "failed" else batch.status
        results = [
            *reading.results,
            *(LineResult(line.custom_id, lost) for line in lines if line.custom_id not in there),
        ]
        self._state.collect(batch.part, batch.status, results)

        counts = collections.Counter(result.outcome.split(":")[0] for result in results)
        strange = reading.broken + reading.foreign
        self._say(
            f"batch file {batch.part} {batch.status}: "
            + ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
            + (f"; {strange} rows could not be read or are not ours" if strange else "")
        )
        asked = {line.custom_id: line for line in lines}
        if self._choices > 1 and any(
            result.outcome == "answered" and len(result.samples) < len(asked[result.custom_id].numbers)
            for result in results
        ):
            self._choices = 1
            self._say("the teacher wrote fewer samples than asked for; what is missing is asked for one by one")
        for result in results:
            own_fault = result.outcome.startswith("failed") or result.outcome == "unread"
            if own_fault or (result.outcome != "answered" and not counts["answered"]):
                failures[asked[result.custom_id].request] += 1
        self._stop_if_hopeless(batch, results, failures)
        return counts["answered"]

    def _stop_if_hopeless(
        self, batch: Finished, results: Sequence[LineResult], failures: collections.Counter[str]
    ) -> None:
        again = "what was answered is kept, the same command asks for the rest"
        fatal = next((result for result in results if result.outcome.startswith("fatal")), None)
        if fatal is not None:
            raise FtcotError(f"batch, request {fatal.custom_id}: {fatal.outcome.removeprefix('fatal: ')}; {again}")
        if batch.status == "failed" and not batch.retry:
            raise FtcotError(f"the API failed the batch: {batch.reason or 'it gave no reason'}; {again}")
        if batch.status == "cancelled":
            raise FtcotError(f"the batch was cancelled at the API; {again}")
        if batch.status == "stopped" and not any(result.outcome == "answered" for result in results):
            raise FtcotError(f"teacher.batch.command answered nothing: {batch.reason}")
        times = max(failures.values(), default=0)
        if times >= self._batch.rounds:
            number = sum(count >= self._batch.rounds for count in failures.values())
            reason = next((result.outcome for result in results if result.outcome != "answered"), "")
            raise FtcotError(f"{number} requests failed in {times} batches in a row ({reason}); {again}")

    def _check_repeats(self, wants: Sequence[Want]) -> None:
        """Stops before step 2 is bought if the teacher wrote one text again and again."""
        several = [samples for want in wants if len(samples := self._bought(want)) > 1]
        if len(several) >= _IDENTICAL_QUESTIONS and all(
            len({sample.text for _, sample in samples}) == 1 for samples in several
        ):
            raise FtcotError(
                f"all rationales of each of {len(several)} questions are identical: the teacher ignores temperature or "
                "seed; check its sampling settings, or set teacher.diversity=1"
            )

    def _account(self) -> BatchAccount:
        outcomes = self._state.line_outcomes()
        known = ("answered", "refused", "unread", "open")
        return BatchAccount(
            batches=self._state.parts_made(),
            adopted=self._state.adoptions("batch"),
            answered=outcomes.get("answered", 0),
            refused=outcomes.get("refused", 0),
            failed=sum(number for word, number in outcomes.items() if word not in known),
            perhaps_paid=outcomes.get("unread", 0),
            prompt_tokens=self._state.tokens()[0],
            completion_tokens=self._state.tokens()[1],
        )

    def _report(self, answered: int, under_way: str) -> None:
        self._on_progress(min(self._wanted, self._there + answered), self._wanted, under_way)
