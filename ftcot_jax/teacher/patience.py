"""Settings of everything at an API that may take a day: what a user writes about waiting."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Patience(BaseModel):
    """How long to wait, and how often to look."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    poll_seconds: float = Field(60.0, gt=0, description="Time between two looks at what is under way.")
    wait_seconds: float | None = Field(
        None, ge=0, description="Leave after waiting so long; the same command goes on later. Default: wait to the end."
    )
    settle_seconds: float = Field(
        30.0,
        ge=0,
        description="How long after an unanswered request the server's lists are trusted to show its effect.",
    )
