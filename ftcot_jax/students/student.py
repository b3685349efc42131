"""The student: an architecture with its config, tokenizer and weights' source, as pure functions of params.

``params`` is a plain nested dict of float32 arrays; weights of the layers are stacked along a leading axis.
Every method that takes params is pure and can be jitted, differentiated, and vmapped over a slot axis.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import jax
from flax import nnx

from ftcot_jax.errors import FtcotError
from ftcot_jax.students import text_ids
from ftcot_jax.students.checkpoint import match_tensors, open_tensors, read_parameter, weights_identity
from ftcot_jax.students.dropout import Dropout
from ftcot_jax.students.family import Compute, Config, Decoder, EncoderDecoder, Family, Kind, Params, Rules, Writer
from ftcot_jax.students.fused_attention import require_attention
from ftcot_jax.students.kv_cache import Cache, LayerKV
from ftcot_jax.students.layers_apart import are_apart, layers_apart
from ftcot_jax.students.leaf_paths import by_path, path_of
from ftcot_jax.students.lora import Adapted, adapted, add_adapters, join, split

# Config fields that say who wrote a checkpoint and how, not what it computes.
_NOT_ARCHITECTURE = frozenset({"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"})


class Student:
    """One architecture at one size, with its tokenizer; equal students share compiled programs.

    Args:
      family: the architectures it belongs to.
      config: transformers config of the checkpoint, or of a student from scratch.
      tokenizer: a transformers fast tokenizer.
      compute: precision and rematerialisation.
      folder: the checkpoint's folder; None for a student from scratch.

    Attributes:
      eos_id: token that ends an answer.
      pad_id: token that fills unused places; segment ids hide it, so its value is of no consequence.
      context_length: positions the architecture has.
    """

    def __init__(
        self, family: Family, config: Config, tokenizer: Any, compute: Compute, folder: Path | None = None
    ) -> None:
        family.check(config)
        require_attention(compute, config, family.kind)
        self._family, self.config, self.tokenizer, self.compute = family, config, tokenizer, compute
        self.folder = folder
        self.context_length = int(family.context_length(config))
        self.eos_id = text_ids.end_token(tokenizer, config, str(folder or "student.scratch"))
        self.pad_id = self.eos_id if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        if compute.lora is not None:
            _ = self.adapted  # a wrong pattern is said at once
        if len(tokenizer) > config.vocab_size:
            raise FtcotError(
                f"{folder or 'student.scratch'}: the tokenizer has {len(tokenizer)} tokens and the config's "
                f"vocab_size is {config.vocab_size}; use the tokenizer that belongs to the model"
            )

    @property
    def family(self) -> str:
        """What users call the architecture's family."""
        return self._family.name

    @property
    def kind(self) -> Kind:
        """Whether the prompt is read by the decoder itself or by an encoder."""
        return self._family.kind

    @property
    def start_id(self) -> int:
        """Token an encoder-decoder's target starts with."""
        start = getattr(self.config, "decoder_start_token_id", None)
        return self.pad_id if start is None else int(start)

    @property
    def architecture(self) -> str:
        """Name of the transformers class that computes the same, as vLLM and config.json know it."""
        return self._family.architectures[self.config.model_type]

    @property
    def sharding_rules(self) -> Rules:
        """(pattern over a parameter's "/"-joined path, mesh axis of each dimension); the first match wins."""
        return self._family.sharding_rules

    def on(self, platform: str) -> Student:
        """This student as it computes on devices of a platform, such as "tpu": what it left open is chosen."""
        chosen = self.compute.on(platform)
        if chosen == self.compute:
            return self
        return Student(self._family, self.config, self.tokenizer, chosen, self.folder)

    @functools.cached_property
    def identity(self) -> tuple[str, ...]:
        """What decides the computation: students of equal identity are interchangeable but for weights."""
        fields = self.config.to_dict()
        config = {key: fields[key] for key in fields if key not in _NOT_ARCHITECTURE}
        return (
            self._family.name,
            json.dumps(config, sort_keys=True, default=str),
            repr(self.compute),
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of config, tokenizer and weight files: what a result that used this student depends on."""
        text = self.tokenizer.backend_tokenizer.to_str()
        weights = "random" if self.folder is None else weights_identity(self.folder)
        return hashlib.sha256("\n".join((*self.identity, text, weights)).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Student) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    # Weights

    @functools.cached_property
    def shapes(self) -> Params:
        """The params as `jax.ShapeDtypeStruct`s, without making any."""
        return jax.eval_shape(self._make_params, jax.random.key(0))

    @functools.cached_property
    def shapes_by_path(self) -> dict[str, jax.ShapeDtypeStruct]:
        """`shapes` by the parameters' "/"-joined paths."""
        return by_path(self.shapes)

    def init(self, key: jax.Array) -> Params:
        """Returns random params, distributed as the original architecture's."""
        return self._jitted_init(key)

    def load(self, shardings: Any = None) -> Params:
        """Reads the checkpoint's weights as float32 params; adapters among them are new.

        Args:
          shardings: pytree of shardings like `shapes`, to load each device's share straight onto it; None
            loads everything onto the default device.

        Raises:
          FtcotError: the student is from scratch, or the folder's tensors are not this architecture's.
        """
        if self.folder is None:
            raise FtcotError("a student from scratch has no weights to load; use its random initial weights")
        shapes = self.shapes_by_path
        stored = self.stored
        found = match_tensors(
            str(self.folder),
            open_tensors(self.folder),
            self._family,
            stored,
            {path: leaf.shape for path, leaf in shapes.items()},
        )
        wanted = {} if shardings is None else by_path(shardings)
        leaves = {
            path: read_parameter(found[path], stored[path], shapes[path].shape, wanted.get(path)) for path in stored
        }
        base = split(self.shapes)[0]
        params = jax.tree_util.tree_map_with_path(lambda path, _: leaves[path_of(path)], base)
        return params if self.compute.lora is None else join(params, self.init_adapters(jax.random.key(0)))

    # Adapters, of a student that has `compute.lora`

    @functools.cached_property
    def adapted(self) -> list[Adapted]:
        """The linear maps that have an adapter."""
        if self.compute.lora is None:
            return []
        layers = dict.fromkeys(self.stored, 0)
        plain = jax.eval_shape(lambda: nnx.to_pure_dict(nnx.split(self._make_plain(jax.random.key(0)))[1]))
        layers |= {path: leaf.shape[0] for path, leaf in by_path(plain).items()}
        return adapted(self.stored, layers, self.compute.lora)

    def split(self, params: Params) -> tuple[Params, Params]:
        """Splits params, or their shapes, into what is frozen and what is trained."""
        return ({}, params) if self.compute.lora is None else split(params)

    def join(self, frozen: Params, trained: Params) -> Params:
        """Undoes `split`."""
        return trained if self.compute.lora is None else join(frozen, trained)

    def init_adapters(self, key: jax.Array) -> Params:
        """Returns new adapters, without effect until they are trained."""
        return self._jitted_init_adapters(key)

    @functools.cached_property
    def _jitted_init_adapters(self) -> Any:
        return jax.jit(lambda key: split(self._make_params(key))[1])

    @functools.cached_property
    def stored(self) -> dict[str, Any]:
        """Parameter path -> how a Hugging Face checkpoint stores it."""
        return self._family.stored(self.config)

    # The computation

    def hidden(
        self,
        params: Params,
        tokens_RxL: jax.Array,
        segments_RxL: jax.Array,
        positions_RxL: jax.Array,
        reads_RxL: jax.Array | None = None,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Runs packed rows; a token attends to earlier tokens of its row with its own segment id.

        Args:
          params: the weights.
          tokens_RxL: (R, L) int32.
          segments_RxL: (R, L) int32, which text each token belongs to; 0 is padding.
          positions_RxL: (R, L) int32, each token's place in its text, from 0.
          reads_RxL: (R, L) int32, a segment that each token attends to besides its own, if it lies before: that of
            a question which several rationales share. None for none.
          dropout: seed and records, to train with the config's dropout; None for none.

        Returns:
          (R, L, E) after the last norm, ready for the head, in the compute dtype. Padding's are meaningless.
        """
        with self.compute.exact():
            return cast(Decoder, self._module("decoder", params)).hidden(
                tokens_RxL, segments_RxL, positions_RxL, reads_RxL, dropout
            )

    def source_hidden(
        self,
        params: Params,
        tokens_RxS: jax.Array,
        segments_RxS: jax.Array,
        positions_RxS: jax.Array,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Encodes packed rows of prompts, each token attending to all of its own segment.

        Takes what `hidden` takes; returns (R, S, E) for `target_hidden`. Encoder-decoders only.
        """
        with self.compute.exact():
            return cast(EncoderDecoder, self._module("encoder_decoder", params)).source_hidden(
                tokens_RxS, segments_RxS, positions_RxS, dropout
            )

    def target_hidden(
        self,
        params: Params,
        source_RxSxE: jax.Array,
        source_segments_RxS: jax.Array,
        source_positions_RxS: jax.Array,
        tokens_RxT: jax.Array,
        segments_RxT: jax.Array,
        positions_RxT: jax.Array,
        reads_RxT: jax.Array | None = None,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Decodes packed rows of targets, each reading an encoded prompt of its row. Encoder-decoders only.

        Args:
          params: the weights.
          source_RxSxE: from `source_hidden`.
          source_segments_RxS: the segment ids it was given.
          source_positions_RxS: and the positions.
          tokens_RxT: (R, T) int32 inputs: `start_id`, then the target but for its last token.
          segments_RxT: (R, T) int32, which target each token belongs to; 0 is padding.
          positions_RxT: (R, T) int32, each token's place in its target, from 0.
          reads_RxT: (R, T) int32, the source segment each token reads; by default that of its own number.
            Several targets may read one source.
          dropout: as for `hidden`, of the targets' records.

        Returns:
          (R, T, E) ready for the head, in the compute dtype.
        """
        reads_RxT = segments_RxT if reads_RxT is None else reads_RxT
        with self.compute.exact():
            return cast(EncoderDecoder, self._module("encoder_decoder", params)).target_hidden(
                source_RxSxE,
                source_segments_RxS,
                source_positions_RxS,
                tokens_RxT,
                segments_RxT,
                positions_RxT,
                reads_RxT,
                dropout,
            )

    def head(self, params: Params) -> jax.Array:
        """Returns the (V, E) vocabulary projection in the compute dtype; logits are ``h @ head.T``."""
        return self._module(self.kind, params).head()

    def empty_cache(self, rows: int, length: int, prompt_length: int = 0) -> Cache:
        """Returns a key-value cache for `rows` texts of up to `length` tokens.

        An encoder-decoder's has room for prompts of `prompt_length` besides; a decoder's prompt is part of
        its text.
        """
        return self._module(self.kind, self.shapes).empty_cache(rows, length, prompt_length)

    def for_writing(self, params: Params) -> Params:
        """Returns params as `read` and `extend` compute with them without copying any, in every step of a loop.

        The layers of the stack that writes are apart, and matrices are in the compute dtype. Takes as much memory
        again. `head` takes these too; part of the params (the frozen, the trained) may be given alone.
        """
        return layers_apart(params, self.compute.activations)

    def read(
        self, params: Params, tokens_BxT: jax.Array, length_B: jax.Array, prefix: tuple[LayerKV, ...] = ()
    ) -> Cache:
        """Returns a cache that has read prompts.

        Args:
          params: the weights, as they are or `for_writing`.
          tokens_BxT: (B, T) int32, padded on the right.
          length_B: (B,) int32, tokens of each that count.
          prefix: what a decoder has read before all of them, from `KVCache.as_prefix`.
        """
        with self.compute.exact():
            return self._module(self.kind, params).read(tokens_BxT, length_B, prefix)

    def extend(
        self, params: Params, cache: Cache, tokens_BxT: jax.Array, positions_BxT: jax.Array
    ) -> tuple[jax.Array, Cache]:
        """Runs T more tokens of each of B texts, given the cache of those before.

        Args:
          params: the weights, as they are or `for_writing`.
          cache: from `empty_cache`, `read` or the previous call; a row's positions below the first one given
            must have been written for the text at hand.
          tokens_BxT: (B, T) int32.
          positions_BxT: (B, T) int32, each token's place in its text. A place at or beyond the cache's length
            marks padding: nothing is kept of it.

        Returns:
          (B, T, E) ready for the head, and the cache with the new tokens in it.
        """
        with self.compute.exact():
            return self._module(self.kind, params).extend(cache, tokens_BxT, positions_BxT)

    # Text

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the token ids of each text; as `text_ids.encode`."""
        return text_ids.encode(self.tokenizer, texts)

    def encode_prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns what the student reads before it writes: an encoder's text ends with the end token."""
        ids = self.encode(texts)
        return ids if self.kind == "decoder" else [[*row, self.eos_id] for row in ids]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Returns the text of each list of token ids, special tokens left out."""
        return text_ids.decode(self.tokenizer, ids)

    # Inside

    @functools.cached_property
    def _graphdef(self) -> nnx.GraphDef[Any]:
        return nnx.split(nnx.eval_shape(self._make_module, jax.random.key(0)))[0]

    @functools.cached_property
    def _graphdef_apart(self) -> nnx.GraphDef[Any]:
        def make() -> nnx.Module:
            module = self._make_module(jax.random.key(0))
            cast(Writer, module).layers_apart()
            return module

        return nnx.split(nnx.eval_shape(make))[0]

    @functools.cached_property
    def _jitted_init(self) -> Any:
        return jax.jit(self._make_params)

    def _make_module(self, key: jax.Array) -> nnx.Module:
        module = self._make_plain(key)
        if self.compute.lora is not None:
            add_adapters(module, self.adapted, self.compute.lora, key)
        return module

    def _make_plain(self, key: jax.Array) -> nnx.Module:
        return self._family.module(self.config, self.compute, nnx.Rngs(params=key))

    def _make_params(self, key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.split(self._make_module(key))[1])

    def _module(self, kind: Kind, params: Params) -> Writer:
        if kind != self.kind:
            raise TypeError(f"{self.family} is of kind {self.kind}, and this method is for {kind}s")
        return cast(Writer, nnx.merge(self._graphdef_apart if are_apart(params) else self._graphdef, params))
