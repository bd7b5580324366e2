"""Forecasts: normalisation of each window, and linear maps of each channel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.forecaster import Forecaster

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (3, 6, 4))


def made(**fields):
    model = Forecaster(num_classes=2 * 4, network=None, **fields)
    params = model.init(KEY, X, train=False)["params"]
    return model, jax.tree.map(lambda p: p + jax.random.normal(KEY, p.shape), params)


@pytest.mark.parametrize("normalisation", ["last", "window"])
def test_a_level_of_the_past_is_a_level_of_the_forecast(normalisation):
    model, params = made(normalisation=normalisation)
    level = jnp.arange(4.0)
    raised = model.apply({"params": params}, X + level, train=False)
    np.testing.assert_allclose(raised, model.apply({"params": params}, X, train=False) + level, rtol=1e-4, atol=1e-4)


def test_a_scale_of_the_past_is_a_scale_of_the_forecast():
    model, params = made(normalisation="window")
    scaled = model.apply({"params": params}, 9 * X, train=False)
    np.testing.assert_allclose(scaled, 9 * model.apply({"params": params}, X, train=False), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("linear", ["shared", "channel"])
def test_the_linear_map_reads_each_channel_by_itself(linear):
    model, params = made(linear=linear)
    forecast = model.apply({"params": params}, X, train=False)
    for channel in range(4):
        own = channel if linear == "channel" else 0
        last = X[:, -1:, channel]
        expected = last + (X[:, :, channel] - last) @ params["linear_kernel"][own] + params["linear_bias"][own]
        np.testing.assert_allclose(forecast[:, :, channel], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalisation", ["none", "last", "window"])
def test_the_first_forecast_is_the_level(normalisation):
    model = Forecaster(num_classes=2 * 4, network=None, normalisation=normalisation)
    forecast = model.apply(model.init(KEY, X, train=False), X, train=False)
    level = {"none": np.zeros((1, 1, 1)), "last": X[:, -1:], "window": X.mean(1, keepdims=True)}[normalisation]
    np.testing.assert_allclose(forecast, jnp.broadcast_to(level, forecast.shape), rtol=1e-5)
