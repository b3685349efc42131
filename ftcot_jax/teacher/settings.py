"""Settings of the teacher: what a user writes under ``teacher:``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# How fast and by which key completions are bought; everything else decides what they are.
_NOT_CONTENT = {"key_env", "concurrency", "timeout_seconds", "attempts", "import_path", "diversity"}


class TeacherSettings(BaseModel):
    """Section ``teacher:`` of a recipe. Exactly one of `import`, `endpoint` and `loopback` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    import_path: str | None = Field(
        None, alias="import", description="Published completions (CompletionDataset JSON) in place of sampling."
    )
    endpoint: str | None = Field(
        None, pattern=r"^https?://", description="Base URL of an OpenAI-compatible server, such as http://host:8000/v1."
    )
    loopback: Literal["weekday_tracking"] | None = Field(
        None, description="Serve the task's own programmatic teacher on this machine and sample that."
    )
    model: str | None = Field(None, description="Model name the endpoint knows; needed with `endpoint`.")
    key_env: str = Field("OPENAI_API_KEY", description="Environment variable that holds the API key, if one is needed.")
    diversity: int = Field(1, gt=0, le=1024, description="Rationales sampled a question: the largest D to come.")
    temperature: float = Field(0.7, ge=0, description="Of the rationale; 0.7 in the paper for D > 1, 0 for its D = 1.")
    max_tokens: int = Field(128, gt=0, description="Longest rationale in the teacher's tokens; 128 in the paper.")
    answer_max_tokens: int = Field(128, gt=0, description="Longest answer text of the second step.")
    seed: int | None = Field(None, ge=0, description="Sent with each request; default: the recipe's seed.")
    concurrency: int = Field(32, gt=0, description="Requests in flight at most.")
    timeout_seconds: float = Field(120.0, gt=0, description="A request without an answer for so long is sent again.")
    attempts: int = Field(7, gt=0, description="Tries of one request before the run stops.")
    slip_rate: float = Field(0.08, ge=0, le=1, description="Loopback teacher: chance of a slip at each step.")
    wordings: int = Field(2, ge=1, le=2, description="Loopback teacher: ways it words a step.")
    orders: int = Field(2, ge=1, le=2, description="Loopback teacher: orders in which it takes the moves.")

    @model_validator(mode="after")
    def _one_source(self) -> TeacherSettings:
        if sum(source is not None for source in (self.import_path, self.endpoint, self.loopback)) != 1:
            raise ValueError("give exactly one of import, endpoint and loopback")
        if self.endpoint is not None and self.model is None:
            raise ValueError("model is needed with endpoint")
        if self.temperature == 0 and self.diversity > 1:
            raise ValueError(
                "at temperature 0 all rationales of a question are the same; raise it or set diversity to 1"
            )
        return self

    @property
    def model_name(self) -> str:
        """Who wrote the completions, for their metadata."""
        return self.model or ("imported" if self.import_path else f"loopback-{self.loopback}")

    def identity(self) -> dict[str, Any]:
        """What decides the content of sampled completions, apart from how many there are, as JSON values."""
        return {} if self.import_path else self.model_dump(exclude=_NOT_CONTENT)
