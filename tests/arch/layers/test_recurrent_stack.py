"""Stacks: lengths are exact, states carry on, dropout and residuals are where they should be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.recurrent import GRU, LSTM
from arch.layers.recurrent_stack import Recurrent, reverse
from arch.layers.recurrent_variants import VariantLSTM

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
LENGTHS = jnp.array([3, 6, 1])
X = jax.random.normal(KEY, (3, 6, 4))
CLOSE = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def test_sequences_are_reversed_within_their_lengths():
    x = jnp.arange(10.0).reshape(5, 2, 1)
    turned = reverse(x, jnp.array([3, 5]))
    np.testing.assert_array_equal(turned[..., 0].T, [[4, 2, 0, 6, 8], [9, 7, 5, 3, 1]])
    np.testing.assert_array_equal(reverse(turned, jnp.array([3, 5])), x)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(bidirectional):
    """Whatever stands in it, even no number: outputs, states and gradients are those of each sequence alone."""
    model = Recurrent(cell=LSTM, widths=(5, 5), bidirectional=bidirectional, residual=True)
    variables = jax.jit(functools.partial(model.init, train=False))(KEY, X)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def loss(variables, x, lengths):
        y, states = model.apply(variables, x, None, lengths, train=False)
        return jnp.square(y).sum() + sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(states)), (y, states)

    padding = jnp.arange(6)[None, :, None] >= LENGTHS[:, None, None]
    (_, (y, states)), (d_variables, d_x) = loss(variables, jnp.where(padding, jnp.nan, X), LENGTHS)
    assert not jnp.where(padding, y, 0).any() and not jnp.where(padding, d_x, 0).any()
    total = jax.tree.map(jnp.zeros_like, variables)
    for row, length in enumerate(LENGTHS):
        (_, (alone, last)), (more, d_alone) = loss(variables, X[row : row + 1, :length], None)
        CLOSE(y[row, :length], alone[0])
        CLOSE(d_x[row, :length], d_alone[0])
        jax.tree.map(lambda all_rows, one, row=row: CLOSE(all_rows[row], one[0]), states, last)
        total = jax.tree.map(jnp.add, total, more)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), d_variables, total)


@pytest.mark.parametrize("cell", [LSTM, GRU, functools.partial(VariantLSTM, full_gate_recurrence=True)])
def test_states_carry_on(cell):
    model = Recurrent(cell=cell, widths=(5, 3))
    variables = jax.jit(functools.partial(model.init, train=False))(KEY, X)
    apply = jax.jit(functools.partial(model.apply, train=False))
    whole, last = apply(variables, X)
    states, parts = None, []
    for part in (X[:, :3], X[:, 3:]):
        y, states = apply(variables, part, states)
        parts.append(y)
    CLOSE(jnp.concatenate(parts, 1), whole)
    jax.tree.map(CLOSE, states, last)


@pytest.mark.parametrize("variational", [False, True])
def test_variational_dropout_has_one_mask_for_all_steps(variational):
    """Found in the first layer's gradient: of what is dropped at all steps, the kernel's rows have none."""
    model = Recurrent(cell=GRU, widths=(5, 40), dropout=0.5, variational=variational)
    x = jnp.ones((1, 12, 4))
    params = model.init(KEY, x, train=False)["params"]

    def loss(params):
        return model.apply({"params": params}, x, train=True, rngs={"dropout": KEY})[0].sum()

    rows = np.abs(jax.grad(loss)(params)["layer2_forward"]["input_kernel"]).sum(1)
    assert (rows == 0).any() == variational and (rows > 0).any()


def test_residuals_are_added_where_widths_agree():
    def outputs(residual, widths):
        model = Recurrent(cell=GRU, widths=widths, residual=residual)
        return model.apply(model.init(KEY, X, train=False), X, train=False)[0]

    CLOSE(outputs(True, (4,)), outputs(False, (4,)) + X)
    np.testing.assert_array_equal(outputs(True, (5,)), outputs(False, (5,)))


def test_many_networks_train_at_once():
    """The backward pass under `vmap`, as for an ensemble of seeds."""
    model = Recurrent(cell=LSTM, widths=(5,))
    keys = jax.random.split(KEY, 2)

    def gradient(key):
        params = model.init(key, X, train=False)
        return jax.grad(lambda p: jnp.square(model.apply(p, X, None, LENGTHS, train=True)[0]).sum())(params)

    together = jax.jit(jax.vmap(gradient))(keys)
    for i, key in enumerate(keys):
        jax.tree.map(lambda a, b, i=i: CLOSE(a[i], b), together, jax.jit(gradient)(key))
