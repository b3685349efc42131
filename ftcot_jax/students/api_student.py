"""Students trained by an API, as the paper's ada, babbage and curie: one upload, one job, whatever interrupts us."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftcot_jax.errors import FtcotError, Preempted
from ftcot_jax.rationales.export import Form, export_pairs
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.students.api_settings import ApiStudentSettings
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import OwnTemplate
from ftcot_jax.teacher.api_state import ApiState
from ftcot_jax.teacher.openai_account import OpenAIAccount, server_message, with_id

_FORMS: Mapping[str, Form] = {"completions": "openai-completion", "chat": "openai-chat"}
_FAILED = ("failed", "cancelled")
_METADATA_KEY = "ftcot_key"


@dataclasses.dataclass(frozen=True)
class TunedStudent:
    """A student that lives at an API.

    Attributes:
      model: the name to ask it by.
      base_model: what it was made of.
      job_id, file_id: the server's names of its training job and file.
      examples: training texts in the file.
      trained_tokens: as billed; None if the server does not say.
    """

    model: str
    base_model: str
    job_id: str
    file_id: str
    examples: int
    trained_tokens: int | None


def open_account(settings: ApiStudentSettings) -> OpenAIAccount:
    """The account at the settings' endpoint."""
    return OpenAIAccount(
        settings.endpoint,
        settings.key_env,
        timeout_seconds=settings.timeout_seconds,
        attempts=settings.attempts,
        settle_seconds=settings.settle_seconds,
    )


def fine_tune(
    settings: ApiStudentSettings,
    pairs: Sequence[Pair],
    questions: dict[int, Question],
    template: str | OwnTemplate,
    folder: Path,
    *,
    on_progress: Callable[[str], None] = lambda status: None,
    say: Callable[[str], None] = lambda line: None,
) -> TunedStudent:
    """Fine-tunes a model at an API and waits for it. The same arguments and folder never make a second job.

    A job that failed is told once; the next call makes a new one.

    Args:
      settings: the API and what to train there.
      pairs: the training texts that were selected, in order.
      questions: the task's, by sample index.
      template: the recipe's; its variant for API or chat models forms the texts.
      folder: state of this student, made if missing.
      on_progress: called with the job's state at every look.
      say: receives a line for the job that was made or found.

    Raises:
      Preempted: `settings.wait_seconds` are over; the job goes on at the API.
      FtcotError: the API refuses or fails, or the job failed.
    """
    if not pairs:
        raise FtcotError("api_student: no training pairs were selected; check the completions and select:")
    with open_account(settings) as account, ApiState(folder) as state:
        made = export_pairs(pairs, questions, template, _FORMS[settings.form], folder / "training")
        content = _content(settings, made.read_bytes())
        # A job that failed and was told has its row; the next attempt is another job, with another key.
        key = hashlib.sha256(f"{content} {state.times_made(content)}".encode()).hexdigest()[:24]
        training = made.replace(folder / f"{key}.training.jsonl")
        job_id = _submit(account, state, settings, key, training, say)
        job = _finished(account, settings, job_id, on_progress)
        if job.status in _FAILED:
            reason = account.redact(server_message(job.error.message)) if job.error else "the API gave no reason"
            state.add_part(key, content, [])
            state.collect(key, f"{job.status}: {reason}", [])
            raise FtcotError(f"fine-tuning job {job_id} {job.status}: {reason}; the same command starts another job")
        if not job.fine_tuned_model:
            raise FtcotError(f"fine-tuning job {job_id} succeeded and names no model; ask the API's support")
        return TunedStudent(
            job.fine_tuned_model, settings.model, job_id, job.training_file, len(pairs), job.trained_tokens
        )


def _content(settings: ApiStudentSettings, training: bytes) -> str:
    """Content address of everything that decides the student."""
    source = [settings.endpoint.rstrip("/"), settings.model, settings.form, settings.hyperparameters(), settings.seed]
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode() + b"\n" + training).hexdigest()[:24]


def _submit(
    account: OpenAIAccount,
    state: ApiState,
    settings: ApiStudentSettings,
    key: str,
    training: Path,
    say: Callable[[str], None],
) -> str:
    """Returns the id of the job of this key, uploading and creating what is not there."""
    known = state.intent("job", key).remote_id
    if known is not None:
        return known
    if state.intent("job", key).sent_at is None:
        state.drop_part(key)  # a file from an earlier run may have expired at the API: its list says
    # The file is this job's alone: servers that drop metadata still tell its job by it.
    file_id = account.upload_once(state, key, training, f"ftcot-{key}.jsonl", "fine-tune")

    def find() -> str | None:
        jobs = account.listed(lambda after: account.client.fine_tuning.jobs.list(limit=100, **after))
        return next(
            (
                str(job.id)
                for job in jobs
                if (job.metadata or {}).get(_METADATA_KEY) == key or job.training_file == file_id
            ),
            None,
        )

    def create() -> str:
        options: dict[str, Any] = {}
        if settings.hyperparameters():
            options["hyperparameters"] = settings.hyperparameters()  # OpenAI's older place for them, known everywhere
        if settings.seed is not None:
            options["seed"] = settings.seed
        job = account.client.fine_tuning.jobs.create(
            model=settings.model,
            training_file=file_id,
            suffix=f"ftcot-{key[:12]}",  # 18 characters, the most that some servers take
            metadata={_METADATA_KEY: key},
            **options,
        )
        return with_id(job).id

    job_id = account.create_once(state, "job", key, find=find, create=create)
    say(f"fine-tuning job {job_id} of {settings.model}, file {file_id}")
    return job_id


def _finished(
    account: OpenAIAccount, settings: ApiStudentSettings, job_id: str, on_progress: Callable[[str], None]
) -> Any:
    """The job once it has ended. Servers have many words for a job under way; only its ends are fixed."""
    leave_at = None if settings.wait_seconds is None else time.monotonic() + settings.wait_seconds
    while True:
        job = account.read(lambda: with_id(account.client.fine_tuning.jobs.retrieve(job_id)))
        on_progress(f"{job_id} {job.status}")
        if job.status == "succeeded" or job.status in _FAILED:
            return job
        pause = settings.poll_seconds
        if leave_at is not None:
            pause = min(pause, leave_at - time.monotonic())
            if pause <= 0:
                raise Preempted(
                    f"fine-tuning job {job_id} is {job.status} after api_student.wait_seconds="
                    f"{settings.wait_seconds:g}; run the same command later to go on"
                )
        time.sleep(pause)
