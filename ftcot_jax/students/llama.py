"""The Llama family, driven by the checkpoint's config: RMSNorm, rotary positions, grouped queries, gated MLP.

Llama 2/3 (arXiv:2307.09288), SmolLM2, SmolLM3 (layers without rotary positions), Qwen2/2.5 (biased q, k, v)
and Qwen3 (normalised q and k) are one architecture with a few switches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ftcot_jax.students.dropout import Dropout, Noise, drop_weights
from ftcot_jax.students.family import Compute, Config, Family, Stored, bias, linear, require
from ftcot_jax.students.fused_attention import attend_row
from ftcot_jax.students.kv_cache import KVCache, LayerKV, read_prompts
from ftcot_jax.students.layers import ACTIVATIONS, Linear, RMSNorm, each_layer, normal, scan_layers, stack_layers
from ftcot_jax.students.rope import ROPE_TYPES, Rotation, inverse_frequencies, rotate, rotation

Attend = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]


@dataclasses.dataclass(frozen=True)
class LlamaSpec:
    """Sizes and switches of one member of the family."""

    vocabulary: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    activation: str
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    qk_norm: bool
    tied: bool
    frequencies: tuple[float, ...]
    rope_factor: float
    rotary: tuple[bool, ...]
    std: float
    attention_drop: float

    @classmethod
    def of(cls, config: Config, dropout: bool = True) -> LlamaSpec:
        """Reads the sizes from a transformers config of one of the family's model types."""
        kind = config.model_type
        attention_bias = getattr(config, "attention_bias", False)
        layers = config.num_hidden_layers
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        frequencies, factor = inverse_frequencies(config.rope_parameters, head_dim)
        return cls(
            vocabulary=config.vocab_size,
            width=config.hidden_size,
            mlp_width=config.intermediate_size,
            layers=layers,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=head_dim,
            epsilon=config.rms_norm_eps,
            activation=config.hidden_act,
            qkv_bias=kind == "qwen2" or attention_bias,
            out_bias=kind != "qwen2" and attention_bias,
            mlp_bias=getattr(config, "mlp_bias", False),
            qk_norm=kind == "qwen3",
            tied=config.tie_word_embeddings,
            frequencies=tuple(frequencies.tolist()),
            rope_factor=factor,
            rotary=tuple(map(bool, getattr(config, "no_rope_layers", None) or [1] * layers))[:layers],
            std=config.initializer_range,
            attention_drop=(config.attention_dropout or 0.0) * dropout,
        )


class Attention(nnx.Module):
    """Grouped-query attention up to the scores, which the caller's `attend` computes."""

    def __init__(self, spec: LlamaSpec, rngs: nnx.Rngs) -> None:
        width, head = (spec.width,), spec.head_dim
        self.q = Linear(width, (spec.heads, head), bias=spec.qkv_bias, std=spec.std, rngs=rngs)
        self.k = Linear(width, (spec.kv_heads, head), bias=spec.qkv_bias, std=spec.std, rngs=rngs)
        self.v = Linear(width, (spec.kv_heads, head), bias=spec.qkv_bias, std=spec.std, rngs=rngs)
        self.o = Linear((spec.heads, head), width, bias=spec.out_bias, std=spec.std, rngs=rngs)
        self.q_norm = RMSNorm(head, spec.epsilon) if spec.qk_norm else None
        self.k_norm = RMSNorm(head, spec.epsilon) if spec.qk_norm else None

    def __call__(self, x: jax.Array, turn: Rotation, attend: Attend) -> tuple[jax.Array, Any]:
        query, key, value = self.q(x), self.k(x), self.v(x)
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        mixed, extra = attend(rotate(query, turn), rotate(key, turn), value)
        return self.o(mixed), extra


class MLP(nnx.Module):
    """Gated feed-forward layer (arXiv:2002.05202)."""

    def __init__(self, spec: LlamaSpec, rngs: nnx.Rngs) -> None:
        width, inner = (spec.width,), (spec.mlp_width,)
        self.gate = Linear(width, inner, bias=spec.mlp_bias, std=spec.std, rngs=rngs)
        self.up = Linear(width, inner, bias=spec.mlp_bias, std=spec.std, rngs=rngs)
        self.down = Linear(inner, width, bias=spec.mlp_bias, std=spec.std, rngs=rngs)
        self.activation = spec.activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(ACTIVATIONS[self.activation](self.gate(x)) * self.up(x))


