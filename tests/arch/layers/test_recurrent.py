"""Cells against their equations, and the hand-made backward pass against automatic differentiation."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from arch.layers import recurrent
from arch.layers.recurrent import GRU, IRNN, LSTM, Elman, ReLUElman
from arch.rnn import RecurrentNetwork

LENGTH, BATCH, FEATURES, UNITS = 6, 3, 4, 5
KEY = jax.random.key(0)
X = jax.random.normal(KEY, (LENGTH, BATCH, FEATURES))
MASK = jnp.arange(LENGTH)[:, None] < jnp.array([6, 2, 4])
VANILLA = functools.partial(LSTM, peepholes=True)
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
    **{name: functools.partial(LSTM, **{"peepholes": True, **fields}) for name, fields in GREFF.items()},
    "LSTM normed": functools.partial(VANILLA, layer_norm=True),
    "LSTM zoneout": functools.partial(LSTM, zoneout=0.3, zoneout_cell=0.5),
    "LSTM dropout": functools.partial(VANILLA, recurrent_dropout=0.4, full_gate_recurrence=True),
    "GRU": GRU,
    "GRU before": functools.partial(GRU, reset_after=False),
    "GRU normed": functools.partial(GRU, layer_norm=True, zoneout=0.2),
    "Elman": functools.partial(Elman, recurrent_dropout=0.4),
    "ReLU": ReLUElman,
    "IRNN": functools.partial(IRNN, layer_norm=True),
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


@pytest.mark.parametrize("name", GREFF)
def test_the_equations_of_the_lstm_and_its_variants(name):
    """arXiv 1503.04069, sec. II and III."""
    cell = CELLS[name](units=UNITS)
    params = variables_of(cell)["params"]
    blocks = {part: np.split(p, len(cell.gates), axis=-1) for part, p in params.items() if "peephole" not in part}
    last = {gate: np.zeros((BATCH, UNITS)) for gate in "ifo"}
    h, c, outputs = np.zeros((BATCH, UNITS)), np.zeros((BATCH, UNITS)), []
    for x in np.asarray(X):
        seen = np.concatenate([h, last["i"], last["f"], last["o"]], -1) if name == "FGR" else h

        def z(gate, x=x, seen=seen):
            w, u, b = (blocks[part][cell.gates.index(gate)] for part in ("input_kernel", "recurrent_kernel", "bias"))
            return x @ w + seen @ u + b

        def gate(name, c, z=z):
            return sigmoid(z(name) + (params[f"{name}_peephole"] * c if cell.peepholes else 0))

        i = 1 if name == "NIG" else gate("i", c)
        f = {"NFG": lambda: 1, "CIFG": lambda i=i: 1 - i}.get(name, lambda c=c, gate=gate: gate("f", c))()
        c = f * c + i * (z("g") if name == "NIAF" else np.tanh(z("g")))
        o = 1 if name == "NOG" else gate("o", c)
        h = o * (c if name == "NOAF" else np.tanh(c))
        last = {"i": i, "f": f, "o": o}
        outputs.append(h)
    y, state = cell.apply({"params": params}, X, train=False)
    np.testing.assert_allclose(y, outputs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["c"], c, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("after", [True, False])
def test_the_equations_of_the_gru(after):
    cell = GRU(units=UNITS, reset_after=after)
    params = variables_of(cell)["params"]
    h, outputs = np.zeros((BATCH, UNITS)), []
    for x in np.asarray(X):
        x_r, x_z, x_n = np.split(x @ params["input_kernel"] + params["bias"], 3, -1)
        u = np.split(h @ params["recurrent_kernel"], 3 if after else 2, -1)
        r, z = sigmoid(x_r + u[0]), sigmoid(x_z + u[1])
        candidate = r * (u[2] + params["candidate_bias"]) if after else (r * h) @ params["candidate_kernel"]
        h = (1 - z) * np.tanh(x_n + candidate) + z * h
        outputs.append(h)
    np.testing.assert_allclose(cell.apply({"params": params}, X, train=False)[0], outputs, rtol=1e-4, atol=1e-5)


def test_layer_norm_is_of_all_gates_at_once():
    """arXiv 1607.06450, eq. 20-22."""
    cell = LSTM(units=UNITS, layer_norm=True)
    params = variables_of(cell)["params"]

    def norm(x, gain):
        return gain * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    h, c = np.zeros((BATCH, UNITS)), np.zeros((BATCH, UNITS))
    for x in np.asarray(X):
        z = norm(x @ params["input_kernel"], params["input_gain"])
        z = z + norm(h @ params["recurrent_kernel"], params["recurrent_gain"]) + params["bias"]
        i, f, g, o = np.split(z, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(norm(c, params["cell_gain"]) + params["cell_bias"])
    np.testing.assert_allclose(cell.apply({"params": params}, X, train=False)[0][-1], h, rtol=1e-4, atol=1e-5)


def test_an_irnn_starts_as_an_adder():
    """arXiv 1504.00941, sec. 2: with small inputs each step adds the rectified units to themselves."""
    params = IRNN(units=UNITS).init(KEY, X, train=False)["params"]
    np.testing.assert_array_equal(params["recurrent_kernel"], np.eye(UNITS))
    assert not params["bias"].any() and 5e-4 < params["input_kernel"].std() < 2e-3
    y, _ = IRNN(units=UNITS).apply({"params": params}, jnp.zeros_like(X), {"h": jnp.ones((BATCH, UNITS))}, train=False)
    np.testing.assert_array_equal(y, np.ones((LENGTH, BATCH, UNITS)))


def test_each_gate_is_initialised_on_its_own_and_remembers():
    params = LSTM(units=UNITS).init(KEY, X, train=False)["params"]
    for kernel in np.split(params["recurrent_kernel"], 4, -1):
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(UNITS), atol=1e-5)
    np.testing.assert_array_equal(params["bias"], np.repeat([0, 1, 0, 0], UNITS))


def adder(**fields):
    """Returns y of `y[t] = x[t] + mask * y[t-1]`."""
    cell = Elman(units=FEATURES, activation=None, **fields)
    params = {"input_kernel": jnp.eye(FEATURES), "recurrent_kernel": jnp.eye(FEATURES), "bias": jnp.zeros(FEATURES)}
    return lambda train: np.asarray(cell.apply({"params": params}, X, train=train, rngs={"dropout": KEY})[0])


def test_recurrent_dropout_has_one_mask_for_all_steps():
    y = adder(recurrent_dropout=0.5)(True)
    masks = (y[1:] - np.asarray(X[1:])) / y[:-1]
    np.testing.assert_allclose(masks, np.broadcast_to(masks[:1], masks.shape), rtol=1e-3, atol=1e-4)
    assert set(np.round(masks[0].ravel(), 3)) == {0.0, 2.0}
    np.testing.assert_allclose(adder(recurrent_dropout=0.5)(False), np.cumsum(X, 0), rtol=1e-4, atol=1e-5)


def test_zoneout_keeps_units_and_in_evaluation_the_expected_value():
    """arXiv 1606.01305, eq. 2."""
    y, before = adder(zoneout=0.4)(True), np.zeros((BATCH, FEATURES))
    kept = 0
    for now, x in zip(y, X, strict=True):
        stays = np.isclose(now, before, atol=1e-6)
        assert (stays | np.isclose(now, before + x, atol=1e-5)).all()
        kept, before = kept + stays.sum(), now
    assert 0.2 < kept / y.size < 0.6
    np.testing.assert_allclose(adder(zoneout=0.4)(False), 0.6 * np.cumsum(X, 0), rtol=1e-4, atol=1e-5)


def test_states_are_float32_whatever_the_compute_type():
    cell = LSTM(units=UNITS, dtype=jnp.bfloat16)
    y, state = cell.apply(cell.init(KEY, X, train=False), X, train=False)
    assert y.dtype == jnp.bfloat16 and {part.dtype for part in state.values()} == {jnp.dtype("float32")}


def test_a_gru_that_resets_before_refuses_what_it_lacks():
    with pytest.raises(ValueError, match="reset_after=False"):
        GRU(units=UNITS, reset_after=False, layer_norm=True).init(KEY, X, train=False)


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
