"""Predicted against true numbers."""

from typing import Any

import numpy as np

from reporting.drawing import ACCENT, INK, WIDTH, Figure, svg
from reporting.shown import Shown


def draw(shown: Shown) -> Figure | None:
    """Draws a point per example and the line of exact predictions; the caption has R^2 and the mean error."""
    if "target" not in shown.arrays:
        return None
    target, prediction = shown.arrays["target"], shown.arrays["prediction"]
    finite = np.isfinite(target) & np.isfinite(prediction)
    offset = shown.task.offset or 0.0
    true, predicted = (numbers[finite].astype(float) + offset for numbers in (target, prediction))
    title = "Predicted against true"
    if not len(true):
        return Figure(title, "No finite predictions.")

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.axline((true.mean(), true.mean()), slope=1, color=INK, alpha=0.5, linewidth=1, linestyle="--")
        alpha = max(0.08, 0.6 / (1 + len(true) / 2000))
        many = len(true) > 2000  # as many vector shapes would make a page slow
        axes.scatter(true, predicted, s=14, color=ACCENT, alpha=alpha, linewidths=0, rasterized=many)
        axes.set(xlabel="true", ylabel="predicted", aspect="equal", adjustable="datalim")
        axes.grid(True)

    error, spread = predicted - true, ((true - true.mean()) ** 2).sum()
    quality = f"R² {1 - (error**2).sum() / spread:.3f}, " if spread > 0 else ""
    left_out = f" {(~finite).sum()} examples without a finite value are left out." if (~finite).any() else ""
    error = f"{quality}mean absolute error {np.abs(error).mean():.4g}"
    return Figure(title, f"{len(true):,} examples: {error}. Dashed: exact.{left_out}", svg(WIDTH, WIDTH * 0.85, paint))
