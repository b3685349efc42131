"""T5 (arXiv:1910.10683), v1.0 and v1.1/Flan: encoder and decoder with relative positions.

v1.0 has a ReLU MLP and a head tied to the embedding, before which the decoder's output is scaled; v1.1 and
Flan-T5 have a gated GELU MLP and, mostly, a head of their own. Positions enter only as a bias on the scores,
by bucket of distance, shared by all layers of a stack.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ftcot_jax.students.attention import attend, causal_mask, segment_mask
from ftcot_jax.students.dropout import Dropout, Noise, drop, drop_weights
from ftcot_jax.students.family import UNLIMITED, Compute, Config, Family, Stored, linear, require
from ftcot_jax.students.kv_cache import KVCache, LayerKV, SourceCache
from ftcot_jax.students.layers import ACTIVATIONS, Linear, RMSNorm, each_layer, normal, scan_layers, stack_layers

# Sites of dropout: each draws its own numbers; the decoder's differ from the encoder's.
_STACK_IN, _WEIGHTS, _ATTENTION_OUT, _CROSS_WEIGHTS, _CROSS_OUT, _MLP_INNER, _MLP_OUT, _STACK_OUT = range(8)
_DECODER = 1 << 20

Attend = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]


@dataclasses.dataclass(frozen=True)
class T5Spec:
    """Sizes and switches of one member of the family."""

    vocabulary: int
    width: int
    mlp_width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    head_dim: int
    buckets: int
    max_distance: int
    epsilon: float
    activation: str
    gated: bool
    tied: bool
    scaled: bool
    factor: float
    drop: float

    @classmethod
    def of(cls, config: Config, dropout: bool = True) -> T5Spec:
        """Reads the sizes from a transformers T5Config."""
        return cls(
            vocabulary=config.vocab_size,
            width=config.d_model,
            mlp_width=config.d_ff,
            encoder_layers=config.num_layers,
            decoder_layers=config.num_decoder_layers,
            heads=config.num_heads,
            head_dim=config.d_kv,
            buckets=config.relative_attention_num_buckets,
            max_distance=config.relative_attention_max_distance,
            epsilon=config.layer_norm_epsilon,
            activation=config.dense_act_fn,
            gated=config.is_gated_act,
            tied=config.tie_word_embeddings,
            scaled=config.scale_decoder_outputs,
            factor=config.initializer_factor,
            drop=config.dropout_rate * dropout,
        )


class Attention(nnx.Module):
    """The four projections; scores are not scaled, the initial weights are instead."""

    def __init__(self, spec: T5Spec, rngs: nnx.Rngs) -> None:
        width, heads, std = (spec.width,), (spec.heads, spec.head_dim), spec.factor * spec.width**-0.5
        self.q = Linear(width, heads, bias=False, std=std * spec.head_dim**-0.5, rngs=rngs)
        self.k = Linear(width, heads, bias=False, std=std, rngs=rngs)
        self.v = Linear(width, heads, bias=False, std=std, rngs=rngs)
        out_std = spec.factor * (spec.heads * spec.head_dim) ** -0.5
        self.o = Linear(heads, width, bias=False, std=out_std, rngs=rngs)

    def __call__(self, x: jax.Array, attend: Attend) -> tuple[jax.Array, Any]:
        mixed, extra = attend(self.q(x), self.k(x), self.v(x))
        return self.o(mixed), extra

    def read(self, x: jax.Array, attend: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """Attends to keys and values made elsewhere, which `attend` holds."""
        return self.o(attend(self.q(x)))


class MLP(nnx.Module):
    """Feed-forward layer, gated in v1.1."""

    def __init__(self, spec: T5Spec, rngs: nnx.Rngs) -> None:
        width, inner, std = (spec.width,), (spec.mlp_width,), spec.factor * spec.width**-0.5
        self.gate = Linear(width, inner, bias=False, std=std, rngs=rngs) if spec.gated else None
        self.up = Linear(width, inner, bias=False, std=std, rngs=rngs)
        self.down = Linear(inner, width, bias=False, std=spec.factor * spec.mlp_width**-0.5, rngs=rngs)
        self.activation, self.rate = spec.activation, spec.drop

    def __call__(self, x: jax.Array, noise: Noise | None) -> jax.Array:
        activate = ACTIVATIONS[self.activation]
        inner = activate(self.up(x)) if self.gate is None else activate(self.gate(x)) * self.up(x)
        return self.down(drop(inner, noise, self.rate, _MLP_INNER))


class EncoderBlock(nnx.Module):
    """Self-attention and MLP."""

    def __init__(self, spec: T5Spec, rngs: nnx.Rngs) -> None:
        self.attention_norm = RMSNorm(spec.width, spec.epsilon)
        self.attention = Attention(spec, rngs)
        self.mlp_norm = RMSNorm(spec.width, spec.epsilon)
        self.mlp = MLP(spec, rngs)
        self.rate = spec.drop

    def __call__(self, h: jax.Array, attend: Attend, noise: Noise | None) -> jax.Array:
        mixed, _ = self.attention(self.attention_norm(h), attend)
        h = h + drop(mixed, noise, self.rate, _ATTENTION_OUT)
        return h + drop(self.mlp(self.mlp_norm(h), noise), noise, self.rate, _MLP_OUT)


class DecoderBlock(nnx.Module):
    """Self-attention, attention to the source, and MLP."""

    def __init__(self, spec: T5Spec, rngs: nnx.Rngs) -> None:
        self.attention_norm = RMSNorm(spec.width, spec.epsilon)
        self.attention = Attention(spec, rngs)
        self.cross_norm = RMSNorm(spec.width, spec.epsilon)
        self.cross = Attention(spec, rngs)
        self.mlp_norm = RMSNorm(spec.width, spec.epsilon)
        self.mlp = MLP(spec, rngs)
        self.rate = spec.drop

    def __call__(
        self,
        h: jax.Array,
        attend: Attend,
        attend_source: Callable[[jax.Array], jax.Array],
        noise: Noise | None,
    ) -> tuple[jax.Array, Any]:
        mixed, extra = self.attention(self.attention_norm(h), attend)
        h = h + drop(mixed, noise, self.rate, _ATTENTION_OUT)
        found = self.cross.read(self.cross_norm(h), attend_source)
        h = h + drop(found, noise, self.rate, _CROSS_OUT)
        return h + drop(self.mlp(self.mlp_norm(h), noise), noise, self.rate, _MLP_OUT), extra

    def source_keys_values(self, source_BxSxE: jax.Array) -> tuple[jax.Array, jax.Array]:
        """This layer's (B, H, S, D) keys and values of the source."""
        return self.cross.k(source_BxSxE).swapaxes(1, 2), self.cross.v(source_BxSxE).swapaxes(1, 2)


