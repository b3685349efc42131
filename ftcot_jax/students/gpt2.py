"""GPT-2 (Radford et al., 2019), small to XL: LayerNorm before, learned positions, attention, GELU MLP."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ftcot_jax.students.dropout import Dropout, Noise, drop, drop_weights
from ftcot_jax.students.family import Compute, Config, Family, Stored, bias, require
from ftcot_jax.students.fused_attention import attend_row
from ftcot_jax.students.kv_cache import KVCache, LayerKV, read_prompts
from ftcot_jax.students.layers import ACTIVATIONS, LayerNorm, Linear, each_layer, normal, scan_layers, stack_layers

# Sites of dropout: each draws its own numbers.
_EMBEDDING, _WEIGHTS, _ATTENTION_OUT, _MLP_OUT = range(4)

Attend = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]


@dataclasses.dataclass(frozen=True)
class GPT2Spec:
    """Sizes of one member of the family."""

    vocabulary: int
    positions: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    head_dim: int
    epsilon: float
    activation: str
    scale: float
    tied: bool
    std: float
    embed_drop: float
    attention_drop: float
    residual_drop: float

    @classmethod
    def of(cls, config: Config, dropout: bool) -> GPT2Spec:
        """Reads the sizes from a transformers GPT2Config."""
        head_dim = config.n_embd // config.n_head
        return cls(
            vocabulary=config.vocab_size,
            positions=config.n_positions,
            width=config.n_embd,
            mlp_width=config.n_inner or 4 * config.n_embd,
            layers=config.n_layer,
            heads=config.n_head,
            head_dim=head_dim,
            epsilon=config.layer_norm_epsilon,
            activation=config.activation_function,
            scale=head_dim**-0.5 if config.scale_attn_weights else 1.0,
            tied=config.tie_word_embeddings,
            std=config.initializer_range,
            embed_drop=config.embd_pdrop * dropout,
            attention_drop=config.attn_pdrop * dropout,
            residual_drop=config.resid_pdrop * dropout,
        )


class Block(nnx.Module):
    """One layer. Projections into the residual stream start smaller by the root of their number."""

    def __init__(self, spec: GPT2Spec, rngs: nnx.Rngs) -> None:
        width, inner, heads = (spec.width,), (spec.mlp_width,), (spec.heads, spec.head_dim)
        narrow = spec.std / (2 * spec.layers) ** 0.5
        self.attention_norm = LayerNorm(spec.width, spec.epsilon)
        self.qkv = Linear(width, (3, *heads), bias=True, std=spec.std, rngs=rngs)
        self.o = Linear(heads, width, bias=True, std=narrow, rngs=rngs)
        self.mlp_norm = LayerNorm(spec.width, spec.epsilon)
        self.up = Linear(width, inner, bias=True, std=spec.std, rngs=rngs)
        self.down = Linear(inner, width, bias=True, std=narrow, rngs=rngs)
        self.activation, self.residual_drop = spec.activation, spec.residual_drop

    def __call__(self, h: jax.Array, attend: Attend, noise: Noise | None) -> tuple[jax.Array, Any]:
        qkv_BxTx3xHxD = self.qkv(self.attention_norm(h))
        query, key, value = (qkv_BxTx3xHxD[:, :, part] for part in range(3))
        mixed, extra = attend(query, key, value)
        h = h + drop(self.o(mixed), noise, self.residual_drop, _ATTENTION_OUT)
        inner = ACTIVATIONS[self.activation](self.up(self.mlp_norm(h)))
        return h + drop(self.down(inner), noise, self.residual_drop, _MLP_OUT), extra


class GPT2(nnx.Module):
    """A GPT-2 decoder; see `Student` for the meaning of its methods."""

    def __init__(self, config: Config, compute: Compute, rngs: nnx.Rngs) -> None:
        spec = GPT2Spec.of(config, compute.dropout)
        self.spec, self.compute = spec, compute
        self.embed = nnx.Param(normal(rngs, (spec.vocabulary, spec.width), spec.std))
        self.place = nnx.Param(normal(rngs, (spec.positions, spec.width), spec.std))
        self.layers: Any = stack_layers(lambda keys: Block(spec, keys), spec.layers, rngs)
        self.norm = LayerNorm(spec.width, spec.epsilon)
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

        def layer(block: Block, h: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
            own = None if noise is None else noise.of_layer(number)

            def attend_own(query: jax.Array, key: jax.Array, value: jax.Array) -> tuple[jax.Array, None]:
                keep = drop_weights(own, spec.attention_drop, _WEIGHTS, spec.heads, positions_RxL)
                kernel, scale = self.compute.attention, spec.scale
                return attend_row(kernel, query, key, value, segments_RxL, scale, keep, reads_RxL), None

            return block(h, attend_own, own)

        h = drop(self._embed(tokens_RxL, positions_RxL), noise, spec.embed_drop, _EMBEDDING)
        h, _ = scan_layers(self.layers, layer, h, jnp.arange(self.spec.layers), self.compute.remat)
        return self.norm(h)

    def head(self) -> jax.Array:
        weight = self.embed if self.unembed is None else self.unembed
        return weight[...].astype(self.compute.activations)

    def empty_cache(self, rows: int, length: int, prompt_length: int) -> KVCache:
        spec = self.spec
        return KVCache.empty(spec.layers, rows, spec.heads, length, spec.head_dim, self.compute.activations)

    def layers_apart(self) -> None:
        self.layers = each_layer(self.layers, self.spec.layers)

    def read(self, tokens_BxT: jax.Array, length_B: jax.Array, prefix: tuple[LayerKV, ...]) -> KVCache:
        return read_prompts(self, tokens_BxT, length_B, prefix)

    def extend(self, cache: KVCache, tokens_BxT: jax.Array, positions_BxT: jax.Array) -> tuple[jax.Array, KVCache]:
        def attend_cache(layer: int) -> Attend:
            return lambda query, key, value: cache.attend(layer, query, key, value, positions_BxT, self.spec.scale)

        h, grown = self._embed(tokens_BxT, positions_BxT), []
        for number, block in enumerate(each_layer(self.layers, self.spec.layers)):
            h, layer = block(h, attend_cache(number), None)
            grown.append(layer)
        return self.norm(h), cache._replace(layers=tuple(grown))

    def _embed(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        return (self.embed[...][tokens] + self.place[...][positions]).astype(self.compute.activations)


def _check(config: Config) -> None:
    require(config, "activation_function", tuple(ACTIVATIONS))
    require(config, "scale_attn_by_inverse_layer_idx", (False,))
    require(config, "add_cross_attention", (False,))
    require(config, "quantization_config", (None,))


def _stored(config: Config) -> dict[str, Stored]:
    layer = "transformer.h.{layer}."
    tensors = {
        "embed": Stored("transformer.wte.weight"),
        "place": Stored("transformer.wpe.weight"),
        "norm/scale": Stored("transformer.ln_f.weight"),
        "norm/bias": Stored("transformer.ln_f.bias"),
    }
    if not config.tie_word_embeddings:
        tensors["unembed"] = Stored("lm_head.weight")
    for ours, theirs in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
        tensors[f"layers/{ours}/scale"] = Stored(f"{layer}{theirs}.weight")
        tensors[f"layers/{ours}/bias"] = Stored(f"{layer}{theirs}.bias")
    for ours, theirs, inputs in (
        ("qkv", "attn.c_attn", 1),
        ("o", "attn.c_proj", 2),
        ("up", "mlp.c_fc", 1),
        ("down", "mlp.c_proj", 1),
    ):
        tensors[f"layers/{ours}/kernel"] = Stored(f"{layer}{theirs}.weight", inputs)
        tensors[f"layers/{ours}/bias"] = bias(f"{layer}{theirs}.bias")
    return tensors


GPT2_FAMILY = Family(
    name="GPT-2",
    kind="decoder",
    architectures={"gpt2": "GPT2LMHeadModel"},
    check=_check,
    module=GPT2,
    stored=_stored,
    ignored=(r"^lm_head\.weight$", r"\.attn\.(masked_)?bias$"),
    prefixes=("transformer.",),
    sharding_rules=(
        (r"(embed|unembed)$", ("tensor", "fsdp")),
        (r"place$", (None, "fsdp")),
        (r"qkv/kernel$", (None, "fsdp", None, "tensor", None)),
        (r"layers/o/kernel$", (None, "tensor", None, "fsdp")),
        (r"up/kernel$", (None, "fsdp", "tensor")),
        (r"down/kernel$", (None, "tensor", "fsdp")),
    ),
    context_length=lambda config: config.n_positions,
)
