"""Forecasts drawn over the true continuation of a series."""

from typing import Any

import numpy as np
from jaxtyping import Float

from reporting.drawing import ABOVE, ACCENT, INK, WIDTH, WRONG, Figure, svg
from reporting.shown import Shown

# p steps of the past, h steps of the future, c channels

CHANNELS = 8  # most channels of a window that are drawn


def draw(shown: Shown) -> list[Figure]:
    """Draws the two windows of median error and the two of highest error, a panel per channel."""
    if "prediction" not in shown.arrays:
        return []
    losses = np.nan_to_num(shown.arrays["loss"], nan=np.inf, posinf=np.inf)
    order = np.argsort(losses, kind="stable")
    typical, worst = order[max(0, len(order) // 2 - 1) :][:2], order[::-1][:2]
    return [
        *(_window(shown, int(index), "A typical forecast") for index in typical),
        *(_window(shown, int(index), "One of the worst forecasts") for index in worst if index not in typical),
    ]


def _window(shown: Shown, index: int, title: str) -> Figure:
    batch = shown.batch(np.array([index]))
    past, future = batch[shown.task.inputs[0]][0], batch[shown.task.target][0]
    forecast = shown.arrays["prediction"][index].reshape(future.shape)
    size, total = min(future.shape[1], CHANNELS), future.shape[1]

    def paint(canvas: Any) -> None:
        panels = canvas.subplots(size, 1, sharex=True, squeeze=False)[:, 0]
        for channel, axes in enumerate(panels):
            _panel(axes, past, future[:, channel], forecast[:, channel], channel)
            if total > 1:
                axes.set_ylabel(channel, rotation=0, ha="right", va="center")
        panels[0].legend(ncols=3, **ABOVE)
        panels[-1].set_xlabel("steps from the beginning of the forecast")

    error = np.mean((forecast.astype(float) - future) ** 2)
    channels = f" Channels 0 to {size - 1} of {total}." if total > 1 else ""
    caption = f"Window {index:,} of {len(shown.arrays['loss']):,}: mean squared error {error:.4g}.{channels}"
    return Figure(title, caption, svg(WIDTH, 1.4 + (0.75 if size > 1 else 1.7) * size, paint))


def _panel(
    axes: Any,
    past: Float[np.ndarray, "p channels"],
    future: Float[np.ndarray, " h"],
    forecast: Float[np.ndarray, " h"],
    channel: int,
) -> None:
    """Draws past, truth and forecast of one channel; the past only if it has the channel."""
    steps = np.arange(len(future))
    if channel < past.shape[1]:
        shown = past[-4 * len(future) :, channel]  # a longer past would hide a short forecast
        axes.plot(np.arange(-len(shown), 0), shown, color=INK, linewidth=1, alpha=0.6, label="past")
        axes.plot((-1, 0), (shown[-1], future[0]), color=ACCENT, linewidth=1.2)
    marker = {"marker": "."} if len(future) == 1 else {}
    axes.plot(steps, future, color=ACCENT, linewidth=1.4, label="truth", **marker)
    axes.plot(steps, forecast, color=WRONG, linewidth=1.4, label="forecast", **marker)
    axes.axvline(-0.5, color=INK, linewidth=0.8, alpha=0.3)
    axes.grid(True)
    axes.tick_params(axis="y", labelsize=8)
