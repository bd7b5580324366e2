"""Forecasts: stretches of one long series, each a past and the future to forecast."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Float64, Int

from core.errors import UserError
from core.info import Key
from data.preprocess.op import Chunk, Examples, Keys, Op, check_keys, column
from data.splits import ArraySplit, Batch, Lengths

# t: time steps of the series, c: its channels, b: batch


@dataclasses.dataclass(frozen=True)
class Forecast(Op):
    """Makes an example of every stretch of `window + horizon` steps: `past` float32 [window, c] and `future` float32
    [horizon, c], standardised by the training split. Other keys are dropped.

    A split is one example with a `series` [t, c], or, with `columns`, a table with one row per time step in order.

    Args:
        window: number of past steps that a model reads.
        horizon: number of steps that it forecasts.
        columns: of a table, the channels of the series.

    Raises UserError for another number of series, text, values that are missing or not finite, and a series that is
    shorter than one example.
    """

    window: int
    horizon: int
    columns: tuple[str, ...] = ()

    ordered: ClassVar[bool] = True
    arranges: ClassVar[bool] = True

    def __post_init__(self):
        for field in ("window", "horizon"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> dict[str, list[float]]:
        """Returns mean and standard deviation of each channel."""
        check_keys("forecast", self.columns or ("series",), keys)
        series = {split: self._series(split, examples) for split, examples in splits.items()}
        mean, std = (function(series["train"], axis=0) for function in (np.mean, np.std))
        return {"mean": mean.tolist(), "std": np.where(std > 0, std, 1.0).tolist()}

    def _series(self, split: str, examples: Examples) -> Float64[np.ndarray, "t c"]:
        """Returns the series of a split, checked."""
        if self.columns:
            values = np.stack([_numbers(split, key, list(column(examples, key))) for key in self.columns], axis=1)
        else:
            values = np.asarray(examples.chunk([0], ("series",))["series"][0])
            if len(examples) != 1 or values.ndim != 2 or values.dtype.kind not in "biuf":
                raise UserError(
                    f"data.preprocess: forecast: {split!r} must be one example with a `series` [steps, channels], not "
                    f"{len(examples)} of shape {values.shape}; columns=('NAME', ...) makes a series from a table"
                )
        values = values.astype(np.float64)
        for step, channel in np.argwhere(~np.isfinite(values))[:1]:
            name = repr(self.columns[channel]) if self.columns else f"channel {channel + 1}"
            raise UserError(
                f"data.preprocess: forecast: {name} of {split!r} is {values[step, channel]} in row {step + 1}"
            )
        if len(values) < self.window + self.horizon:
            steps = f"window={self.window} and horizon={self.horizon} need {self.window + self.horizon} steps"
            raise UserError(f"data.preprocess: forecast: {steps}, {split!r} has {len(values)}")
        return values

    def describe(self, keys: Keys, state: dict[str, list[float]]) -> Keys:
        return {key: Key(role="series", statistics=dict(state)) for key in ("past", "future")}

    def __call__(self, chunk: Chunk, state: dict[str, list[float]]) -> Chunk:
        """Returns `series`, standardised: [t, c] of every series, or [c] of every row of a table."""
        if self.columns and all(key in chunk for key in self.columns):
            values = np.stack([np.asarray(chunk[key], np.float64) for key in self.columns], axis=1)
            return {"series": list(_standardised(values, state))}
        if not self.columns and "series" in chunk:
            return {"series": [_standardised(series, state) for series in chunk["series"]]}
        return chunk

    def arrange(self, split: ArraySplit, state: dict[str, list[float]], is_training: bool) -> "ForecastSplit":
        column = split.columns["series"]
        values = column if isinstance(column, np.ndarray) else column.values
        return ForecastSplit(values.reshape(-1, len(state["mean"])), self.window, self.horizon)


def _numbers(split: str, key: str, values: list[Any]) -> Float64[np.ndarray, "t"]:
    try:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    except (TypeError, ValueError):
        text = next(value for value in values if isinstance(value, str | bytes))
        raise UserError(f"data.preprocess: forecast: {key!r} of {split!r} holds {text!r}, not numbers") from None


def _standardised(values: Any, state: dict[str, list[float]]) -> Float32[np.ndarray, "n c"]:
    mean, std = np.array(state["mean"]), np.array(state["std"])
    return ((np.asarray(values) - mean) / std).astype(np.float32)


class ForecastSplit:
    """The stretches of a series; see `Forecast`. Example i starts at step i; batches are gathered from one array.

    Attributes:
        series: [t, c], at least window + horizon steps.
    """

    lengths: Mapping[str, Any] = {}
    longest: Lengths = {}

    def __init__(self, series: Float32[np.ndarray, "t c"], window: int, horizon: int):
        self.series, self.window, self.horizon = series, window, horizon

    def __len__(self) -> int:
        return len(self.series) - self.window - self.horizon + 1

    def batch(self, indices: Int[np.ndarray, "b"], padded: Lengths | None = None) -> Batch:
        """Returns `past` float32 [b, window, c] and `future` float32 [b, horizon, c]."""
        starts = np.arange(len(self))[indices]  # raises for an index beyond the last start, unlike a slice
        past, future = (starts[:, None] + np.arange(n) for n in (self.window, self.horizon))
        return {"past": self.series[past], "future": self.series[future + self.window]}

    def text(self, key: str, indices: Int[np.ndarray, "b"]) -> list:
        raise UserError(f"{key!r} holds no text: forecasts have series only")