class RelativeBias(nnx.Module):
    """A bias on the scores by head and bucket of distance; far distances share buckets, by logarithm."""

    def __init__(self, spec: T5Spec, bidirectional: bool, rngs: nnx.Rngs) -> None:
        self.table = nnx.Param(normal(rngs, (spec.buckets, spec.heads), spec.factor * spec.width**-0.5))
        self.bidirectional, self.max_distance = bidirectional, spec.max_distance

    def __call__(self, query_BxT: jax.Array, key_BxS: jax.Array) -> jax.Array:
        """Returns (B, H, T, S) float32 for queries and keys at these positions."""
        bucket_BxTxS = self._bucket(key_BxS[:, None, :] - query_BxT[:, :, None])
        return jnp.moveaxis(self.table[...][bucket_BxTxS], -1, 1)

    def _bucket(self, distance: jax.Array) -> jax.Array:
        buckets = self.table.shape[0]
        if self.bidirectional:
            buckets //= 2
            offset = jnp.where(distance > 0, buckets, 0)
            distance = jnp.abs(distance)
        else:
            offset = jnp.zeros_like(distance)
            distance = jnp.maximum(-distance, 0)
        table = _distance_buckets(buckets, self.max_distance)
        return offset + jnp.asarray(table)[jnp.minimum(distance, self.max_distance)]


class Encoder(nnx.Module):
    """The stack that reads the prompt."""

    def __init__(self, spec: T5Spec, rngs: nnx.Rngs) -> None:
        self.relative = RelativeBias(spec, True, rngs)
        self.layers = stack_layers(lambda keys: EncoderBlock(spec, keys), spec.encoder_layers, rngs)
        self.norm = RMSNorm(spec.width, spec.epsilon)


class Decoder(nnx.Module):
    """The stack that writes."""

    def __init__(self, spec: T5Spec, rngs: nnx.Rngs) -> None:
        self.relative = RelativeBias(spec, False, rngs)
        self.layers: Any = stack_layers(lambda keys: DecoderBlock(spec, keys), spec.decoder_layers, rngs)
        self.norm = RMSNorm(spec.width, spec.epsilon)


