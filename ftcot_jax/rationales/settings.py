"""Settings of selection: what a user writes under ``select:``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SelectSettings(BaseModel):
    """Section ``select:`` of a recipe: which of the teacher's completions train the student."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    diversity: int | None = Field(
        None,
        gt=0,
        description="D: a question's first D completions, before any filter; default: all there are.",
    )
    only_correct: bool = Field(True, description="Keep only completions whose answer is right.")
    per_question: int | None = Field(
        None, gt=0, description="After the filter, at most so many a question, in the teacher's order."
    )
    max_questions: int | None = Field(
        None,
        gt=0,
        description="Train on so many questions: the paper's few-shot subset of the training split.",
    )
