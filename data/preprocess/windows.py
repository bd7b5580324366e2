"""Windows of one long sequence: of a running text for language models, of a series for forecasts."""

import dataclasses

import numpy as np
from jaxtyping import Float32, Int, Int32

from core.errors import UserError
from data.preprocess.examples import Batch

# n: tokens of the text, m: windows, w: tokens of a window; t: time steps of the series, c: its channels, b: batch


def language_windows(ids: Int32[np.ndarray, "n"], window: int) -> Batch:
    """Cuts a text into adjacent windows without overlap; a label is the token after its input.

    Every token but the first is a label exactly once, so that a sum over the windows is a sum over the text.

    Returns:
        `tokens` and `labels` int32 [m, w], `labels_mask` float32 [m, w]; the last window is padded with zeros.

    Raises:
        UserError: `window` is not positive, or the text has fewer than two tokens.
    """
    _check(window, "data.window")
    if len(ids) < 2:
        raise UserError(f"data.window={window}: a text needs at least 2 tokens, and this one has {len(ids)}")
    labels = len(ids) - 1
    count = -(-labels // window)
    padded = np.zeros(count * window + 1, np.int32)
    padded[: len(ids)] = ids
    real = np.arange(count * window) < labels
    tokens = np.where(real, padded[:-1], 0)  # the last token is not an input: it has no label
    columns = {"tokens": tokens, "labels": padded[1:], "labels_mask": real.astype(np.float32)}
    return {key: values.reshape(count, window) for key, values in columns.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class ForecastSplit:
    """Every stretch of `window + horizon` steps of a series is an example: its past, and the future to forecast.

    Example i starts at step i; batches are gathered from one array.

    Attributes:
        series: [t, c].
        window: number of past steps that a model reads.
        horizon: number of steps that it forecasts.

    Raises:
        UserError: `window` or `horizon` is not positive, or the series is shorter than both together.
    """

    series: Float32[np.ndarray, "t c"]
    window: int
    horizon: int

    def __post_init__(self):
        _check(self.window, "data.window")
        _check(self.horizon, "data.horizon")
        if len(self) < 1:
            steps = f"data.window={self.window} and data.horizon={self.horizon}"
            raise UserError(f"{steps} need {self.window + self.horizon} steps, the series has {len(self.series)}")

    def __len__(self) -> int:
        return len(self.series) - self.window - self.horizon + 1

    def batch(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Returns `past` float32 [b, window, c] and `future` float32 [b, horizon, c]."""
        starts = np.arange(len(self))[indices]  # raises for an index beyond the last start, unlike a slice
        past, future = (starts[:, None] + np.arange(n) for n in (self.window, self.horizon))
        return {"past": self.series[past], "future": self.series[future + self.window]}


def _check(value: int, key: str) -> None:
    if value < 1:
        raise UserError(f"{key} must be at least 1, not {value}")
