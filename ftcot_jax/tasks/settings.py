"""Settings of a task: what a user writes under ``task:``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TaskSettings(BaseModel):
    """Section ``task:`` of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(description="Which task: `ftcot data list` shows them; or a YAML file that defines one.")
    split: str = Field(
        "default", description="The paper's split; 'template', where the authors have one; or a split's JSON file."
    )
    validation: int | None = Field(
        None, gt=0, description="So many training questions are held out, to choose a student without the test set."
    )
    validation_seed: int = Field(0, ge=0, description="Which ones.")
    mirror: str | None = Field(
        None,
        description="Folder with upstream files as OWNER/REPO/COMMIT/PATH; default: FTCOT_MIRROR, or download.",
    )
    seed: int | None = Field(None, ge=0, description="Of a generated task's questions; default: the recipe's seed.")
    train_questions: int = Field(300, gt=0, description="Training questions of a generated task.")
    test_questions: int = Field(200, gt=0, description="Held-out questions of a generated task.")