class Block(nnx.Module):
    """One layer: attention and MLP, each normalised before and added to the residual stream."""

    def __init__(self, spec: LlamaSpec, rngs: nnx.Rngs) -> None:
        self.attention_norm = RMSNorm(spec.width, spec.epsilon)
        self.attention = Attention(spec, rngs)
        self.mlp_norm = RMSNorm(spec.width, spec.epsilon)
        self.mlp = MLP(spec, rngs)

    def __call__(self, h: jax.Array, turn: Rotation, attend: Attend) -> tuple[jax.Array, Any]:
        mixed, extra = self.attention(self.attention_norm(h), turn, attend)
        h = h + mixed
        return h + self.mlp(self.mlp_norm(h)), extra


class _Layer(NamedTuple):
    """What differs between layers besides their weights."""

    number: jax.Array
    rotary: jax.Array


class Llama(nnx.Module):
    """A decoder of the Llama family; see `Student` for the meaning of its methods."""

    def __init__(self, config: Config, compute: Compute, rngs: nnx.Rngs) -> None:
        spec = LlamaSpec.of(config, compute.dropout)
        self.spec, self.compute = spec, compute
        self.embed = nnx.Param(normal(rngs, (spec.vocabulary, spec.width), spec.std))
        self.layers: Any = stack_layers(lambda keys: Block(spec, keys), spec.layers, rngs)
        self.norm = RMSNorm(spec.width, spec.epsilon)
        self.unembed = None if spec.tied else nnx.Param(normal(rngs, (spec.vocabulary, spec.width), spec.std))

    def hidden(
        self,
        tokens_RxL: jax.Array,
        segments_RxL: jax.Array,
        positions_RxL: jax.Array,
        reads_RxL: jax.Array | None,
        dropout: Dropout | None,
    ) -> jax.Array:
        spec = self.spec
        noise = Noise.of(dropout, positions_RxL)

        def layer(block: Block, h: jax.Array, at: _Layer) -> tuple[jax.Array, None]:
            own = None if noise is None else noise.of_layer(at.number)

            def attend_own(query: jax.Array, key: jax.Array, value: jax.Array) -> tuple[jax.Array, None]:
                keep = drop_weights(own, spec.attention_drop, 0, spec.heads, positions_RxL)
                kernel, scale = self.compute.attention, self._scale
                return attend_row(kernel, query, key, value, segments_RxL, scale, keep, reads_RxL), None

            return block(h, self._turn(turn, at), attend_own)

        turn = self._rotation(positions_RxL)
        h, _ = scan_layers(self.layers, layer, self._embed(tokens_RxL), self._per_layer(), self.compute.remat)
        return self.norm(h)

    def head(self) -> jax.Array:
        weight = self.embed if self.unembed is None else self.unembed
        return weight[...].astype(self.compute.activations)

    def empty_cache(self, rows: int, length: int, prompt_length: int) -> KVCache:
        spec = self.spec
        return KVCache.empty(spec.layers, rows, spec.kv_heads, length, spec.head_dim, self.compute.activations)

    def layers_apart(self) -> None:
        self.layers = each_layer(self.layers, self.spec.layers)

    def read(self, tokens_BxT: jax.Array, length_B: jax.Array, prefix: tuple[LayerKV, ...]) -> KVCache:
        return read_prompts(self, tokens_BxT, length_B, prefix)

    def extend(self, cache: KVCache, tokens_BxT: jax.Array, positions_BxT: jax.Array) -> tuple[jax.Array, KVCache]:
        def attend_cache(layer: int) -> Attend:
            return lambda query, key, value: cache.attend(layer, query, key, value, positions_BxT, self._scale)

        turn = self._rotation(positions_BxT)
        still = Rotation(jnp.ones_like(turn.cos), jnp.zeros_like(turn.sin))
        h, grown = self._embed(tokens_BxT), []
        for number, block in enumerate(each_layer(self.layers, self.spec.layers)):
            h, layer = block(h, turn if self.spec.rotary[number] else still, attend_cache(number))
            grown.append(layer)
        return self.norm(h), cache._replace(layers=tuple(grown))

    @property
    def _scale(self) -> float:
        return self.spec.head_dim**-0.5

    def _embed(self, tokens: jax.Array) -> jax.Array:
        return self.embed[...][tokens].astype(self.compute.activations)

    def _rotation(self, positions: jax.Array) -> Rotation:
        return rotation(positions, np.asarray(self.spec.frequencies, np.float32), self.spec.rope_factor)

    def _turn(self, turn: Rotation, at: _Layer) -> Rotation:
        """The layer's rotation: none at all where the config leaves rotary positions out."""
        if all(self.spec.rotary):
            return turn
        return Rotation(jnp.where(at.rotary, turn.cos, 1.0), jnp.where(at.rotary, turn.sin, 0.0))

    def _per_layer(self) -> _Layer:
        return _Layer(jnp.arange(self.spec.layers), jnp.asarray(self.spec.rotary))


