"""Forecasts of a series, against plain loops."""

import numpy as np
import pytest

from core.errors import UserError
from data.batches import eval_batches
from data.preprocess.series import ForecastSplit
from data.splits import Split
from tests.data.rows import Rows, all_of, processed


def test_forecasts_are_every_stretch_of_the_series():
    series = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    split = ForecastSplit(series, window=6, horizon=4)
    assert isinstance(split, Split) and len(split) == 11
    batch = split.batch(np.array([10, 0, 3]))
    assert batch["past"].shape == (3, 6, 3) and batch["future"].shape == (3, 4, 3)
    for i, start in enumerate([10, 0, 3]):
        np.testing.assert_array_equal(batch["past"][i], series[start : start + 6])
        np.testing.assert_array_equal(batch["future"][i], series[start + 6 : start + 10])
    with pytest.raises(IndexError):
        split.batch(np.array([11]))


def test_forecasts_of_an_evaluation_cover_each_start_once():
    series = np.arange(11, dtype=np.float32)[:, None]
    batches = list(eval_batches(ForecastSplit(series, 3, 2), batch_size=4))
    real = np.concatenate([batch["mask"] for batch in batches]) == 1
    first = np.concatenate([batch["past"][:, 0, 0] for batch in batches])
    assert first[real].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_series_are_standardised_by_the_training_split():
    train = np.stack([np.arange(20), np.full(20, 7)], 1).astype(np.float32)
    test = np.stack([np.arange(8), np.arange(8)], 1).astype(np.float32)
    ops, roles = ("forecast(window=4, horizon=2)",), {"series": "series"}
    splits, info = processed(ops, roles, train=Rows(series=[train]), test=Rows(series=[test]))
    assert info.sizes == {"train": 15, "test": 3}
    assert {key: (record.shape, record.dtype, record.role) for key, record in info.keys.items()} == {
        "past": ((4, 2), "float32", "series"),
        "future": ((2, 2), "float32", "series"),
    }
    std = np.arange(20).std()
    assert info.keys["past"].statistics["mean"] == pytest.approx([9.5, 7])
    assert info.keys["past"].statistics["std"] == pytest.approx([std, 1])
    batch = splits["test"].batch(np.array([2]))
    np.testing.assert_allclose(batch["future"][0, :, 0], (np.array([6, 7]) - 9.5) / std, rtol=1e-6)
    np.testing.assert_allclose(batch["past"][0, :, 1], np.arange(2, 6) - 7, rtol=1e-6)


def test_columns_of_a_table_are_a_series():
    """Numbers with a large offset keep the digits that 32 bits lack."""
    rows = Rows(time=[1.7e9 + i for i in range(12)], day=list("abcdefghijkl"), load=list(range(0, 24, 2)))
    ops = ("forecast(3, 2, columns=('load', 'time'))",)
    splits, info = processed(ops, {"time": "number", "day": "text", "load": "number"}, train=rows)
    assert info.sizes == {"train": 8} and info.keys["past"].shape == (3, 2)
    batch = all_of(splits["train"])
    expected = (np.arange(12) - 5.5) / np.arange(12).std()
    for channel in range(2):
        np.testing.assert_allclose(batch["past"][:, 0, channel], expected[:8], rtol=1e-5)
        np.testing.assert_allclose(batch["future"][:, 1, channel], expected[4:], rtol=1e-5)


GAP = np.zeros((9, 2))
GAP[6, 1] = np.nan


@pytest.mark.parametrize(
    ("call", "columns", "message"),
    [
        ("forecast(6, 4)", {"series": [np.zeros((9, 2))]}, "window=6 and horizon=4 need 10 steps, 'train' has 9"),
        ("forecast(2, -1)", {"series": [np.zeros((9, 2))]}, "horizon must be at least 1, not -1"),
        ("forecast(2, 1)", {"series": [GAP]}, "channel 2 of 'train' is nan in row 7"),
        ("forecast(2, 1)", {"series": [np.zeros((9, 2))] * 2}, "must be one example with a `series`"),
        ("forecast(2, 1)", {"x": [1, 2]}, "'series' does not exist: there are: x"),
        ("forecast(2, 1, columns=('y',))", {"y": [1, 2, None, 4]}, "'y' of 'train' is nan in row 3"),
        ("forecast(2, 1, columns=('y',))", {"y": [1, 2, float("inf"), 4]}, "'y' of 'train' is inf in row 3"),
        ("forecast(2, 1, columns=('y',))", {"y": ["a", "b", "c"]}, "'y' of 'train' holds 'a', not numbers"),
    ],
)
def test_slips(call, columns, message):
    with pytest.raises(UserError, match=message) as refusal:
        processed((call,), dict.fromkeys(columns, "number"), train=Rows(**columns))
    assert "\n" not in str(refusal.value)


def test_a_series_of_one_example():
    splits, _ = processed(("forecast(6, 3)",), {"series": "series"}, train=Rows(series=[np.zeros((9, 2))]))
    assert len(splits["train"]) == 1
