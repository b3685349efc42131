"""Settings of training: what a user writes under ``train:`` and ``mesh:``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class BatchSettings(BaseModel):
    """How much a step trains on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    examples: int | None = Field(None, gt=0, description="Records a step; 8, as in the paper, unless tokens is given.")
    tokens: int | None = Field(
        None, gt=0, description="In place of examples: as many records a step as fit so many tokens, packed into rows."
    )
    row_length: int = Field(1024, gt=0, description="Length of those rows, in tokens; no record may be longer.")
    share_questions: bool = Field(
        False,
        description="Compute the tokens of a question once for all of its rationales that are in a batch. Loss and "
        "gradients are equal to rounding without dropout; with it, a shared question draws its noise once.",
    )

    @model_validator(mode="after")
    def _one_size(self) -> BatchSettings:
        if self.examples is not None and self.tokens is not None:
            raise ValueError("give examples or tokens, not both")
        return self


class TrainSettings(BaseModel):
    """Section ``train:`` of a recipe. Defaults are the paper's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimizer: Literal["adamw"] = Field("adamw", description="Optimizer.")
    learning_rate: float = Field(3e-4, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay.")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW first-moment decay.")
    beta2: float = Field(0.999, ge=0, lt=1, description="AdamW second-moment decay.")
    epsilon: float = Field(1e-8, gt=0, description="AdamW epsilon.")
    clip_norm: float | None = Field(None, gt=0, description="Global gradient norm above which gradients are scaled.")
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="Decay after warm-up, to zero.")
    warmup_fraction: float = Field(0.0, ge=0, lt=1, description="Share of the steps with rising learning rate.")
    batch: BatchSettings = BatchSettings()
    microbatches: int = Field(
        1,
        gt=0,
        description="Parts a step's batch is computed in, one after another: less memory, the same result.",
    )
    epochs: int | None = Field(None, gt=0, description="Passes over the records; exclusive with steps.")
    steps: int | None = Field(None, gt=0, description="Optimizer steps; exclusive with epochs.")
    seed: int | None = Field(None, ge=0, description="Batch order and new weights; default: the recipe's seed.")
    slots: int | None = Field(
        None, gt=0, description="Trials trained side by side; default: 1 on a CPU, 8 a device elsewhere."
    )
    slot_executor: Literal["auto", "vmap", "map"] = Field(
        "auto",
        description="Slots as one batched computation or one after another; auto: map on a CPU, else vmap.",
    )
    checkpoint_minutes: float = Field(5.0, gt=0, description="Minutes between checkpoints of a running pool.")
    checkpoint_steps: int | None = Field(None, gt=0, description="Also checkpoint every so many steps.")

    @model_validator(mode="after")
    def _one_length(self) -> TrainSettings:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        return self

    @property
    def total_epochs(self) -> int:
        """Passes over the records where `steps` is not given: 20, as in the paper, unless told."""
        return self.epochs or 20


class MeshSettings(BaseModel):
    """Section ``mesh:``: devices along each axis; at most one -1, which takes the devices left."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trial: int = Field(1, ge=-1, description="Slots spread over devices; no traffic between them.")
    data: int = Field(1, ge=-1, description="A batch's rows spread over devices.")
    fsdp: int = Field(1, ge=-1, description="Rows spread over devices, and each weight too.")
    tensor: int = Field(1, ge=-1, description="Each layer's width spread over devices.")
