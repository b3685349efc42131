"""Settings of batch sampling: what a user writes under ``teacher.batch:``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class BatchSettings(BaseModel):
    """Section ``batch:`` of a recipe's ``teacher:``; with it, completions are bought by the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runner: Literal["api", "local"] = Field(
        "api", description="Who answers the files: the Batch API of `teacher.endpoint`, or a command on this machine."
    )
    form: Literal["completions", "chat"] = Field(
        "completions", description="Requests to /v1/completions or /v1/chat/completions; vllm run-batch has only chat."
    )
    command: list[str] | None = Field(
        None,
        min_length=1,
        description="Local runner: its words, with {input}, {output} and {model} filled in, such as [vllm, run-batch, "
        "-i, '{input}', -o, '{output}', --model, '{model}']; none: files are prepared for you to run.",
    )
    choices: int = Field(
        64, gt=0, le=128, description="Samples asked for in one request (n); 1 for servers that ignore n."
    )
    max_requests: int = Field(50_000, gt=0, description="Requests in one file at most; OpenAI takes 50,000.")
    max_bytes: int = Field(200_000_000, gt=0, description="Size of one file at most; OpenAI takes 200 MB.")
    poll_seconds: float = Field(60.0, gt=0, description="Time between two looks at the batches under way.")
    wait_seconds: float | None = Field(
        None, ge=0, description="Leave after waiting so long; the same command goes on later. Default: wait to the end."
    )
    settle_seconds: float = Field(
        30.0,
        ge=0,
        description="How long after an unanswered request the server's lists are trusted to show its effect.",
    )
    timeout_seconds: float = Field(300.0, gt=0, description="A request is given up after so long a silence.")
    attempts: int = Field(8, gt=0, description="Tries of one request to the server before the run stops.")
    rounds: int = Field(3, gt=0, description="Batches in which one request may fail before the run stops.")

    @model_validator(mode="after")
    def _runner_fits(self) -> BatchSettings:
        if self.runner == "api" and self.command is not None:
            raise ValueError("command is for runner local")
        if self.command is not None:
            words = " ".join(self.command)
            if "{input}" not in words or "{output}" not in words:
                raise ValueError("command must name {input} and {output}")
        return self
