"""Forecasting against scikit-learn's errors on the real examples alone."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error

from core.info import Info, Key
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
    losses, metrics, arrays = Forecasting().score(given, batch)
    expected = {
        "mse": mean_squared_error(flat(outputs), flat(batch["future"])),
        "mae": mean_absolute_error(flat(outputs), flat(batch["future"])),
        "persistence_mse": mean_squared_error(flat(np.repeat(batch["past"][:, -1:], 4, 1)), flat(batch["future"])),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], (value * 36, 36), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose((losses["loss"], Forecasting().weights(batch)["loss"]), metrics["mse"])
    np.testing.assert_allclose(arrays["loss"].mean() * 5 / 3, expected["mse"], rtol=1e-5)
    np.testing.assert_array_equal(arrays["prediction"], given)
    np.testing.assert_array_equal(Forecasting().predict(given)["prediction"], given)


def test_one_channel_of_many_has_no_persistence():
    outputs, batch = make()
    batch["future"] = batch["future"][..., :1]
    metrics = Forecasting().score(outputs[..., :1], batch).metrics
    assert set(metrics) == {"mse", "mae"}
    np.testing.assert_allclose(metrics["mse"][1], 12)


def test_width_is_steps_times_channels():
    info = Info("made up", {}, {"past": Key((96, 7), "float32"), "future": Key((24, 7), "float32")})
    assert Forecasting().output_size(info) == 168
    with pytest.raises(TypeError):
        Forecasting().score(jnp.zeros((5, 4, 2)), make()[1])
