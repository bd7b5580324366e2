"""Our convolution is flax's: the same parameters, outputs and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.conv import Conv

pytestmark = pytest.mark.slow

CASES = {
    "3x3": {"features": 6, "kernel_size": (3, 3)},
    "1x1 stride 2": {"features": 6, "kernel_size": (1, 1), "strides": 2},
    "7x7 stride 2, own padding": {"features": 6, "kernel_size": (7, 7), "strides": 2, "padding": 3},
    "dilated": {"features": 6, "kernel_size": (3, 3), "kernel_dilation": 2},
    "depthwise": {"features": 4, "kernel_size": (3, 3), "feature_group_count": 4},
    "valid, no bias": {"features": 6, "kernel_size": (3, 2), "padding": "VALID", "use_bias": False},
    "bfloat16": {"features": 6, "kernel_size": (3, 3), "dtype": jnp.bfloat16},
    "1-D causal": {"features": 6, "kernel_size": (3,), "padding": "CAUSAL", "kernel_dilation": 2},
    "3-D": {"features": 3, "kernel_size": (3, 3, 3)},
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_flax(name):
    fields = CASES[name]
    shape = (2, *(9,) * len(fields["kernel_size"]), 4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    variables = nn.Conv(**fields).init(jax.random.key(0), x)

    def value(conv):
        def loss(variables, x):
            y = jnp.tanh(conv(**fields).apply(variables, nn.relu(x)))
            return (y**2).sum(), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(variables, x)

    assert jax.tree.structure(Conv(**fields).init(jax.random.key(0), x)) == jax.tree.structure(variables)
    for ours, theirs in zip(jax.tree.leaves(value(Conv)), jax.tree.leaves(value(nn.Conv)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(
            np.asarray(ours, np.float32),
            np.asarray(theirs, np.float32),
            rtol=1e-5,
            atol=1e-5 * float(abs(theirs).max()),
        )


def test_other_platforms_get_the_plain_convolution():
    x, fields = jnp.ones((2, 8, 8, 4)), CASES["3x3"]
    variables = Conv(**fields).init(jax.random.key(0), x)
    gradient = jax.jit(jax.grad(lambda variables: (Conv(**fields).apply(variables, x) ** 2).sum()))
    lowered = {name: gradient.trace(variables).lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
    # the choice of the platform itself is a case of a constant, which compilers remove; this is the one that stays
    assert "stablehlo.compare" in lowered["cpu"] and "stablehlo.compare" not in lowered["cuda"]


def test_a_kernel_that_became_nan_shows():
    x, fields = jnp.ones((1, 5, 5, 4)), CASES["3x3"]
    variables = jax.tree.map(lambda p: p * jnp.nan, Conv(**fields).init(jax.random.key(0), x))
    gradient = jax.grad(lambda variables: Conv(**fields).apply(variables, x).sum())(variables)
    assert bool(jnp.isnan(gradient["params"]["kernel"]).any())
