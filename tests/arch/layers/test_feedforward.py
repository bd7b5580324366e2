"""Activations and the feed-forward layer against their equations in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from arch.layers.feedforward import FeedForward, gelu_exact, gelu_tanh, relu_squared
from arch.layers.mixer import Context

X = np.linspace(-6, 6, 241)
EXACT = X * scipy.special.ndtr(X)  # x P(normal < x)
ACTIVATIONS = {
    "exact gelu": (gelu_exact, EXACT),
    "tanh gelu": (gelu_tanh, 0.5 * X * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)))),
    "squared relu": (relu_squared, np.where(X > 0, X**2, 0)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_follow_their_formula(name):
    function, expected = ACTIVATIONS[name]
    np.testing.assert_allclose(function(jnp.asarray(X, jnp.float32)), expected, rtol=1e-5, atol=2e-6)


def test_the_two_gelus_differ():
    assert np.abs(ACTIVATIONS["tanh gelu"][1] - EXACT).max() > 3e-4
    assert np.abs(gelu_tanh(jnp.asarray(X, jnp.float32)) - EXACT).max() > 3e-4


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_the_layer_computes_its_equation(gated, bias):
    x, context = jax.random.normal(jax.random.key(0), (2, 3, 4)), Context(jnp.arange(3)[None])
    module = FeedForward(6, jax.nn.silu, gated=gated, bias=bias, dropout=0.5)
    rng = np.random.default_rng(0)
    params = module.init(jax.random.key(0), x, context)["params"]
    params = jax.tree.map(lambda p: rng.standard_normal(p.shape, np.float32), params)
    assert set(params) == ({"hidden", "gate", "out"} if gated else {"hidden", "out"})

    def dense(name, y):
        return y @ np.float64(params[name]["kernel"]) + np.float64(params[name].get("bias", 0))

    hidden = dense("hidden", np.float64(x))
    hidden = hidden / (1 + np.exp(-hidden))
    if gated:
        hidden = hidden * dense("gate", np.float64(x))
    y, cache = module.apply({"params": params}, x, context)
    np.testing.assert_allclose(y, dense("out", hidden), rtol=1e-4, atol=1e-5)
    assert cache is None and ("bias" in params["hidden"]) == bias
