"""The gates' functions against numpy's, and what they are for: XLA divides their loop among the cores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from arch.layers.gates import sigmoid, tanh
from training.parallel import cores

X = np.linspace(-30, 30, 1_000_001).astype(np.float32)


def true_sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("function", "reference"), [(tanh, np.tanh), (sigmoid, true_sigmoid)])
def test_they_are_exact_to_float32(function, reference):
    y = np.asarray(jax.jit(function)(X))
    np.testing.assert_allclose(y, reference(X.astype(np.float64)), rtol=0, atol=4e-7)
    assert y.dtype == np.float32 and np.abs(y).max() <= 1


@pytest.mark.parametrize(
    ("function", "reference"),
    [(tanh, lambda x: 1 - np.tanh(x) ** 2), (sigmoid, lambda x: true_sigmoid(x) * true_sigmoid(-x))],
)
def test_their_derivatives(function, reference):
    x = X[::1000]
    np.testing.assert_allclose(jax.vmap(jax.grad(function))(x), reference(x.astype(np.float64)), rtol=0, atol=1e-6)


def test_low_precision_is_rounded_once():
    x = jnp.asarray(X[::1000], jnp.bfloat16)
    y = tanh(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, jnp.tanh(x.astype(jnp.float32)).astype(jnp.bfloat16))


@pytest.mark.skipif(cores() < 2, reason="one core")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of CPUs")
def test_a_cpu_divides_the_loop_among_its_cores():
    x = jnp.ones((64, 128))

    def divided(function) -> bool:
        loop = jax.jit(lambda x: lax.fori_loop(0, 9, lambda _, x: function(x), x))
        return "outer_dimension_partitions" in loop.lower(x).compile().as_text()

    assert divided(tanh) and divided(sigmoid) and not divided(jnp.tanh)


def test_other_platforms_have_their_own():
    text = jax.jit(tanh).trace(jnp.ones(3)).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.tanh" in text and "divide" not in text
