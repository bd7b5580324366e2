"""THE step: one function for every architecture, task, device count and accumulation.

Losses and gradients are summed over examples, microbatches and devices and divided once by the summed weight, so every
layout of the same batch gives the same update. Only this file and `training.parallel` know of more than one device.
"""

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
from training.decoding import generate
from training.state import CARRY, State, averaged

MICROBATCH = "microbatch"  # name of the mapped axis of microbatches
Batch = Mapping[str, Array | np.ndarray]
Sums = dict[str, tuple[Array, Array]]  # metric -> (sum, weight)


def stream_key(rng: PRNGKeyArray, step, stream: str, device=0, microbatch=0) -> PRNGKeyArray:
    """Returns the key of one stream ("dropout", "augment") at one step, device and microbatch; no two share a key."""
    key = jax.random.fold_in(rng, step)
    for part in (zlib.crc32(stream.encode()), device, microbatch):
        key = jax.random.fold_in(key, part)
    return key


def train_step(
    state: State,
    batch: Batch,
    *,
    model: nn.Module,
    task: Any,
    optimizer: optax.GradientTransformation,
    transform: Callable | None = None,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    sync_batchnorm: bool = True,
    axis_name: str | None = None,
) -> tuple[State, Sums]:
    """Returns the next state and the step's metrics as (sum, weight).

    Args:
      batch: arrays [b, ...]; under a mapped axis, this device's part of the batch. b must divide by `accumulate`.
      transform: `(rng, batch) -> batch`, preprocessing and augmentation.
      accumulate: the number of microbatches, which are processed one after the other to save memory. A model with
        synchronised batch statistics needs them side by side instead, which is exact and saves no memory.
      ema_decay: of the average of the weights in `state.ema`.
      sync_batchnorm: whether batch statistics are those of the whole batch, over all devices and microbatches.
      axis_name: the mapped axis of devices, None without one.
    """
    device = lax.axis_index(axis_name) if axis_name else 0
    together = accumulate > 1 and sync_batchnorm and "batch_stats" in state.mutable
    axes = ((axis_name,) if axis_name else ()) + ((MICROBATCH,) if together else ())

    def loss(params, mutable, microbatch, index) -> tuple[Array, tuple[Array, Sums, PyTree]]:
        def key(stream):
            return stream_key(state.rng, state.step, stream, device, index)

        if transform is not None:
            microbatch = transform(key("augment"), microbatch)
        with statistics_over(axes if sync_batchnorm else ()):
            outputs, mutable = model.apply(
                {"params": params, **mutable},
                *(microbatch[name] for name in task.inputs),
                train=True,
                rngs={"dropout": key("dropout")},
                mutable=list(mutable),
            )
        total, weight = task.loss(outputs, microbatch)
        metrics = {"loss": (total, weight), **_sums(task.metrics(outputs, microbatch))}
        return total, (weight, metrics, mutable)

    gradient = _summed_gradient(loss, accumulate, together)
    (_, (weight, metrics, mutable)), grads = gradient(state.params, state.mutable, batch)
    if axis_name:
        weight, metrics, grads = lax.psum((weight, metrics, grads), axis_name)
        if "batch_stats" in mutable:  # the same on every device when BatchNorm is synchronised, else their mean
            mutable = {**mutable, "batch_stats": lax.pmean(mutable["batch_stats"], axis_name)}
    grads = jax.tree.map(lambda g: g / jnp.maximum(weight, 1e-8), grads)
    metrics["grad_norm"] = (optax.tree.norm(grads), jnp.ones(()))

    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema is not None:
        # a young average must not remember the initialisation (as in TensorFlow's ExponentialMovingAverage)
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(averaged(params, mutable), ema, 1 - decay)
    return State(state.step + 1, params, mutable, opt_state, ema, state.rng), metrics


def _summed_gradient(loss: Callable, accumulate: int, together: bool) -> Callable:
    """Returns the value-and-gradient of `loss` summed over `accumulate` microbatches, with summed weight and
    metrics. The memory of each row in the collection CARRY goes with its microbatch. If `together`, microbatches are
    mapped along the axis MICROBATCH; otherwise they are scanned.
    """

    def split(tree):
        return jax.tree.map(lambda x: rearrange(x, "(micro b) ... -> micro b ...", micro=accumulate), tree)

    def merge(tree):
        return jax.tree.map(lambda x: rearrange(x, "micro b ... -> (micro b) ..."), tree)

    def carried(mutable):
        """Returns what belongs to rows, which are split, and what they share."""
        rows = {name: mutable[name] for name in mutable if name == CARRY}
        return rows, {name: mutable[name] for name in mutable if name != CARRY}

    def add_up(stacked):
        return jax.tree.map(lambda x: x.sum(0), stacked)

    def whole(params, mutable, batch):
        return loss(params, mutable, batch, 0)

    def part(params, shared, indexed):
        rows, batch, index = indexed
        total, (weight, metrics, mutable) = loss(params, {**shared, **rows}, batch, index)
        return total, (weight, metrics, *carried(mutable))

    def side_by_side(params, mutable, batch):
        rows, shared = carried(mutable)
        mapped = jax.vmap(part, in_axes=(None, None, 0), axis_name=MICROBATCH)
        total, (*sums, rows, shared) = mapped(params, shared, (*split((rows, dict(batch))), jnp.arange(accumulate)))
        return add_up(total), (*add_up(sums), {**jax.tree.map(lambda x: x[0], shared), **merge(rows)})

    def one_by_one(params, mutable, batch):
        def body(loop, indexed):
            shared, grads = loop
            (total, (*sums, rows, shared)), more = jax.value_and_grad(part, has_aux=True)(params, shared, indexed)
            return (shared, jax.tree.map(jnp.add, grads, more)), (total, *sums, rows)

        rows, shared = carried(mutable)
        start = (shared, jax.tree.map(jnp.zeros_like, params))
        indexed = (*split((rows, dict(batch))), jnp.arange(accumulate))
        (shared, grads), (*sums, rows) = lax.scan(body, start, indexed)
        total, *sums = add_up(sums)
        return (total, (*sums, {**shared, **merge(rows)})), grads

    if accumulate == 1:
        return jax.value_and_grad(whole, has_aux=True)
    return jax.value_and_grad(side_by_side, has_aux=True) if together else one_by_one


def eval_step(
    variables: PyTree,
    batch: Batch,
    *,
    model: nn.Module,
    task: Any,
    transform: Callable | None = None,
    generates: bool = False,
    axis_name: str | None = None,
) -> tuple[Sums, dict[str, Array]]:
    """Returns the metrics of a batch as (sum, weight), and the task's per-example arrays with `mask`, of all
    devices; if `generates`, also of what the model writes by itself.
    """
    if transform is not None:
        batch = transform(None, batch)
    outputs = model.apply(variables, *(batch[name] for name in task.inputs), train=False)
    metrics = task.metrics(outputs, batch)
    sums = {"loss": task.loss(outputs, batch), **_sums(metrics)}
    arrays = {name: value for name, value in metrics.items() if not isinstance(value, tuple)} | {"mask": batch["mask"]}
    if generates:
        decoded = generate(model, variables, task, batch)
        arrays |= task.generated(decoded.tokens, decoded.lengths, batch)
    if axis_name:
        sums = lax.psum(sums, axis_name)
        arrays = lax.all_gather(arrays, axis_name, tiled=True)
    return sums, arrays


def _sums(metrics: Mapping) -> Sums:
    return {name: value for name, value in metrics.items() if isinstance(value, tuple)}
