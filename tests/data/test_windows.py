"""Windows of a text and of a series, against plain loops."""

import numpy as np
import pytest

from core.errors import UserError
from data.batches import eval_batches
from data.dataset import Split
from data.preprocess.windows import ForecastSplit, language_windows


@pytest.mark.parametrize(("size", "window"), [(2, 1), (2, 8), (9, 4), (10, 4), (12, 4), (13, 4), (50, 7)])
def test_every_token_but_the_first_is_a_label_once(size, window):
    ids = np.random.default_rng(0).integers(5, 100, size).astype(np.int32)
    windows = language_windows(ids, window)
    tokens, labels, mask = (windows[key] for key in ("tokens", "labels", "labels_mask"))
    count = (size - 1 + window - 1) // window
    assert tokens.shape == labels.shape == mask.shape == (count, window)
    assert (tokens.dtype, labels.dtype, mask.dtype) == (np.int32, np.int32, np.float32)
    assert labels[mask == 1].tolist() == ids[1:].tolist()
    assert tokens[mask == 1].tolist() == ids[:-1].tolist()
    assert not labels[mask == 0].any() and not tokens[mask == 0].any()
    assert mask[:-1].all() and mask[-1, 0] == 1


@pytest.mark.parametrize("size", [0, 1])
def test_a_text_with_nothing_to_predict_is_refused(size):
    with pytest.raises(UserError, match=rf"data.window=4: a text needs at least 2 tokens, and this one has {size}"):
        language_windows(np.ones(size, np.int32), 4)


def test_a_window_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"data.window must be at least 1, not 0"):
        language_windows(np.ones(5, np.int32), 0)
    with pytest.raises(UserError, match=r"data.horizon must be at least 1, not -1"):
        ForecastSplit(np.ones((5, 1), np.float32), 2, -1)


def test_forecasts_are_every_stretch_of_the_series():
    series = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    split = ForecastSplit(series, window=6, horizon=4)
    assert isinstance(split, Split) and len(split) == 11
    batch = split.batch(np.array([10, 0, 3]))
    assert batch["past"].shape == (3, 6, 3) and batch["future"].shape == (3, 4, 3)
    for i, start in enumerate([10, 0, 3]):
        np.testing.assert_array_equal(batch["past"][i], series[start : start + 6])
        np.testing.assert_array_equal(batch["future"][i], series[start + 6 : start + 10])
    assert split.series is series
    with pytest.raises(IndexError):
        split.batch(np.array([11]))


def test_forecasts_of_an_evaluation_cover_each_start_once():
    series = np.arange(11, dtype=np.float32)[:, None]
    batches = list(eval_batches(ForecastSplit(series, 3, 2), batch_size=4))
    real = np.concatenate([batch["mask"] for batch in batches]) == 1
    first = np.concatenate([batch["past"][:, 0, 0] for batch in batches])
    assert first[real].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_series_shorter_than_one_example_is_refused():
    series = np.zeros((9, 2), np.float32)
    assert len(ForecastSplit(series, 6, 3)) == 1
    with pytest.raises(UserError, match=r"data.window=6 and data.horizon=4 need 10 steps, the series has 9"):
        ForecastSplit(series, 6, 4)
