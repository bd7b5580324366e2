"""Normalisations under one signature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers import norm

X = 3 + 2 * jax.random.normal(jax.random.key(0), (8, 5, 4))
NORMS = {
    "batch": (norm.batch_norm, (0, 1)),
    "layer": (norm.layer_norm, (2,)),
    "groups": (functools.partial(norm.group_norm, groups=1), (1, 2)),
}


@pytest.mark.parametrize("name", NORMS)
def test_mean_and_variance_go_over_the_right_axes(name):
    function, axes = NORMS[name]
    y, _ = function(train=True).init_with_output(jax.random.key(0), X)
    np.testing.assert_allclose(np.mean(y, axes), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(y, axes), 1, atol=1e-3)


@pytest.mark.parametrize("name", NORMS)
def test_the_scale_starts_as_asked_and_bfloat16_keeps_float32_parameters(name):
    function, _ = NORMS[name]
    module = function(train=False, dtype=jnp.bfloat16, scale_init=jax.nn.initializers.zeros)
    y, variables = module.init_with_output(jax.random.key(0), X)
    assert y.dtype == jnp.bfloat16 and not y.any()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_identity_is_the_input_and_has_nothing_to_learn():
    y, variables = norm.identity(train=True).init_with_output(jax.random.key(0), X)
    assert not variables
    np.testing.assert_array_equal(y, X)


@pytest.mark.parametrize("names", [("devices",), ("devices", "microbatches")])
def test_batch_statistics_are_those_of_all_devices(names):
    with norm.statistics_over(names):
        variables = norm.batch_norm(train=True).init(jax.random.key(0), X)  # no axis is needed here

    def apply(x):
        with norm.statistics_over(names):
            return norm.batch_norm(train=True).apply(variables, x, mutable=["batch_stats"])

    whole, statistics = norm.batch_norm(train=True).apply(variables, X, mutable=["batch_stats"])
    split = (2,) * len(names)
    for name in reversed(names):
        apply = jax.vmap(apply, axis_name=name)
    parts, split_statistics = apply(X.reshape(*split, -1, *X.shape[1:]))
    np.testing.assert_allclose(parts.reshape(X.shape), whole, atol=1e-5)
    for one, all_ in zip(jax.tree.leaves(split_statistics), jax.tree.leaves(statistics), strict=True):
        np.testing.assert_allclose(one, np.broadcast_to(all_, one.shape), atol=1e-5)


@pytest.mark.parametrize("spread", [0.1, 0.01])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_numbers_far_from_zero_are_normalised_precisely(name, spread):
    """A variance computed as mean(x^2) - mean(x)^2 in float32 is noise here, or negative."""
    x = np.random.default_rng(0).normal(1000, spread, (64, 48)).astype(np.float32)
    exact = x.astype(np.float64)
    centred = exact - exact.mean(-1, keepdims=True) if name == "layer_norm" else exact
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    module = getattr(norm, name)(train=False)
    y, _ = jax.jit(module.init_with_output)(jax.random.key(0), x)
    np.testing.assert_allclose(y, expected, atol=1e-3)
    half, _ = jax.jit(getattr(norm, name)(train=False, dtype=jnp.bfloat16).init_with_output)(jax.random.key(0), x)
    np.testing.assert_allclose(half.astype(np.float64), expected, rtol=1e-2, atol=1e-2)


def test_rms_norm_divides_by_the_root_mean_square():
    scale = np.arange(1.0, 5.0, dtype=np.float32)
    y = norm.rms_norm(train=False, epsilon=0.5).apply({"params": {"scale": scale}}, X)
    exact = np.asarray(X, np.float64)
    np.testing.assert_allclose(y, scale * exact / np.sqrt((exact**2).mean(-1, keepdims=True) + 0.5), rtol=1e-5)
