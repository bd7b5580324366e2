"""Variants of cells: at their defaults they are the plain ones, and each part does what its paper describes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.recurrent import GRU, LSTM, Elman
from arch.layers.recurrent_variants import IRNN, VariantElman, VariantGRU, VariantLSTM
from tests.arch.layers.test_recurrent import BATCH, FEATURES, GREFF, KEY, LENGTH, UNITS, X, sigmoid, variables_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("variant", "plain"), [(VariantElman, Elman), (VariantLSTM, LSTM), (VariantGRU, GRU)], ids=["Elman", "LSTM", "GRU"]
)
def test_a_variant_with_its_defaults_is_the_plain_cell(variant, plain):
    variables = jax.jit(functools.partial(plain(units=UNITS).init, train=False))(KEY, X)
    same = jax.jit(functools.partial(variant(units=UNITS).init, train=False))(KEY, X)
    jax.tree.map(np.testing.assert_array_equal, variables, same)
    expected, actual = (cell(units=UNITS).apply(variables, X, train=False) for cell in (plain, variant))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), actual, expected)


@pytest.mark.parametrize("name", GREFF)
def test_the_equations_of_greffs_lstms(name):
    """arXiv 1503.04069, sec. II and III."""
    cell = VariantLSTM(units=UNITS, **{"peepholes": True, **GREFF[name]})
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


def test_layer_norm_is_of_all_gates_at_once():
    """arXiv 1607.06450, eq. 20-22."""
    cell = VariantLSTM(units=UNITS, layer_norm=True)
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


def adder(**fields):
    """Returns y of `y[t] = x[t] + mask * y[t-1]`."""
    cell = VariantElman(units=FEATURES, activation=lambda x: x, **fields)
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


def test_a_gru_that_resets_before_refuses_what_it_lacks():
    with pytest.raises(ValueError, match="reset_after=False"):
        VariantGRU(units=UNITS, reset_after=False, layer_norm=True).init(KEY, X, train=False)


@pytest.mark.parametrize("after", [True, False])
def test_the_equations_of_both_grus(after):
    cell = VariantGRU(units=UNITS, reset_after=after)
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
