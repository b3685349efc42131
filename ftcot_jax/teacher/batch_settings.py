"""Settings of batch sampling: what a user writes under ``teacher.batch:``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ftcot_jax.teacher.patience import Patience


class BatchFileSettings(Patience):
    """Section ``batch:`` of a recipe's ``teacher:``; with it, completions are bought by the file."""

    runner: Literal["api", "local"] = Field(
        "api", description="Who answers the files: the Batch API of `teacher.endpoint`, or a command on this machine."
    )
    command: list[str] | None = Field(
        None,
        min_length=1,
        description="Local runner: its words, with {input}, {output} and {model} filled in, such as [vllm, run-batch, "
        "-i, '{input}', -o, '{output}', --model, '{model}']; none: files are prepared for you to run.",
    )
    max_requests: int = Field(50_000, gt=0, description="Requests in one file at most; OpenAI takes 50,000.")
    max_bytes: int = Field(200_000_000, gt=0, description="Size of one file at most; OpenAI takes 200 MB.")
    rounds: int = Field(3, gt=0, description="Batches in which one request may fail before the run stops.")

    @model_validator(mode="after")
    def _runner_fits(self) -> BatchFileSettings:
        if self.runner == "api" and self.command is not None:
            raise ValueError("command is for runner local")
        if self.command is not None:
            words = " ".join(self.command)
            if "{input}" not in words or "{output}" not in words:
                raise ValueError("command must name {input} and {output}")
        return self
