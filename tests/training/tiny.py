"""A student small enough to reason about: one attention layer over embeddings, honouring segment ids."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ftcot_jax.records.table import RecordTable

VOCABULARY, WIDTH = 50, 16


class TinyStudent:
    """Decoder with one causal attention layer; positions enter by a sinusoid."""

    kind = "decoder"
    sharding_rules = (("embed", (None, "tensor")), ("query|key|value", ("fsdp", "tensor")))

    @property
    def shapes(self) -> Any:
        return jax.eval_shape(self.init, 0)

    def init(self, seed: int) -> dict[str, Any]:
        keys = jax.random.split(jax.random.key(seed), 4)
        shape = {
            "embed": (VOCABULARY, WIDTH),
            "query": (WIDTH,) * 2,
            "key": (WIDTH,) * 2,
            "value": (WIDTH,) * 2,
        }
        return {name: jax.random.normal(key, size) * 0.3 for key, (name, size) in zip(keys, shape.items(), strict=True)}

    def hidden(
        self,
        params: Any,
        tokens: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        reads_RxL: jax.Array | None = None,
        dropout: Any = None,
    ) -> jax.Array:
        h = params["embed"][tokens] + jnp.sin(positions[..., None] * 0.3 * (1 + jnp.arange(WIDTH)))
        scores = jnp.einsum("rle,rme->rlm", h @ params["query"], h @ params["key"]) / 4
        seen = segments[:, :, None] == segments[:, None]
        if reads_RxL is not None:
            seen |= reads_RxL[:, :, None] == segments[:, None]
        seen &= positions[:, :, None] >= positions[:, None]
        weights = jax.nn.softmax(jnp.where(seen, scores, -1e9), axis=-1)
        return h + weights @ (h @ params["value"])

    def head(self, params: Any) -> jax.Array:
        return params["embed"]


def make_records(count: int, seed: int = 0) -> RecordTable:
    rng = np.random.default_rng(seed)
    return RecordTable.from_rows(
        [
            {
                "input_ids": rng.integers(1, VOCABULARY, rng.integers(2, 9)),
                "label_ids": rng.integers(1, VOCABULARY, rng.integers(1, 12)),
                "sample_index": number,
                "completion_index": 0,
                "correct": True,
            }
            for number in range(count)
        ]
    )