class T5(nnx.Module):
    """An encoder-decoder; see `Student` for the meaning of its methods."""

    def __init__(self, config: Config, compute: Compute, rngs: nnx.Rngs) -> None:
        spec = T5Spec.of(config, compute.dropout)
        self.spec, self.compute = spec, compute
        self.embed = nnx.Param(normal(rngs, (spec.vocabulary, spec.width), spec.factor))
        self.encoder = Encoder(spec, rngs)
        self.decoder = Decoder(spec, rngs)
        self.unembed = None if spec.tied else nnx.Param(normal(rngs, (spec.vocabulary, spec.width), spec.factor))

    def source_hidden(
        self,
        tokens_RxS: jax.Array,
        segments_RxS: jax.Array,
        positions_RxS: jax.Array,
        dropout: Dropout | None,
    ) -> jax.Array:
        spec, mask = self.spec, segment_mask(segments_RxS, segments_RxS)
        bias = self.encoder.relative(positions_RxS, positions_RxS)
        noise = Noise.of(dropout, positions_RxS)

        def layer(block: EncoderBlock, h: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
            own = None if noise is None else noise.of_layer(number)

            def attend_all(query: jax.Array, key: jax.Array, value: jax.Array) -> tuple[jax.Array, None]:
                keep = drop_weights(own, spec.drop, _WEIGHTS, spec.heads, positions_RxS)
                key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)
                return attend(query, key, value, mask, 1.0, bias, keep), None

            return block(h, attend_all, own), None

        h = drop(self._embed(tokens_RxS), noise, spec.drop, _STACK_IN)
        numbers = jnp.arange(spec.encoder_layers)
        h, _ = scan_layers(self.encoder.layers, layer, h, numbers, self.compute.remat)
        return drop(self.encoder.norm(h), noise, spec.drop, _STACK_OUT)

    def target_hidden(
        self,
        source_RxSxE: jax.Array,
        source_segments_RxS: jax.Array,
        source_positions_RxS: jax.Array,
        tokens_RxT: jax.Array,
        segments_RxT: jax.Array,
        positions_RxT: jax.Array,
        reads_RxT: jax.Array,
        dropout: Dropout | None,
    ) -> jax.Array:
        spec, own_mask = self.spec, causal_mask(segments_RxT)
        source_mask = segment_mask(reads_RxT, source_segments_RxS)
        bias = self.decoder.relative(positions_RxT, positions_RxT)
        noise = Noise.of(dropout, positions_RxT)
        noise = None if noise is None else noise.of_layer(jnp.int32(_DECODER))

        def layer(block: DecoderBlock, h: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
            own = None if noise is None else noise.of_layer(number)
            source_keys, source_values = block.source_keys_values(source_RxSxE)

            def attend_own(query: jax.Array, key: jax.Array, value: jax.Array) -> tuple[jax.Array, None]:
                keep = drop_weights(own, spec.drop, _WEIGHTS, spec.heads, positions_RxT)
                key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)
                return attend(query, key, value, own_mask, 1.0, bias, keep), None

            def attend_source(query: jax.Array) -> jax.Array:
                keep = drop_weights(own, spec.drop, _CROSS_WEIGHTS, spec.heads, source_positions_RxS)
                return attend(query, source_keys, source_values, source_mask, 1.0, keep_BxHxTxS=keep)

            return block(h, attend_own, attend_source, own)

        h = drop(self._embed(tokens_RxT), noise, spec.drop, _STACK_IN)
        numbers = jnp.arange(spec.decoder_layers)
        h, _ = scan_layers(self.decoder.layers, layer, h, numbers, self.compute.remat)
        h = drop(self.decoder.norm(h), noise, spec.drop, _STACK_OUT)
        return self._scaled(h)

    def head(self) -> jax.Array:
        weight = self.embed if self.unembed is None else self.unembed
        return weight[...].astype(self.compute.activations)

    def empty_cache(self, rows: int, length: int, prompt_length: int) -> SourceCache:
        return SourceCache(self._empty(rows, length), self._empty(rows, prompt_length), jnp.zeros(rows, jnp.int32))

    def layers_apart(self) -> None:
        self.decoder.layers = each_layer(self.decoder.layers, self.spec.decoder_layers)

    def read(self, tokens_BxS: jax.Array, length_B: jax.Array, prefix: tuple[LayerKV, ...]) -> SourceCache:
        assert not prefix  # an encoder's tokens look ahead: what follows a common beginning changes it
        column_S = jnp.arange(tokens_BxS.shape[1])
        segments = (column_S < length_B[:, None]).astype(jnp.int32)
        positions = jnp.broadcast_to(column_S, tokens_BxS.shape)
        source = self.source_hidden(tokens_BxS, segments, positions, None)
        blocks = each_layer(self.decoder.layers, self.spec.decoder_layers)
        layers = tuple(LayerKV(*block.source_keys_values(source)) for block in blocks)
        return SourceCache(self._empty(len(tokens_BxS), 1), KVCache(layers), length_B)

    def extend(
        self, cache: SourceCache, tokens_BxT: jax.Array, positions_BxT: jax.Array
    ) -> tuple[jax.Array, SourceCache]:
        own, source_mask = cache.own, cache.source_visible()
        columns_BxS = jnp.broadcast_to(jnp.arange(own.columns), (len(tokens_BxT), own.columns))
        bias = self.decoder.relative(positions_BxT, columns_BxS)

        def attend_own(layer: int) -> Attend:
            return lambda query, key, value: own.attend(layer, query, key, value, positions_BxT, 1.0, bias)

        def attend_source(layer: int) -> Callable[[jax.Array], jax.Array]:
            return lambda query: attend(query, *cache.source.layers[layer], source_mask, 1.0)

        h, grown = self._embed(tokens_BxT), []
        for number, block in enumerate(each_layer(self.decoder.layers, self.spec.decoder_layers)):
            h, layer = block(h, attend_own(number), attend_source(number), None)
            grown.append(layer)
        return self._scaled(self.decoder.norm(h)), cache._replace(own=own._replace(layers=tuple(grown)))

    def _empty(self, rows: int, length: int) -> KVCache:
        spec = self.spec
        return KVCache.empty(spec.decoder_layers, rows, spec.heads, length, spec.head_dim, self.compute.activations)

    def _embed(self, tokens: jax.Array) -> jax.Array:
        return self.embed[...][tokens].astype(self.compute.activations)

    def _scaled(self, h: jax.Array) -> jax.Array:
        """Version 1.0 scales the decoder's output before the head."""
        return h * self.spec.width**-0.5 if self.spec.scaled else h


