"""Settings of training: what a user writes under ``train:`` and ``mesh:``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ftcot_jax.errors import nearest
from ftcot_jax.training.optimizer_options import OPTIMIZERS, Optimizer, Option, optimizer_options


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


class CheckpointSettings(BaseModel):
    """When the state of a running pool is saved, and how much of it stays. A trial's best epoch is kept in any case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    minutes: float = Field(5.0, gt=0, description="Save after so many minutes.")
    steps: int | None = Field(None, gt=0, description="Also save after every so many steps.")
    keep: int = Field(2, gt=0, description="Saved states that stay; with one, a damaged one leaves none.")


class WandbSettings(BaseModel):
    """Where Weights & Biases keeps the runs, one a trial; the key comes from WANDB_API_KEY or `wandb login`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str = Field(description="Project of the runs.")
    entity: str | None = Field(None, description="User or team; default: the key's own.")


class TrainSettings(BaseModel):
    """Section ``train:`` of a recipe. Defaults are the paper's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimizer: str = Field("adamw", description=f"Optax's name of the optimizer: {', '.join(OPTIMIZERS)}.")
    optimizer_options: dict[str, Option] = Field(
        {}, description="The optimizer's other options by optax's names, e.g. momentum for sgd."
    )
    learning_rate: float = Field(3e-4, gt=0, description="Peak learning rate.")
    weight_decay: float | None = Field(
        None, ge=0, description="Decoupled weight decay; default: 0.01 for adamw as in the paper, else optax's."
    )
    beta1: float | None = Field(None, ge=0, lt=1, description="First-moment decay; default: optax's, 0.9 for adamw.")
    beta2: float | None = Field(None, ge=0, lt=1, description="Second-moment decay; default: optax's, 0.999 for adamw.")
    epsilon: float | None = Field(None, gt=0, description="Added to the divisor; default: optax's, 1e-8 for adamw.")
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
        None,
        gt=0,
        description="Trials trained side by side; default: 1 on a CPU; elsewhere as many as an eighth of the memory "
        "holds, up to 8 for each place of mesh.trial.",
    )
    input: Literal["auto", "device", "stream"] = Field(
        "auto",
        description="Where the records are: on the device, or streamed to it from host memory or disk; auto: on the "
        "device if they take at most a tenth of its free memory. The result is the same, bit for bit.",
    )
    slot_executor: Literal["auto", "vmap", "map"] = Field(
        "auto",
        description="Slots as one batched computation or one after another; auto: map on a CPU, else vmap.",
    )
    checkpoints: CheckpointSettings = CheckpointSettings()
    wandb: WandbSettings | None = Field(None, description="Log to Weights & Biases too.")
    profile_steps: tuple[int, int] | None = Field(
        None, description="Trace these steps for a profiler: first and end, counted from the process's own start."
    )

    @model_validator(mode="after")
    def _one_length(self) -> TrainSettings:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        return self

    @field_validator("profile_steps")
    @classmethod
    def _a_window(cls, steps: tuple[int, int] | None) -> tuple[int, int] | None:
        if steps is not None and not 0 <= steps[0] < steps[1]:
            raise ValueError("give a first step and a later end, as [10, 13]")
        return steps

    @field_validator("optimizer")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in OPTIMIZERS:
            raise ValueError(f"no such optimizer{nearest(name, OPTIMIZERS)}; optax's are {', '.join(OPTIMIZERS)}")
        return name

    @model_validator(mode="after")
    def _options_fit(self) -> TrainSettings:
        if self.optimizer != "adamw" or self.optimizer_options:  # jax is not started for a recipe without
            _ = self.optimizer_parts
        return self

    @property
    def optimizer_parts(self) -> tuple[Optimizer, dict[str, float]]:
        """What of the optimizer is compiled, and its options that are data."""
        named = {key: getattr(self, key) for key in ("weight_decay", "beta1", "beta2", "epsilon")}
        return optimizer_options(self.optimizer, named, self.optimizer_options)

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
    slices: int | None = Field(
        None,
        gt=0,
        description="Groups of devices joined by a slow network, the outer part of trial, then of data; default: as "
        "the devices tell (TPU slices do).",
    )
