"""The state of training: parameters, mutable collections, optimizer state, average of the weights, random key."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, PRNGKeyArray, PyTree

CARRY = "carry"  # collection of a model's state per row of the batch, carried to the next batch: leaves [batch, ...]


@struct.dataclass
class State:
    """All that a run needs to continue, except config and data. A tree: its leaves may also be shapes or shardings."""

    step: Any  # int32
    params: Any
    mutable: Any  # collections that the model declares, such as batch_stats
    opt_state: Any
    ema: Any  # None, or the average of {params, mutable collections}
    rng: Any  # typed key of the run; a step folds its number into it

    @property
    def variables(self) -> dict[str, PyTree]:
        """The variables for `model.apply`."""
        return {"params": self.params, **self.mutable}


def create(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    inputs: tuple[Array | jax.ShapeDtypeStruct, ...],
    rng: PRNGKeyArray,
    *,
    batch_size: int = 1,
    ema: bool = False,
) -> State:
    """Returns the state of step 0. Only the shapes of `inputs` matter. Compiled as one program, which is faster than
    op by op.

    `batch_size` is that of the training batches, for each row of which a model may carry a state from batch to batch;
    it starts as zeros.
    """

    def init(rng):
        shapes = [jnp.zeros(x.shape, x.dtype) for x in inputs]
        variables = model.init({"params": jax.random.fold_in(rng, 0)}, *shapes, train=False)
        mutable = {name: variables[name] for name in variables if name != "params"}
        if CARRY in mutable:
            empty = jax.tree.map(lambda x: jnp.zeros((batch_size, *x.shape[1:]), x.dtype), mutable[CARRY])
            mutable = {**mutable, CARRY: empty}
        params = variables["params"]
        # a copy: the step donates its state, and no buffer may be donated twice
        average = jax.tree.map(jnp.copy, averaged(params, mutable)) if ema else None
        return State(jnp.zeros((), jnp.int32), params, mutable, optimizer.init(params), average, rng)

    return jax.jit(init)(rng)


def not_finite(state: State, run: int | None = None) -> str:
    """Returns the path of the first weight or statistic with NaN or infinity; "" if all are finite.

    Args:
        run: index along the leading axis of the states of several runs.
    """
    for path, x in jax.tree_util.tree_leaves_with_path({**state.variables, "ema": state.ema}):
        if jnp.issubdtype(x.dtype, jnp.inexact):
            is_here = not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
            values = np.asarray(x, np.float32)[... if run is None else run] if is_here else x
            if not (np if is_here else jnp).isfinite(values).all():
                return jax.tree_util.keystr(path, simple=True, separator="/")
    return ""


def averaged(params: PyTree, mutable: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Returns the variables that the EMA averages: parameters and statistics, but not the carried state."""
    return {"params": params, **{name: mutable[name] for name in mutable if name != CARRY}}
