"""Section ``student:`` of a recipe: which model is trained, and in which precision it computes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LoraSettings(BaseModel):
    """Section ``student.lora:``: low-rank adapters are trained, the weights are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(8, gt=0, description="Width of the adapters.")
    alpha: float = Field(16.0, gt=0, description="The adapters' output is multiplied by alpha / rank.")
    targets: str = Field(
        ".",
        description="Regular expression searched in the names of the layers' linear maps, as in "
        "model.layers.0.self_attn.q_proj; the default adapts all of them.",
    )


class StudentSettings(BaseModel):
    """Section ``student:`` of a recipe. Exactly one of `checkpoint` and `scratch` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str | None = Field(
        None, description="Pretrained student: a folder in the Hugging Face layout, or a name on the hub."
    )
    scratch: dict[str, Any] | None = Field(
        None,
        description="Student with random weights: `model_type` and fields of its transformers config. "
        "Its vocabulary is the task's words, unless `tokenizer` is given.",
    )
    tokenizer: str | None = Field(
        None, description="Folder or hub name of a scratch student's tokenizer, in place of the task's words."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Precision of the arithmetic; weights are always kept in float32."
    )
    remat: Literal["auto", "none", "cheap", "dots", "full"] = Field(
        "auto",
        description="What the backward pass recomputes instead of storing: nothing; what is cheap, so all but "
        "products, exponentials and sums, of XLA's attention; all but the matrix products with weights; or every "
        "layer whole. auto: dots on a TPU; elsewhere cheap with XLA's attention, and none with another kernel.",
    )

    dropout: bool = Field(
        True, description="Train with the dropout rates of the config (0.1 for GPT-2 and T5), or without."
    )

    attention: Literal["xla", "cudnn", "splash"] = Field(
        "xla",
        description="Kernel of attention in training: XLA's anywhere, cuDNN's on a GPU in bfloat16, splash attention "
        "on a TPU. The chosen one is used or refused, never replaced.",
    )
    lora: LoraSettings | None = Field(
        None, description="Train low-rank adapters of a checkpoint in place of all its weights."
    )

    @model_validator(mode="after")
    def _one_source(self) -> StudentSettings:
        if (self.checkpoint is None) == (self.scratch is None):
            raise ValueError("give either checkpoint or scratch")
        if self.tokenizer is not None and self.scratch is None:
            raise ValueError("tokenizer goes with scratch; a checkpoint brings its own")
        if self.lora is not None and self.checkpoint is None:
            raise ValueError("lora goes with a checkpoint; random weights are no use frozen")
        return self
