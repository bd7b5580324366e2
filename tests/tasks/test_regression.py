"""Regression: the loss of standardised numbers, and errors in the target's own units, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from core.info import Info, Key
from tasks.regression import Regression

INFO = Info("made up", {}, {"target": Key((), "float32", "target", statistics={"mean": 10.0, "std": 4.0})})
BATCH = {"target": np.array([10.0, 14.0, 2.0], np.float32), "mask": np.array([1, 1, 0], np.float32)}
OUTPUTS = jnp.array([[0.5], [0.0], [3.0]])  # in units of the target: 12, 10 and 22


def test_by_hand():
    task = Regression().bind(INFO)
    losses, metrics, arrays = task.score(OUTPUTS, BATCH)
    np.testing.assert_allclose(losses["loss"], 0.5**2 + 1.0**2)
    np.testing.assert_allclose(metrics["mae"], (2 + 4, 2))
    np.testing.assert_allclose(arrays["prediction"], [12, 10, 22])
    np.testing.assert_allclose(arrays["loss"][:2], [4, 16])
    assert task.weights(BATCH)["loss"] == 2 and task.output_size(INFO) == 1


def test_errors_of_a_whole_split():
    arrays = {"target": np.array([1.0, 2.0, 3.0, 6.0]), "prediction": np.array([1.0, 2.0, 5.0, 4.0])}
    result = Regression().summary(arrays, None)
    assert result == pytest.approx({"mse": 2.0, "rmse": 2**0.5, "r2": 1 - 8 / 14})  # squares around the mean 3: 14
    nothing = Regression().summary(arrays | {"prediction": np.full(4, np.nan)}, None)
    assert all(np.isnan(value) for value in nothing.values()) and nothing.keys() == result.keys()


def test_units_come_from_the_data_set_unless_they_are_given():
    assert (Regression().bind(INFO).mean, Regression().bind(INFO).std) == (10.0, 4.0)
    assert (Regression(mean=0.0).bind(INFO).mean, Regression(mean=0.0).bind(INFO).std) == (0.0, 4.0)
    plain = Info("made up", {}, {"target": Key((), "float32")})
    assert (Regression().bind(plain).mean, Regression().bind(plain).std) == (0.0, 1.0)


def test_an_offset_is_added_on_the_host_in_64_bits():
    statistics = {"mean": 1.7e9, "std": 4.0, "offset": 1.7e9}
    info = Info("made up", {}, {"target": Key((), "float32", "target", statistics=statistics)})
    task = Regression().bind(info)
    batch = BATCH | {"target": BATCH["target"] - 10}
    shifted, plain = task.score(OUTPUTS, batch), Regression().bind(INFO).score(OUTPUTS, BATCH)
    np.testing.assert_allclose(shifted.losses["loss"], plain.losses["loss"])
    np.testing.assert_allclose(shifted.metrics["mae"], plain.metrics["mae"])
    prediction = {key: np.asarray(values)[0] for key, values in task.predict(OUTPUTS).items()}
    assert task.row({}, prediction, info) == {"prediction": 1.7e9 + 2}
    assert Regression(mean=1.7e9 - 4).bind(info).predict(OUTPUTS)["prediction"][1] == -4
