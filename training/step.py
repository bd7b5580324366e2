"""THE step: one function for every architecture, task, device count and accumulation.

The denominator of each loss term is summed over microbatches and devices before the forward pass. Every microbatch
then computes its part of the complete batch's loss, and gradients add up, so that every layout of the same batch gives
the same update. Only this file and `training.parallel` know about more than one device.
"""

import functools
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from einops import rearrange
from jax import lax
from jaxtyping import Array, PRNGKeyArray, PyTree

from arch.layers.norm import statistics_over
from tasks.task import Task
from training.decoding import generate
from training.state import CARRY, State, averaged

MICROBATCH = "microbatch"  # name of the mapped axis of microbatches
Batch = Mapping[str, Array | np.ndarray]
Sums = dict[str, tuple[Array, Array]]  # metric -> (sum, weight)


def stream_key(rng: PRNGKeyArray, step, stream: str, device=0, microbatch=0) -> PRNGKeyArray:
    """Returns the key of one stream ("dropout", "augment") at one step, device and microbatch; no two share a key.

    Augmentation has one key per step, into which `data.augment` folds the op and the example's index.
    """
    key = jax.random.fold_in(rng, step)
    for part in (zlib.crc32(stream.encode()), device, microbatch):
        key = jax.random.fold_in(key, part)
    return key


def indexed(batch: Batch, axis_name: str | None) -> Batch:
    """Returns a device's part of a training batch with `index` [b], the positions of its examples in the global batch.

    The device's microbatches are consecutive parts of it.
    """
    size = len(batch["mask"])
    first = lax.axis_index(axis_name) * size if axis_name else 0
    return {**batch, "index": first + jnp.arange(size, dtype=jnp.int32)}


def train_step(
    state: State,
    batch: Batch,
    *,
    model: nn.Module,
    task: Task,
    optimizer: optax.GradientTransformation,
    transform: Callable | None = None,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    sync_batchnorm: bool = True,
    axis_name: str | None = None,
) -> tuple[State, Sums]:
    """Returns the next state and the step's metrics as (sum, weight), including each loss term.

    Args:
      batch: arrays [b, ...]; under a mapped axis, this device's part of the batch. b must divide by `accumulate`.
      transform: `(rng, batch) -> batch`, preprocessing and augmentation. Its draws depend on the step and on the
        batch's `index`, so that every layout of a batch gives the same ones.
      accumulate: the number of microbatches, which are processed one after the other to save memory. A model with
        synchronised batch statistics needs them side by side instead, which is exact and saves no memory.
      ema_decay: decay of the average of the weights in `state.ema`.
      sync_batchnorm: whether batch statistics are those of the complete batch, over all devices and microbatches.
      axis_name: the mapped axis of devices, or None.
    """
    batch = indexed(batch, axis_name)
    device = lax.axis_index(axis_name) if axis_name else 0
    together = accumulate > 1 and sync_batchnorm and _changes_statistics(model, task, transform, state, batch)
    axes = (axis_name,) * bool(axis_name) + (MICROBATCH,) * together
    key = functools.partial(stream_key, state.rng, state.step)

    def prepared(microbatch):
        with jax.named_scope("augment"):
            return transform(key("augment"), microbatch) if transform else microbatch

    def loss(params, mutable, microbatch, index) -> tuple[Array, tuple[PyTree, PyTree]]:
        microbatch = prepared(microbatch)
        with statistics_over(axes if sync_batchnorm else ()):
            outputs, mutable = model.apply(
                {"params": params, **mutable},
                *(microbatch[name] for name in task.inputs),
                train=True,
                rngs={"dropout": key("dropout", device, index)},
                mutable=list(mutable),
            )
        with jax.named_scope("loss"):
            losses, metrics, _ = task.score(outputs, microbatch)
        part = task.total({term: total / jnp.maximum(weights[term], 1e-8) for term, total in losses.items()})
        return part, ((losses, metrics), mutable)

    weights = _weights(task, prepared, batch, accumulate)
    weights = lax.psum(weights, axis_name) if axis_name else weights
    gradient = _together if together else _one_by_one
    grads, (losses, metrics), mutable = gradient(loss, state.params, state.mutable, batch, accumulate)
    if axis_name:
        grads, losses, metrics = lax.psum((grads, losses, metrics), axis_name)
        mutable = _averaged_over_devices(state.mutable, mutable, axis_name)
    metrics = {term: (losses[term], weights[term]) for term in losses} | metrics
    metrics["grad_norm"] = (optax.tree.norm(grads), jnp.ones(()))

    with jax.named_scope("optimizer"):
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema is not None:
        # a young average must forget the initialisation (as in TensorFlow's ExponentialMovingAverage)
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(averaged(params, mutable), ema, 1 - decay)
    return State(state.step + 1, params, mutable, opt_state, ema, state.rng), metrics


def _weights(task: Task, prepared: Callable, batch: Batch, accumulate: int) -> dict[str, Array]:
    """Returns the denominators of this device's batch. The compiler removes all computation that they do not need."""
    if accumulate == 1:
        return task.weights(prepared(batch))
    each = jax.vmap(lambda microbatch: task.weights(prepared(microbatch)))
    return _added_up(each(_split(batch, accumulate)))