def _check(config: Config) -> None:
    require(config, "hidden_act", tuple(ACTIVATIONS))
    require(config, "pretraining_tp", (1, None))
    require(config, "use_sliding_window", (False, None))
    require(config, "quantization_config", (None,))
    rope = config.rope_parameters
    if rope.get("rope_type") not in ROPE_TYPES or rope.get("partial_rotary_factor", 1.0) != 1.0:
        require(config, "rope_parameters", [f"of rope_type {', '.join(ROPE_TYPES)} over whole heads"])


def _stored(config: Config) -> dict[str, Stored]:
    spec = LlamaSpec.of(config)
    layer = "model.layers.{layer}."
    tensors = {
        "embed": Stored("model.embed_tokens.weight"),
        "norm/scale": Stored("model.norm.weight"),
        "layers/attention_norm/scale": Stored(layer + "input_layernorm.weight"),
        "layers/mlp_norm/scale": Stored(layer + "post_attention_layernorm.weight"),
    }
    if not spec.tied:
        tensors["unembed"] = Stored("lm_head.weight")
    for name in ("q", "k", "v", "o"):
        tensors[f"layers/attention/{name}/kernel"] = linear(
            f"{layer}self_attn.{name}_proj.weight", inputs=2 if name == "o" else 1
        )
        if spec.out_bias if name == "o" else spec.qkv_bias:
            tensors[f"layers/attention/{name}/bias"] = bias(f"{layer}self_attn.{name}_proj.bias")
    for name in ("gate", "up", "down"):
        tensors[f"layers/mlp/{name}/kernel"] = linear(f"{layer}mlp.{name}_proj.weight")
        if spec.mlp_bias:
            tensors[f"layers/mlp/{name}/bias"] = bias(f"{layer}mlp.{name}_proj.bias")
    if spec.qk_norm:
        for name in ("q", "k"):
            tensors[f"layers/attention/{name}_norm/scale"] = Stored(f"{layer}self_attn.{name}_norm.weight")
    return tensors


LLAMA = Family(
    name="Llama",
    kind="decoder",
    architectures={
        "llama": "LlamaForCausalLM",
        "qwen2": "Qwen2ForCausalLM",
        "qwen3": "Qwen3ForCausalLM",
        "smollm3": "SmolLM3ForCausalLM",
    },
    check=_check,
    module=Llama,
    stored=_stored,
    ignored=(r"^lm_head\.weight$", r"\.rotary_emb\.inv_freq$"),
    prefixes=("model.",),
    sharding_rules=(
        (r"(embed|unembed)$", ("tensor", "fsdp")),
        (r"attention/[qkv]/kernel$", (None, "fsdp", "tensor", None)),
        (r"attention/o/kernel$", (None, "tensor", None, "fsdp")),
        (r"mlp/(gate|up)/kernel$", (None, "fsdp", "tensor")),
        (r"mlp/down/kernel$", (None, "tensor", "fsdp")),
    ),
    context_length=lambda config: config.max_position_embeddings,
)
