"""Forecasting against scikit-learn's errors on the real examples alone."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error

from tasks.forecasting import Forecasting


def make(seed=0):
    random = np.random.default_rng(seed)
    batch = {
        "past": random.normal(size=(5, 8, 3)).astype(np.float32),
        "future": random.normal(size=(5, 4, 3)).astype(np.float32),
        "mask": np.array([1, 1, 1, 0, 0], np.float32),
    }
    return jnp.asarray(random.normal(size=(5, 4, 3)), jnp.float32), batch


def flat(x):
    return np.asarray(x)[:3].reshape(-1)


@pytest.mark.parametrize("vector", [False, True])
def test_errors(vector):
    outputs, batch = make()
    given = outputs.reshape(5, 12) if vector else outputs
    metrics = Forecasting().metrics(given, batch)
    expected = {
        "mse": mean_squared_error(flat(outputs), flat(batch["future"])),
        "mae": mean_absolute_error(flat(outputs), flat(batch["future"])),
        "persistence_mse": mean_squared_error(flat(np.repeat(batch["past"][:, -1:], 4, 1)), flat(batch["future"])),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], (value * 36, 36), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(Forecasting().loss(given, batch), metrics["mse"])
    np.testing.assert_allclose(metrics["loss"].mean() * 5 / 3, expected["mse"], rtol=1e-5)
    assert Forecasting().predict(given)["prediction"].shape == given.shape


def test_one_channel_of_many_has_no_persistence():
    outputs, batch = make()
    batch["future"] = batch["future"][..., :1]
    metrics = Forecasting().metrics(outputs[..., :1], batch)
    assert set(metrics) == {"mse", "mae", "loss"}
    np.testing.assert_allclose(metrics["mse"][1], 12)


def test_width_is_steps_times_channels():
    info = types.SimpleNamespace(shapes={"past": ((96, 7), "float32"), "future": ((24, 7), "float32")})
    assert Forecasting().outputs_width(info) == 168
    with pytest.raises(TypeError):
        Forecasting().loss(jnp.zeros((5, 4, 2)), make()[1])
