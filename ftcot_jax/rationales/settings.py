"""Settings of selection: what a user writes under ``select:``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SelectSettings(BaseModel):
    """Section ``select:`` of a recipe: which of the teacher's completions train the student."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_questions: int | None = Field(
        None,
        gt=0,
        description="Train on so many questions: the paper's few-shot subset of the training split.",
    )
    question_share: float | None = Field(
        None, gt=0, le=1, description="In place of max_questions: such a share of the training questions, at least one."
    )
    subset_seed: int = Field(0, ge=0, description="Which questions those are; 0 in the paper.")
    decontaminate: Literal["no", "text", "template"] = Field(
        "no", description="Leave out training questions whose text, or whose template, a test question has too."
    )
    diversity: int | None = Field(
        None,
        gt=0,
        description="D: a question's first D completions, before any filter; default: all there are.",
    )
    filter: Literal["answer", "none", "majority"] = Field(
        "answer",
        description="Keep completions whose answer is right; all; or those that agree with their question's majority "
        "(needs no gold answers, and uses none).",
    )
    majority_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="The least share of a question's first D that must agree. An answer that is not "
        "the only most frequent one is no majority; a completion without an answer is a vote against all.",
    )
    min_words: int | None = Field(None, gt=0, description="Shortest rationale, in words.")
    max_words: int | None = Field(None, gt=0, description="Longest rationale, in words.")
    duplicates: Literal["keep", "exact", "near"] = Field(
        "keep",
        description="Rationales of one question that repeat an earlier one: kept (as in the paper); dropped if equal; "
        "or also if equal but for case, spaces and punctuation, or in their equations.",
    )
    per_question: int | None = Field(
        None,
        gt=0,
        description="After all that, at most so many a question, in the teacher's order: up to N right ones.",
    )
    balance: bool = Field(
        False, description="Repeat rationales of questions that kept few, so that every question has as many."
    )

    @model_validator(mode="after")
    def _lengths_fit(self) -> SelectSettings:
        if self.min_words is not None and self.max_words is not None and self.min_words > self.max_words:
            raise ValueError("min_words is more than max_words")
        if self.max_questions is not None and self.question_share is not None:
            raise ValueError("give max_questions or question_share, not both")
        return self
