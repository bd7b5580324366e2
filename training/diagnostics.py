"""Gradient norms of every layer and time step, which show vanishing and exploding gradients (Pascanu 2013, arXiv
1211.5063).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict
from jax import lax
from jaxtyping import Array, Float

from arch.layers.norm import statistics_over
from arch.layers.tap import TAPS
from data.augment.transform import Transform
from tasks.task import Task
from training.state import State
from training.step import Batch, indexed, stream_key

LAYER, TIME = "layer/", "time/"  # prefixes of the names of the norms


def gradient_norms(
    state: State,
    batch: Batch,
    *,
    model: nn.Module,
    task: Task,
    transform: Transform,
    sync_batchnorm: bool = True,
    axis_name: str | None = None,
) -> dict[str, Float[Array, "*t"]]:
    """Returns norms of the gradient of the mean loss for the coming step.

    "layer/PATH" is the norm for the parameters of a module itself. "time/PATH" [t] is the norm, at each position and
    over all examples, for an activation marked by `arch.layers.tap`: the input of a recurrent layer. Augmentation and
    dropout use the keys of the step, as for one microbatch.
    """
    device = lax.axis_index(axis_name) if axis_name else 0
    batch = transform(stream_key(state.rng, state.step, "augment"), indexed(batch, axis_name))
    weights = task.weights(batch)
    weights = lax.psum(weights, axis_name) if axis_name else weights
    rngs = {"dropout": stream_key(state.rng, state.step, "dropout", device)}

    def apply(variables, mutable):
        inputs = (batch[name] for name in task.inputs)
        with statistics_over((axis_name,) if axis_name and sync_batchnorm else ()):
            return model.apply({**variables, **state.mutable}, *inputs, train=True, rngs=rngs, mutable=mutable)

    def loss(variables):
        losses = task.score(apply(variables, list(state.mutable))[0], batch).losses
        return task.total({term: total / jnp.maximum(weights[term], 1e-8) for term, total in losses.items()})

    _, changed = jax.eval_shape(lambda: apply({"params": state.params}, [*state.mutable, TAPS]))
    tapped = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), changed.get(TAPS, {}))
    grads = jax.grad(loss)({"params": state.params} | ({TAPS: tapped} if tapped else {}))
    squares = {
        TIME + "/".join(path): jnp.sum(jnp.square(x), axis=(0, *range(2, x.ndim)))
        for path, x in flatten_dict(grads.get(TAPS, {})).items()
    }
    params = grads["params"]
    if axis_name:
        params, squares = lax.psum((params, squares), axis_name)
    layers: dict[str, list[Array]] = {}
    for path, x in flatten_dict(params).items():
        layers.setdefault(LAYER + ("/".join(path[:-1]) or path[0]), []).append(x)
    return {name: optax.tree.norm(leaves) for name, leaves in layers.items()} | jax.tree.map(jnp.sqrt, squares)
