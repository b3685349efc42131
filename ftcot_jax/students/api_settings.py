"""Settings of students trained and served by an API: what a user writes under ``api_student:``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ftcot_jax.teacher.patience import Patience


class ApiStudentSettings(Patience):
    """Section ``api_student:`` of a recipe. Hyperparameters left out are the server's own, as in the paper."""

    endpoint: str = Field(
        pattern=r"^https?://", description="Base URL of an API with /files, /fine_tuning/jobs and completions."
    )
    model: str = Field(description="Base model to fine-tune, as the server names it; babbage-002, say.")
    key_env: str = Field("OPENAI_API_KEY", description="Environment variable that holds the API key, if one is needed.")
    form: Literal["completions", "chat"] = Field(
        "completions", description="Train on prompt and completion, as the paper's ada to curie, or on chat messages."
    )
    epochs: int | None = Field(None, gt=0, description="Passes over the training file.")
    batch_size: int | None = Field(None, gt=0, description="Examples a step.")
    learning_rate_multiplier: float | None = Field(None, gt=0, description="Scales the server's learning rate.")
    seed: int | None = Field(None, ge=0, description="Of the job, where the server takes one.")
    max_tokens: int = Field(1024, gt=0, description="Longest answer to a test question; 1024 in the paper's tables.")
    concurrency: int = Field(16, gt=0, description="Test questions asked at once.")
    timeout_seconds: float = Field(300.0, gt=0, description="A request is given up after so long a silence.")
    attempts: int = Field(8, gt=0, description="Tries of one request before the run stops.")

    def hyperparameters(self) -> dict[str, float]:
        """Those that were given, as the API names them."""
        given = {
            "n_epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }
        return {name: value for name, value in given.items() if value is not None}
