"""Cells against their equations, and the hand-made backward pass against automatic differentiation."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from arch.layers import recurrent
from arch.layers.recurrent import GRU, LSTM, Elman
from arch.layers.recurrent_variants import IRNN, VariantElman, VariantGRU, VariantLSTM
from arch.rnn import RecurrentNetwork

pytestmark = pytest.mark.slow

LENGTH, BATCH, FEATURES, UNITS = 6, 3, 4, 5
KEY = jax.random.key(0)
X = jax.random.normal(KEY, (LENGTH, BATCH, FEATURES))
MASK = jnp.arange(LENGTH)[:, None] < jnp.array([6, 2, 4])
VANILLA = functools.partial(VariantLSTM, peepholes=True)
GREFF = {
    "V": {},
    "NIG": {"input_gate": False},
    "NFG": {"forget_gate": False},
    "NOG": {"output_gate": False},
    "NIAF": {"input_activation": None},
    "NOAF": {"output_activation": None},
    "NP": {"peepholes": False},
    "CIFG": {"coupled": True},
    "FGR": {"full_gate_recurrence": True},
}
CELLS = {
    "LSTM": LSTM,
    "GRU": GRU,
    "Elman": Elman,
    "ReLU": functools.partial(Elman, activation=nn.relu),
    **{name: functools.partial(VANILLA, **fields) for name, fields in GREFF.items()},
    "LSTM normed": functools.partial(VANILLA, layer_norm=True),
    "LSTM zoneout": functools.partial(VariantLSTM, zoneout=0.3, zoneout_cell=0.5),
    "LSTM dropout": functools.partial(VANILLA, recurrent_dropout=0.4, full_gate_recurrence=True),
    "GRU before": functools.partial(VariantGRU, reset_after=False),
    "GRU normed": functools.partial(VariantGRU, layer_norm=True, zoneout=0.2),
    "Elman dropout": functools.partial(VariantElman, recurrent_dropout=0.4),
    "IRNN": IRNN,
}


def plain_scan(step, weights, params, state, x, masks, constants):
    """What `recurrence` computes, left to automatic differentiation."""

    def body(state, inputs):
        x, masks = inputs
        x = x @ weights.input_kernel + weights.bias
        u = step.product_input(state, constants) @ weights.recurrent_kernel
        state = step.update(params, (x + u,) if step.additive else (x, u), state, masks)
        return state, state

    return lax.scan(body, state, (x, masks))[1]


def variables_of(cell) -> dict:
    """Returns disturbed parameters: gains and biases that start at one and zero hide mistakes."""
    params = jax.jit(functools.partial(cell.init, train=False))(KEY, X)["params"]
    keys = iter(jax.random.split(jax.random.key(1), len(params)))
    return {"params": {name: p + 0.3 * jax.random.normal(next(keys), p.shape) for name, p in params.items()}}


@pytest.mark.parametrize("name", CELLS)
def test_the_backward_pass_is_automatic_differentiations(name, monkeypatch):
    cell = CELLS[name](units=UNITS)
    variables = variables_of(cell)
    start = {part: jax.random.normal(KEY, (BATCH, UNITS)) for part in cell.state_names}
    targets = jax.random.normal(jax.random.key(2), (LENGTH, BATCH, UNITS))

    def loss(variables, x, start):
        y, last = cell.apply(variables, x, start, MASK, train=True, rngs={"dropout": KEY})
        return (y * targets).sum() + sum(jnp.square(part).sum() for part in last.values()), (y, last)

    results = []
    for scan in (recurrent.recurrence, plain_scan):
        monkeypatch.setattr(recurrent, "recurrence", scan)
        results.append(jax.jit(jax.value_and_grad(lambda *a: loss(*a), (0, 1, 2), has_aux=True))(variables, X, start))
    for ours, reference in zip(*map(jax.tree.leaves_with_path, results), strict=True):
        np.testing.assert_allclose(ours[1], reference[1], rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(ours[0]))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_equations_of_the_lstm():
    cell = LSTM(units=UNITS)
    variables = variables_of(cell)
    params = jax.tree.map(np.asarray, variables["params"])
    h, c, outputs = np.zeros((BATCH, UNITS)), np.zeros((BATCH, UNITS)), []
    for x in np.asarray(X):
        pre = x @ params["input_kernel"] + h @ params["recurrent_kernel"] + params["bias"]
        i, f, g, o = np.split(pre, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    y, state = cell.apply(variables, X, train=False)
    np.testing.assert_allclose(y, outputs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["c"], c, rtol=1e-4, atol=1e-5)


def test_the_equations_of_the_gru():
    cell = GRU(units=UNITS)
    variables = variables_of(cell)
    params = jax.tree.map(np.asarray, variables["params"])
    h, outputs = np.zeros((BATCH, UNITS)), []
    for x in np.asarray(X):
        x_r, x_z, x_n = np.split(x @ params["input_kernel"] + params["bias"], 3, -1)
        u_r, u_z, u_n = np.split(h @ params["recurrent_kernel"], 3, -1)
        r, z = sigmoid(x_r + u_r), sigmoid(x_z + u_z)
        h = (1 - z) * np.tanh(x_n + r * (u_n + params["candidate_bias"])) + z * h
        outputs.append(h)
    np.testing.assert_allclose(cell.apply(variables, X, train=False)[0], outputs, rtol=1e-4, atol=1e-5)


def test_each_gate_is_initialised_on_its_own_and_remembers():
    params = LSTM(units=UNITS).init(KEY, X, train=False)["params"]
    for kernel in np.split(params["recurrent_kernel"], 4, -1):
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(UNITS), atol=1e-5)
    np.testing.assert_array_equal(params["bias"], np.repeat([0, 1, 0, 0], UNITS))


def test_states_are_float32_whatever_the_compute_type():
    cell = LSTM(units=UNITS, dtype=jnp.bfloat16)
    y, state = cell.apply(cell.init(KEY, X, train=False), X, train=False)
    assert y.dtype == jnp.bfloat16 and {part.dtype for part in state.values()} == {jnp.dtype("float32")}


def products_in_loops(jaxpr, looped=False):
    """Returns how many matrix products the bodies of all loops have together."""
    count = 0
    for equation in jaxpr.eqns:
        count += looped and equation.primitive.name == "dot_general"
        inner = looped or equation.primitive.name in ("scan", "while")
        values = [x for value in equation.params.values() for x in (value if isinstance(value, tuple) else (value,))]
        parts = [getattr(x, "jaxpr", x) for x in values]
        count += sum(products_in_loops(part, inner) for part in parts if hasattr(part, "eqns"))
    return count


@pytest.mark.parametrize(("cell", "products"), [(LSTM, 2), (Elman, 2), (GRU, 3)])
def test_few_products_a_step_make_a_gradient(cell, products):
    """One forward (two in the GRU) and one backward, on any platform; differentiating flax's cell leaves five."""

    def count(layer, **mode):
        x = jnp.swapaxes(X, 0, 1)
        gradient = jax.grad(lambda params: jnp.sum(layer.apply(params, x, **mode)))
        return products_in_loops(jax.make_jaxpr(gradient)(layer.init(KEY, x, **mode)).jaxpr)

    assert count(RecurrentNetwork(cell=cell, widths=(UNITS,)), train=True) == products
    assert count(nn.RNN(nn.OptimizedLSTMCell(UNITS))) == 5
