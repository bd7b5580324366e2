"""The scan of recurrent layers, with a backward pass of its own; `benchmarks.step` compares it with PyTorch's layers.

A step is two matrix products, for input and state, and elementwise work on their results, the pre-activations. If only
the sum of the two is needed, they are one product of the concatenated operands. Automatic differentiation of a scan
adds up the kernels' gradients step by step and saves every intermediate value. Here only states and pre-activations are
saved. The backward pass repeats the elementwise work, writes the gradients of the pre-activations over them, and
computes each kernel's gradient as one product over all steps and examples. Inputs are projected inside the loop: on a
CPU the memory traffic of [t, b, k] costs more than one large product saves.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

# Shapes: t steps, b batch, f input features, n units, m input width of the recurrent kernel, k and r output widths of
# the input and the recurrent kernel.

State = dict[str, Float[Array, "b _"]]  # [b, n]: "h", the output, and the other parts of the cell's memory


class Step(NamedTuple):
    """A cell's step, as pure functions.

    Attributes:
        product_input: (state, constants) -> [b, m], the input of the recurrent product.
        update: (params, pre, state, masks) -> state. `pre` is `(x + u,)` if `additive`, else `(x, u)`, where x [b, k]
            is the projected input and u [b, r] the recurrent product.
        additive: whether `update` needs only the sum x + u.
    """

    product_input: Callable[[State, Any], Array]
    update: Callable[[Any, tuple[Array, ...], State, Any], State]
    additive: bool


class Weights(NamedTuple):
    """The weights of both products, in the compute type."""

    input_kernel: Float[Array, "f k"]
    recurrent_kernel: Float[Array, "m r"]
    bias: Float[Array, " k"]


def at(tree: Any, t: Array) -> Any:
    """Returns step `t` of every leaf [t, ...]."""
    return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, t, keepdims=False), tree)


def put(tree: Any, values: Any, t: Array) -> Any:
    """Returns the leaves [t, ...] with step `t` replaced."""
    return jax.tree.map(lambda leaf, value: lax.dynamic_update_index_in_dim(leaf, value, t, 0), tree, values)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrence(
    step: Step, weights: Weights, params: Any, state: State, x: Float[Array, "t b f"], masks: Any, constants: Any
) -> dict[str, Float[Array, "t b _"]]:
    """Returns the states after each step.

    Args:
        params: other parameters of `update` (peepholes, gains): their gradients are added up step by step.
        state: before the first step.
        masks: arrays [t, ...], of which `update` gets one step. Not differentiated.
        constants: arrays that `product_input` gets at every step (dropout masks). Not differentiated.
    """
    return _forward(step, weights, params, state, x, masks, constants)[0]


def _forward(step, weights, params, state, x, masks, constants):
    def body(t, loop):
        state, states, saved = loop
        inputs, remembered = at(x, t), step.product_input(state, constants).astype(x.dtype)
        if step.additive:
            pre = (jnp.concatenate([inputs, remembered], axis=1) @ both + weights.bias,)
        else:
            pre = (inputs @ weights.input_kernel + weights.bias, remembered @ weights.recurrent_kernel)
        state = step.update(params, pre, state, at(masks, t))
        return state, put(states, state, t), put(saved, pre, t)

    def empty(leaf):  # behind a barrier, or XLA shares one buffer of zeros and copies it for each user
        return lax.optimization_barrier(jnp.zeros((length, *leaf.shape), leaf.dtype))

    length, batch, _ = x.shape
    both = jnp.concatenate(weights[:2]) if step.additive else None
    widths = [kernel.shape[1] for kernel in weights[step.additive : 2]]
    states, saved = jax.tree.map(empty, (state, tuple(jnp.zeros((batch, width), x.dtype) for width in widths)))
    _, states, saved = lax.fori_loop(0, length, body, (state, states, saved))
    return states, saved


def _forward_saving(step, weights, params, state, x, masks, constants):
    states, saved = _forward(step, weights, params, state, x, masks, constants)
    return states, (weights, params, state, x, masks, constants, states, saved)


def _backward(step, residuals, d_states):
    weights, params, start, x, masks, constants, states, saved = residuals
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), start, states)
    length, kernel_transposed = len(x), weights.recurrent_kernel.T

    def body(i, loop):
        d_state, d_params, saved = loop
        t = length - 1 - i
        state, step_masks = at(before, t), at(masks, t)
        pre = lax.optimization_barrier(at(saved, t))  # read before it is overwritten: else XLA copies all of `saved`
        _, pull = jax.vjp(lambda params, pre, state: step.update(params, pre, state, step_masks), params, pre, state)
        more, d_pre, d_before = pull(jax.tree.map(jnp.add, d_state, at(d_states, t)))
        product_input, pull = jax.vjp(lambda state: step.product_input(state, constants), state)
        (d_through,) = pull((d_pre[-1] @ kernel_transposed).astype(product_input.dtype))
        d_state = jax.tree.map(jnp.add, d_before, d_through)
        return d_state, jax.tree.map(jnp.add, d_params, more), put(saved, d_pre, t)

    zeros = jax.tree.map(jnp.zeros_like, (start, params))
    d_start, d_params, d_pre = lax.fori_loop(0, length, body, (*zeros, saved))
    inputs = jax.vmap(lambda state: step.product_input(state, constants))(before).astype(x.dtype)
    d_projected, d_recurrent = (d.reshape(-1, d.shape[-1]) for d in (d_pre[0], d_pre[-1]))
    d_weights = Weights(
        x.reshape(-1, x.shape[-1]).T @ d_projected,
        inputs.reshape(-1, inputs.shape[-1]).T @ d_recurrent,
        d_projected.sum(0),
    )
    d_x = (d_projected @ weights.input_kernel.T).reshape(x.shape)
    return d_weights, d_params, d_start, d_x, None, None


recurrence.defvjp(_forward_saving, _backward)
