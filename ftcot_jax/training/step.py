"""The train step: one optimizer step of every slot, as one compiled program.

A slot is a place for a trial. Everything that tells trials apart (weights, moments, step, hyper-parameters)
is in its state with a leading slot axis, so refilling a slot never recompiles.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ftcot_jax.records.batch import DeviceTable, PackedBatch, PairTokens, Rows, assemble, assemble_pairs
from ftcot_jax.records.microbatch import divide
from ftcot_jax.records.packing import BatchShape
from ftcot_jax.records.plan import StepBatch
from ftcot_jax.records.sizes import Kind
from ftcot_jax.students.dropout import Dropout, dropout_seed
from ftcot_jax.training.loss import label_loss
from ftcot_jax.training.mesh import Rules, batch_sharding, params_shardings, state_shardings, words_apart
from ftcot_jax.training.optimizer import Hyper, learning_rate, transformation

Params = Any
Executor = Literal["vmap", "map"]


class TrainableStudent(Protocol):
    """What training needs of a student; `shapes` are its params' as jax.ShapeDtypeStruct.

    A decoder has `hidden` too, an encoder-decoder what `TrainablePairs` adds.
    """

    @property
    def kind(self) -> Kind: ...

    @property
    def shapes(self) -> Params: ...

    @property
    def sharding_rules(self) -> Rules: ...

    def head(self, params: Params) -> jax.Array: ...


class SharedBase(TrainableStudent, Protocol):
    """A student whose params are partly frozen, the same for all slots."""

    def split(self, params: Params) -> tuple[Params, Params]: ...

    def join(self, frozen: Params, trained: Params) -> Params: ...


class TrainableDecoder(TrainableStudent, Protocol):
    """A decoder-only student."""

    def hidden(
        self,
        params: Params,
        tokens_RxL: jax.Array,
        segments_RxL: jax.Array,
        positions_RxL: jax.Array,
        reads_RxL: jax.Array | None = None,
        dropout: Dropout | None = None,
    ) -> jax.Array: ...


class TrainablePairs(TrainableStudent, Protocol):
    """An encoder-decoder."""

    @property
    def start_id(self) -> int: ...

    @property
    def eos_id(self) -> int: ...

    def source_hidden(
        self,
        params: Params,
        tokens_RxS: jax.Array,
        segments_RxS: jax.Array,
        positions_RxS: jax.Array,
        dropout: Dropout | None = None,
    ) -> jax.Array: ...

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
    ) -> jax.Array: ...


class SlotState(NamedTuple):
    """State of one trial, or of S with a leading slot axis on every leaf; an empty slot is not `live`.

    `params` are those that are trained.
    """

    params: Params
    moments: Any
    step: jax.Array
    hyper: Hyper
    live: jax.Array


class Metrics(NamedTuple):
    """Of one step, each () or (S,) float32; `tokens` counts real tokens, `labels` those predicted."""

    loss: jax.Array
    gradient_norm: jax.Array
    learning_rate: jax.Array
    tokens: jax.Array
    labels: jax.Array


def new_state(params: Params, hyper: Hyper) -> SlotState:
    """State of a trial that has taken no step."""
    step = jnp.zeros((), jnp.int32)
    return SlotState(params, transformation(hyper, step).init(params), step, hyper, jnp.ones((), bool))


def batch_loss(
    student: TrainableStudent, params: Params, batch: PackedBatch, seed: jax.Array | None = None
) -> jax.Array:
    """Mean cross-entropy over the batch's label tokens, the padded reference's loss; 0 for an empty batch.

    Args:
      student: the architecture.
      params: its weights.
      batch: the packed records.
      seed: () uint32 of this step's dropout, at the rates of the student's config; None for none.
    """
    return _total_loss(student, params, batch, seed) / jnp.maximum(batch.label_weight.sum(), 1)


def _total_loss(student: TrainableStudent, params: Params, batch: PackedBatch, seed: jax.Array | None) -> jax.Array:
    """Sum of cross-entropy over label tokens."""
    hidden_RxLxE = _hidden(student, params, batch, seed)
    hidden_MxE = hidden_RxLxE.reshape(-1, hidden_RxLxE.shape[-1])[batch.label_at]
    with jax.default_matmul_precision("float32"):  # as inside the student: float32 means float32 everywhere
        return label_loss(hidden_MxE, words_apart(student.head(params)), batch.label, batch.label_weight)


def _hidden(student: TrainableStudent, params: Params, batch: PackedBatch, seed: jax.Array | None) -> jax.Array:
    """Runs the packed rows; (R, L, E) before the head."""

    def dropout(rows: Rows) -> Dropout | None:
        return None if seed is None else Dropout(seed, rows.records)

    text, source = batch.text, batch.source
    if source is None:
        decoder = cast(TrainableDecoder, student)
        return decoder.hidden(params, *text[:3], reads_RxL=text.reads, dropout=dropout(text))
    pairs = cast(TrainablePairs, student)
    source_RxSxE = pairs.source_hidden(params, *source[:3], dropout=dropout(source))
    return pairs.target_hidden(
        params,
        source_RxSxE,
        source.segments,
        source.positions,
        *text[:3],
        reads_RxT=text.reads,
        dropout=dropout(text),
    )


def _advance(
    student: TrainableStudent, mesh: Mesh, frozen: Params | None, state: SlotState, batch: PackedBatch
) -> tuple[SlotState, Metrics]:
    """One optimizer step of one trial; `batch` has a leading microbatch axis."""
    seed = dropout_seed(state.hyper.seed, state.step)
    labels = jnp.maximum(batch.label_weight.sum(), 1)

    def share_of_loss(trained: Params, part: PackedBatch) -> jax.Array:
        """A microbatch's part of the batch's mean: all label tokens weigh the same, wherever they lie."""
        params = trained if frozen is None else cast(SharedBase, student).join(frozen, trained)
        return _total_loss(student, params, part, seed) / labels

    loss, gradients = _summed(jax.value_and_grad(share_of_loss), state.params, batch)
    if mesh.size > mesh.shape["trial"]:
        # Gradients travel to where the weights are, and not weights and moments to them.
        places = params_shardings(mesh, student.sharding_rules, gradients)
        gradients = jax.lax.with_sharding_constraint(gradients, places)
    updates, moments = transformation(state.hyper, state.step).update(gradients, state.moments, state.params)
    tokens = [(rows.segments > 0).sum() for rows in (batch.text, batch.source) if rows is not None]
    metrics = Metrics(
        loss=loss,
        gradient_norm=optax.tree.norm(gradients),
        learning_rate=learning_rate(state.hyper, state.step),
        tokens=jnp.stack(tokens).sum().astype(jnp.float32),
        labels=batch.label_weight.sum(),
    )
    return state._replace(
        params=optax.apply_updates(state.params, updates), moments=moments, step=state.step + 1
    ), metrics


def _summed(
    share: Callable[[Params, PackedBatch], tuple[jax.Array, Params]], params: Params, batch: PackedBatch
) -> tuple[jax.Array, Params]:
    """Adds up microbatches' loss and gradients one after another, so that one's activations are held at a time."""
    if batch.label.shape[0] == 1:
        return share(params, jax.tree.map(lambda leaf: leaf[0], batch))

    def add(total: tuple[jax.Array, Params], part: PackedBatch) -> tuple[tuple[jax.Array, Params], None]:
        return jax.tree.map(jnp.add, total, share(params, part)), None

    nothing = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(add, nothing, batch)[0]


def _idle(state: SlotState) -> tuple[SlotState, Metrics]:
    return state, Metrics(*[jnp.zeros((), jnp.float32)] * len(Metrics._fields))


class TrainStep(Protocol):
    """The jitted step of all slots; see `make_train_step`."""

    def __call__(
        self, state: SlotState, table: DeviceTable, planned: StepBatch, shape: BatchShape, frozen: Params | None = None
    ) -> tuple[SlotState, Metrics]: ...


def make_train_step(student: TrainableStudent, mesh: Mesh, executor: Executor) -> TrainStep:
    """Returns the jitted step ``(state_S, table, planned_S, shape, frozen) -> (state_S, metrics_S)``.

    The state is donated; `shape` is static, so each of the few batch shapes is compiled once. `frozen` holds the
    params that no slot trains, without a slot axis; None where all are trained.

    Args:
      student: the architecture; its weights are in the state.
      mesh: where slots and rows lie.
      executor: "vmap" computes all slots as one batch and keeps empty slots' state; "map" runs them one after
        another and skips empty ones, which is as fast on a CPU and needs one slot's memory.
    """
    build = _builder(student)

    def over_slots(state: SlotState, batch: PackedBatch, frozen: Params | None) -> tuple[SlotState, Metrics]:
        advance = functools.partial(_advance, student, mesh, frozen)

        def one(state: SlotState, batch: PackedBatch) -> tuple[SlotState, Metrics]:
            return jax.lax.cond(state.live, advance, lambda state, _: _idle(state), state, batch)

        slots, shards = state.step.shape[0], mesh.shape["trial"]
        if executor == "vmap" or slots == shards > 1:
            return jax.vmap(one, spmd_axis_name="trial")(state, batch)
        if slots == 1:  # a map over one slot would copy its whole state in and out
            only = advance(*jax.tree.map(lambda leaf: leaf[0], (state, batch)))
            return jax.tree.map(lambda leaf: leaf[None], only)
        if shards == 1:
            return jax.lax.map(lambda pair: one(*pair), (state, batch))
        # A map over a sharded axis would gather each slot: at every turn, each shard computes one of its own.
        turns = jax.tree.map(
            lambda leaf: jnp.moveaxis(leaf.reshape(shards, slots // shards, *leaf.shape[1:]), 1, 0), (state, batch)
        )
        done = jax.lax.map(lambda pair: jax.vmap(one, spmd_axis_name="trial")(*pair), turns)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0).reshape(slots, *leaf.shape[2:]), done)

    @functools.partial(jax.jit, static_argnames="shape", donate_argnames="state")
    def step(
        state: SlotState, table: DeviceTable, planned: StepBatch, shape: BatchShape, frozen: Params | None = None
    ) -> tuple[SlotState, Metrics]:
        batch = jax.vmap(lambda slot: divide(build(table, slot, shape), shape.microbatches))(planned)
        if mesh.size > 1:
            text, source = jax.lax.with_sharding_constraint((batch.text, batch.source), batch_sharding(mesh))
            batch = batch._replace(text=text, source=source)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # the student's layers and the loss look at it
            state, metrics = over_slots(state, batch, frozen)
        if mesh.size > 1:
            state = jax.lax.with_sharding_constraint(state, state_shardings(mesh, student.sharding_rules, state))
        return state, metrics

    return step


Build = Callable[[DeviceTable, StepBatch, BatchShape], PackedBatch]


def _builder(student: TrainableStudent) -> Build:
    """How the student's batches are assembled."""
    if student.kind == "decoder":
        return assemble
    pairs = cast(TrainablePairs, student)
    return functools.partial(assemble_pairs, around=PairTokens(pairs.start_id, pairs.eos_id))
