"""Settings of evaluation: what a user writes under ``evaluate:``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ftcot_jax.generation.sampling import Sampling
from ftcot_jax.tasks.templates import Template

PAPER_ASKING_TOKENS = 128  # of zs, zs_cot (each step) and fs_cot in the paper's tables


class EvaluateSettings(BaseModel):
    """Section ``evaluate:`` of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: int | None = Field(
        None, gt=0, description="Ask only so many test questions, evenly spaced; default: all of them."
    )
    max_length: int = Field(1024, gt=1, description="Longest prompt and answer together, in tokens; 1024 in the paper.")
    paper_lengths: bool = Field(
        False,
        description="After the first and the second epoch, and before training, stop at 256 tokens, as the paper's "
        "code does; at max_length from the third on.",
    )
    max_new_tokens: int | None = Field(
        None,
        gt=0,
        description="Most tokens of a text; of zs_cot, of each of its two. Default, as in the paper: 128 where the "
        "template only asks (zs, zs_cot, fs_cot); else no limit but max_length, or api_student.max_tokens.",
    )
    sampling: Sampling | None = Field(
        None,
        description="Draw the answers, and how many a question: {temperature: 0.7, samples: 8} adds pass@k and a "
        "majority vote to the scores. Default: one greedy answer.",
    )
    batch_rows: int = Field(32, gt=0, description="Prompts decoded side by side; changes speed only.")
    before: bool = Field(False, description="Also score the student before training.")
    every_epochs: int | None = Field(
        None, gt=0, description="Also score after every so many epochs; default: never, or each where one is selected."
    )
    selection: Literal["last", "best_on_validation", "best_on_test"] = Field(
        "last",
        description="Which epoch's student is reported: the last; the best on task.validation questions; or the best "
        "on the test set, as in the paper, which is optimistic and labelled so.",
    )

    patience: int | None = Field(
        None,
        gt=0,
        description="Stop training after so many scores in a row without a better one on the validation questions; "
        "needs selection: best_on_validation. Default: never.",
    )

    @model_validator(mode="after")
    def _patience_has_a_measure(self) -> EvaluateSettings:
        if self.patience is not None and self.selection != "best_on_validation":
            raise ValueError(
                f"patience={self.patience} needs selection=best_on_validation, got {self.selection}; training is "
                "stopped early by the validation questions alone"
            )
        return self

    @property
    def samples(self) -> int:
        """Texts a question."""
        return 1 if self.sampling is None else self.sampling.samples

    def most_new_tokens(self, template: Template) -> int | None:
        """Most tokens of one text in answer to a template's prompt; None for no limit of its own."""
        return self.max_new_tokens or (None if template.trains else PAPER_ASKING_TOKENS)

    @property
    def look_epochs(self) -> int | None:
        """Score after every so many epochs; None for never."""
        return self.every_epochs or (None if self.selection == "last" else 1)

    def length_after(self, epochs: float) -> int:
        """Longest prompt and answer together, in tokens, of a student that has trained for so many epochs."""
        return (
            min(_FIRST_LENGTH, self.max_length) if self.paper_lengths and epochs <= _FIRST_EPOCHS else self.max_length
        )


_FIRST_EPOCHS, _FIRST_LENGTH = 2, 256  # reasoning-teacher, src/custom/model.py
