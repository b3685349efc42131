"""Settings of the teacher: what a user writes under ``teacher:``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ftcot_jax.teacher.batch_settings import BatchFileSettings

_LOOPBACK_CONTENT = ("slip_rate", "wordings", "orders")


class Price(BaseModel):
    """What a model costs, in US dollars for a million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: float = Field(ge=0, description="US dollars for a million prompt tokens.")
    completion: float = Field(ge=0, description="US dollars for a million completion tokens, reasoning included.")


class TeacherSettings(BaseModel):
    """Section ``teacher:`` of a recipe. Exactly one of `import`, `endpoint` and `loopback` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    import_path: str | None = Field(
        None,
        alias="import",
        description="Published completions (CompletionDataset JSON) in place of sampling; {task} in the file's name "
        "stands for task.key.",
    )
    endpoint: str | tuple[str, ...] | None = Field(
        None,
        description="Base URL of an OpenAI-compatible server, such as http://host:8000/v1; several share the load.",
    )
    source: str | None = Field(
        None,
        description="Names in the ledger who serves the model; default: the first endpoint. Keep it when an address "
        "changes, and nothing is bought again.",
    )
    api: Literal["completions", "chat"] = Field(
        "completions", description="/completions takes the prompt as it is; /chat/completions as a user's message."
    )
    loopback: Literal["weekday_tracking"] | None = Field(
        None, description="Serve the task's own programmatic teacher on this machine and sample that."
    )
    model: str | None = Field(None, description="Model name the endpoint knows; needed with `endpoint`.")
    key_env: str = Field("OPENAI_API_KEY", description="Environment variable that holds the API key, if one is needed.")
    template: Literal["zs_cot", "zs", "fs_cot"] = Field(
        "zs_cot", description="How it is asked: Zero-shot-CoT in two steps, for the answer alone, or with exemplars."
    )
    diversity: int = Field(1, gt=0, le=1024, description="Rationales sampled a question: the largest D to come.")
    temperature: float = Field(0.7, ge=0, description="Of the rationale; 0.7 in the paper for D > 1, 0 for its D = 1.")
    max_tokens: int = Field(128, gt=0, description="Longest rationale in the teacher's tokens; 128 in the paper.")
    answer_max_tokens: int = Field(128, gt=0, description="Longest answer text of the second step.")
    seed: int | None = Field(
        None, ge=0, description="Sent with each request; default: the recipe's seed, the same for all trials of a grid."
    )
    send_seed: bool = Field(True, description="False leaves seeds out of requests, for servers that fail on them.")
    samples_per_request: int = Field(64, gt=0, description="Largest n of a request; the prompt is paid once for all n.")
    concurrency: int = Field(64, gt=0, description="Requests in flight at most, for each endpoint; found by trying.")
    requests_per_minute: float | None = Field(None, gt=0, description="Limit of each endpoint; default: none.")
    tokens_per_minute: float | None = Field(None, gt=0, description="Limit of each endpoint; default: none.")
    timeout_seconds: float = Field(300.0, gt=0, description="A request without an answer for so long is sent again.")
    attempts: int = Field(7, gt=0, description="Tries of one request before the run stops; throttling is not counted.")
    batch: BatchFileSettings | None = Field(None, description="Buy by batch files, which may take a day.")
    price: Price | None = Field(None, description="Of this model; default: the package's table, if the model is in it.")
    budget: float | None = Field(None, gt=0, description="US dollars this ledger may cost in all; then sampling stops.")
    slip_rate: float = Field(0.08, ge=0, le=1, description="Loopback teacher: chance of a slip at each step.")
    wordings: int = Field(2, ge=1, le=2, description="Loopback teacher: ways it words a step.")
    orders: int = Field(2, ge=1, le=2, description="Loopback teacher: orders in which it takes the moves.")

    @model_validator(mode="after")
    def _one_source(self) -> TeacherSettings:
        local = self.batch is not None and self.batch.runner == "local"
        given = sum(source is not None for source in (self.import_path, self.endpoint, self.loopback))
        if given + local != 1:
            raise ValueError("give exactly one of import, endpoint and loopback (or a local batch runner)")
        if self.batch is not None and (self.import_path or self.loopback):
            raise ValueError("batch is for endpoints, or for a local runner")
        wrong = next((url for url in self.endpoints if not url.startswith(("http://", "https://"))), None)
        if wrong is not None or self.endpoint == ():
            raise ValueError(f"endpoint: {wrong or 'an empty list'} is no http:// or https:// address")
        if (self.endpoint is not None or local) and self.model is None:
            raise ValueError("model is needed with endpoint, and with a local batch runner")
        if self.temperature == 0 and self.diversity > 1:
            raise ValueError(
                "at temperature 0 all rationales of a question are the same; raise it or set diversity to 1"
            )
        return self

    def for_task(self, key: str) -> TeacherSettings:
        """These settings with a task's key in the name of the file of completions."""
        if self.import_path is None:
            return self
        return self.model_copy(update={"import_path": self.import_path.replace("{task}", key)})

    @property
    def model_name(self) -> str:
        """Who wrote the completions, for their metadata."""
        return self.model or ("imported" if self.import_path else f"loopback-{self.loopback}")

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Base URLs, without a slash at the end."""
        given = (self.endpoint,) if isinstance(self.endpoint, str) else self.endpoint or ()
        return tuple(url.rstrip("/") for url in given)

    def writer(self) -> dict[str, Any]:
        """Who writes the completions, as JSON values: the part of a request's identity that is not the prompt."""
        values = self.model_dump(include={"loopback", "model", "seed"})
        values["endpoint"] = self.source or next(iter(self.endpoints), None)
        if self.api == "chat":
            values["api"] = "chat"
        return values | (self.model_dump(include=set(_LOOPBACK_CONTENT)) if self.loopback else {})

    def identity(self) -> dict[str, Any]:
        """What decides the content of sampled completions, apart from how many there are, as JSON values."""
        if self.import_path:
            return {}
        return self.writer() | self.model_dump(include={"template", "temperature", "max_tokens", "answer_max_tokens"})
