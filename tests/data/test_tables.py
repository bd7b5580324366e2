"""Encoding of tables: everything learnt comes from the training rows and survives JSON."""

import json

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from data.preprocess import columns as tables

TRAIN = pd.DataFrame(
    {
        "age": [20.0, 40.0, None, 60.0],
        "height": [1, 2, 3, 4],
        "same": [7, 7, 7, 7],
        "smoker": [True, False, True, False],
        "city": ["Rome", "Oslo", None, "Rome"],
        "seen": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"]),
    }
)


@pytest.fixture
def state():
    return json.loads(json.dumps(tables.fit(TRAIN)))


def test_encoding_of_the_training_rows(state):
    features = tables.encode(state, TRAIN)
    # age, age missing, height, smoker, city: Oslo, Rome, missing, seen; the constant column is dropped
    assert features.shape == (4, 8)
    assert features.dtype == np.float32
    scale = np.sqrt(800 / 3)
    np.testing.assert_allclose(features[:, 0], np.array([-20, 0, 0, 20]) / scale, rtol=1e-6)
    np.testing.assert_array_equal(features[:, 1], [0, 0, 1, 0])
    np.testing.assert_array_equal(features[:, 3], [1, -1, 1, -1])
    np.testing.assert_array_equal(features[:, 4:7], [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
    for column in (2, 7):
        np.testing.assert_allclose([features[:, column].mean(), features[:, column].std()], [0, 1], atol=1e-6)


def test_new_rows(state):
    new = pd.DataFrame({"age": [40], "height": [np.nan], "smoker": [True], "city": ["Paris"], "extra": [1]})
    new["seen"] = pd.to_datetime(["2020-01-02"])
    features = tables.encode(state, new)
    np.testing.assert_array_equal(features[0, [0, 1, 2]], [0, 0, 0])  # mean age, not missing; missing height -> mean
    np.testing.assert_array_equal(features[0, 4:7], [0, 0, 0])  # a city not seen in training


def test_infinite_values_count_as_missing():
    frame = pd.DataFrame({"x": [1.0, np.inf, 3.0]})
    np.testing.assert_allclose(tables.encode(tables.fit(frame), frame), [[-1, 0], [0, 1], [1, 0]])


def test_column_constant_but_for_missing_values_keeps_the_indicator():
    frame = pd.DataFrame({"x": [5.0, None, 5.0]})
    np.testing.assert_array_equal(tables.encode(tables.fit(frame), frame), [[0, 0], [0, 1], [0, 0]])


def test_missing_column_is_named(state):
    with pytest.raises(UserError, match="no column 'age': did you mean 'ages'"):
        tables.encode(state, TRAIN.rename(columns={"age": "ages"}))


def test_text_in_a_column_of_numbers_is_named(state):
    with pytest.raises(UserError, match="'height' holds numbers in training, but here 'tall'"):
        tables.encode(state, TRAIN.assign(height="tall"))


def test_free_text_and_useless_tables_are_refused():
    with pytest.raises(UserError, match="column 'id' has 1001 different texts"):
        tables.fit(pd.DataFrame({"id": [f"row {i}" for i in range(1001)]}))
    with pytest.raises(UserError, match="no column varies over the training rows: a"):
        tables.fit(pd.DataFrame({"a": [1, 1]}))


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([10, 9, 10], ("9", "10")),
        ([2.0, 1.0], ("1", "2")),
        (["b", "a", "b"], ("a", "b")),
        ([True, False], ("False", "True")),
    ],
)
def test_classes(values, names):
    column = pd.Series(values, name="y")
    assert tables.class_names([column]) == names
    decoded = [names[label] for label in tables.labels(column, names)]
    assert decoded == [str(int(v)) if isinstance(v, float) else str(v) for v in values]


def test_targets_are_checked():
    with pytest.raises(UserError, match="target 'y' is missing in 2 of 3 rows"):
        tables.targets(pd.Series([1.0, None, None], name="y"))
    with pytest.raises(UserError, match="target 'y' is missing in 1 of 2 rows"):
        tables.labels(pd.Series(["a", None], name="y"), ("a",))
    with pytest.raises(UserError, match=r"holds text such as 'a': set data.target_type='class'"):
        tables.targets(pd.Series(["a", "b"], name="y"))
    with pytest.raises(UserError, match=r"fractions such as 0.5: set data.target_type='number'"):
        tables.class_names([pd.Series([0.5, 1.0], name="y")])
    np.testing.assert_array_equal(tables.targets(pd.Series([1, 2])), np.array([1, 2], np.float32))