def _distance_buckets(buckets: int, max_distance: int) -> np.ndarray:
    """Bucket of every distance up to the largest: half of them exact, the others by logarithm.

    A table made by numpy: near a bucket's edge, the last bit of a device's logarithm would decide.
    """
    distance = np.arange(max_distance + 1)
    exact = buckets // 2
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / exact)
    far = exact + (ratio / math.log(max_distance / exact) * (buckets - exact)).astype(np.int32)
    return np.where(distance < exact, distance, np.minimum(far, buckets - 1)).astype(np.int32)


def _check(config: Config) -> None:
    require(config, "dense_act_fn", tuple(ACTIVATIONS))
    require(config, "quantization_config", (None,))


def _stored(config: Config) -> dict[str, Stored]:
    spec = T5Spec.of(config)
    tensors = {"embed": Stored("shared.weight")}
    if not spec.tied:
        tensors["unembed"] = Stored("lm_head.weight")
    for stack, sublayers in (
        ("encoder", (("attention", "SelfAttention"),)),
        ("decoder", (("attention", "SelfAttention"), ("cross", "EncDecAttention"))),
    ):
        first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        tensors[f"{stack}/relative/table"] = Stored(first)
        tensors[f"{stack}/norm/scale"] = Stored(f"{stack}.final_layer_norm.weight")
        block = f"{stack}.block.{{layer}}.layer."
        for place, (ours, theirs) in enumerate(sublayers):
            tensors[f"{stack}/layers/{ours}_norm/scale"] = Stored(f"{block}{place}.layer_norm.weight")
            for name in ("q", "k", "v", "o"):
                tensors[f"{stack}/layers/{ours}/{name}/kernel"] = linear(
                    f"{block}{place}.{theirs}.{name}.weight", inputs=2 if name == "o" else 1
                )
        place = len(sublayers)
        tensors[f"{stack}/layers/mlp_norm/scale"] = Stored(f"{block}{place}.layer_norm.weight")
        names = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if spec.gated else {"up": "wi", "down": "wo"}
        for ours, theirs in names.items():
            tensors[f"{stack}/layers/mlp/{ours}/kernel"] = linear(f"{block}{place}.DenseReluDense.{theirs}.weight")
    return tensors


T5_FAMILY = Family(
    name="T5",
    kind="encoder_decoder",
    architectures={"t5": "T5ForConditionalGeneration"},
    check=_check,
    module=T5,
    stored=_stored,
    ignored=(
        r"^(encoder|decoder)\.embed_tokens\.weight$",
        r"^lm_head\.weight$",
        r"EncDecAttention\.relative_attention_bias\.weight$",
    ),
    prefixes=(),
    sharding_rules=(
        (r"(embed|unembed)$", ("tensor", "fsdp")),
        (r"relative/table$", (None, "tensor")),
        (r"/[qkv]/kernel$", (None, "fsdp", "tensor", None)),
        (r"/o/kernel$", (None, "tensor", None, "fsdp")),
        (r"mlp/(gate|up)/kernel$", (None, "fsdp", "tensor")),
        (r"mlp/down/kernel$", (None, "tensor", "fsdp")),
    ),
    context_length=lambda config: UNLIMITED,
)