def _one_by_one(
    loss: Callable, params: PyTree, mutable: PyTree, batch: Batch, accumulate: int
) -> tuple[PyTree, PyTree, PyTree]:
    """Returns (gradient, sums, mutable collections) of the microbatches, processed one after the other: only the
    activations of one are in memory. Shared collections pass from one microbatch to the next; rows keep their carry.
    """
    gradient = jax.grad(loss, has_aux=True)
    if accumulate == 1:
        grads, (sums, mutable) = gradient(params, mutable, batch, 0)
        return grads, sums, mutable

    def body(so_far, microbatch):
        grads, shared = so_far
        rows, part, index = microbatch
        more, (sums, mutable) = gradient(params, {**shared, **rows}, part, index)
        rows, shared = _rows_and_shared(mutable)
        return (jax.tree.map(jnp.add, grads, more), shared), (sums, rows)

    rows, shared = _rows_and_shared(mutable)
    start = jax.tree.map(jnp.zeros_like, params), shared
    microbatches = _split(rows, accumulate), _split(batch, accumulate), jnp.arange(accumulate)
    (grads, shared), (sums, rows) = lax.scan(body, start, microbatches)
    return grads, _added_up(sums), {**shared, **_merged(rows)}


def _together(
    loss: Callable, params: PyTree, mutable: PyTree, batch: Batch, accumulate: int
) -> tuple[PyTree, PyTree, PyTree]:
    """Returns the same for microbatches side by side, whose batch statistics are those of all of them."""
    rows, shared = _rows_and_shared(mutable)

    def part(params, rows, microbatch, index):
        total, (sums, mutable) = loss(params, {**shared, **rows}, microbatch, index)
        return total, (sums, *_rows_and_shared(mutable))

    def whole(params):
        mapped = jax.vmap(part, in_axes=(None, 0, 0, 0), axis_name=MICROBATCH)
        totals, (sums, rows_, shared) = mapped(params, _split(rows, accumulate), _split(batch, accumulate), indices)
        return totals.sum(), (_added_up(sums), {**jax.tree.map(lambda x: x[0], shared), **_merged(rows_)})

    indices = jnp.arange(accumulate)
    grads, (sums, mutable) = jax.grad(whole, has_aux=True)(params)
    return grads, sums, mutable


def _split(tree: PyTree, accumulate: int) -> PyTree:
    return jax.tree.map(lambda x: rearrange(x, "(micro b) ... -> micro b ...", micro=accumulate), dict(tree))


def _merged(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: rearrange(x, "micro b ... -> (micro b) ..."), tree)


def _added_up(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x.sum(0), tree)


def _rows_and_shared(mutable: Mapping[str, PyTree]) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
    """Separates per-row collections, which are split into microbatches, from shared ones."""
    rows = {name: mutable[name] for name in mutable if name == CARRY}
    return rows, {name: mutable[name] for name in mutable if name != CARRY}


def _averaged_over_devices(before: PyTree, after: PyTree, axis_name: str) -> dict[str, PyTree]:
    """Returns shared collections as their mean over devices, so that every device has the same values; integers, such
    as counters, stay unchanged. Changes are averaged: what a step does not change keeps every bit.
    """

    def mean(old: Array, new: Array) -> Array:
        return old + lax.pmean(new - old, axis_name) if jnp.issubdtype(new.dtype, jnp.inexact) else new

    (_, old), (rows, shared) = _rows_and_shared(before), _rows_and_shared(after)
    return {**jax.tree.map(mean, old, shared), **rows}


def eval_step(
    variables: PyTree,
    batch: Batch,
    *,
    model: nn.Module,
    task: Task,
    transform: Callable | None = None,
    generates: bool = False,
    axis_name: str | None = None,
) -> tuple[Sums, dict[str, Array]]:
    """Returns the loss terms and metrics of a batch as (sum, weight), and the task's arrays per example with `mask`,
    from all devices.

    Args:
      generates: whether the model also generates sequences, for the task's arrays.
    """
    if transform is not None:
        batch = transform(None, batch)
    outputs = model.apply(variables, *(batch[name] for name in task.inputs), train=False)
    losses, metrics, arrays = task.score(outputs, batch)
    weights = task.weights(batch)
    sums = {term: (losses[term], weights[term]) for term in losses} | metrics
    arrays = {**arrays, "mask": batch["mask"]}
    if generates:
        decoded = generate(model, variables, task, batch)
        arrays |= task.generated(decoded.tokens, decoded.lengths, batch)
    if axis_name:
        sums = lax.psum(sums, axis_name)
        arrays = lax.all_gather(arrays, axis_name, tiled=True)
    return sums, arrays


def _changes_statistics(model: nn.Module, task: Task, transform: Callable | None, state: State, batch: Batch) -> bool:
    """Whether training changes batch statistics, which frozen norms do not."""

    def new(statistics: PyTree, state: State, batch: Batch) -> PyTree:
        inputs = transform(state.rng, batch) if transform else batch
        variables, rngs = {**state.variables, "batch_stats": statistics}, {"dropout": state.rng}
        arguments = [inputs[name] for name in task.inputs]
        return model.apply(variables, *arguments, train=True, rngs=rngs, mutable=list(state.mutable))[1]["batch_stats"]

    if "batch_stats" not in state.mutable:
        return False
    jaxpr = jax.make_jaxpr(new)(state.mutable["batch_stats"], state, batch).jaxpr
    return any(all(out is not given for given in jaxpr.invars) for out in jaxpr.outvars)


def mean_metrics(task: Task, sums: Mapping[str, tuple[Any, Any]]) -> dict[str, float]:
    """Returns sum / weight of every metric, and the loss, given the sums over steps or a complete split.

    A metric without weight is NaN. A loss term without weight, such as that of boxes in images without boxes, is 0 if
    another term has weight, as in training; otherwise it is NaN.
    """
    absent = dict.fromkeys(task.coefficients, 0.0 if any(sums[term][1] for term in task.coefficients) else math.nan)
    means = {
        name: float(total / weight) if weight else absent.get(name, math.nan) for name, (total, weight) in sums.items()
    }
    return {**means, "loss": float(task.total(means))}
