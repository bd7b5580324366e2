"""The norms of the gradient, if `config.log.gradients` logs them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reporting.drawing import ABOVE, ACCENT, PLAIN, WIDTH, Figure, number, shorten, svg
from reporting.shown import Shown
from training.diagnostics import LAYER, TIME


def draw(shown: Shown) -> list[Figure]:
    """Draws the norm of each layer's gradient, and of each marked activation's gradient at each time step."""
    rows = [row for row in shown.history if row["split"] == "gradients"]
    if not rows:
        return []
    return [_by_layer(rows), *(_by_time(rows, name) for name in rows[0] if name.startswith(TIME))]


def _by_layer(rows: Sequence[Any]) -> Figure:
    """Draws layers in the order of the network, a line per logged step."""
    names = [name for name in rows[0] if name.startswith(LAYER)]

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        for row, color in _few(rows):
            axes.plot([row[name] for name in names], color=color, marker=".", label=f"step {row['step']:,}")
        axes.set_xticks(range(len(names)), [shorten(name.removeprefix(LAYER), 24) for name in names], **PLAIN)
        axes.tick_params(axis="x", rotation=90, labelsize=7 if len(names) < 40 else 4)
        _finish(axes)

    first, last = ([row[name] for name in names] for row in (rows[0], rows[-1]))
    ratios = " and ".join(f"{number(max(row) / max(min(row), 1e-30))} times" for row in (first, last))
    caption = f"Norms for the parameters, before clipping. The largest is {ratios} the smallest, first and last."
    return Figure("Gradient norm by layer", caption, svg(WIDTH, 3.8, paint))


def _by_time(rows: Sequence[Any], name: str) -> Figure:
    """Draws the gradient of the input `name` over positions, a line per logged step."""

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        for row, color in _few(rows):
            axes.plot(row[name], color=color, label=f"step {row['step']:,}", linewidth=1.2)
        axes.set_xlabel("position")
        _finish(axes)

    start, end = rows[-1][name][0], rows[-1][name][-1]
    caption = f"Last: {number(start)} at the first position, {number(end)} at the last."
    return Figure(f"Gradient norm by time step, {name.removeprefix(TIME)}", caption, svg(WIDTH, 3.1, paint))


def _few(rows: Sequence[Any], most: int = 5) -> list[tuple[Any, tuple[float, float, float, float]]]:
    """Returns evenly spaced rows from first to last with one colour each; later ones are stronger."""
    from matplotlib.colors import to_rgb

    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))
    strengths = np.linspace(0.3, 1, len(chosen)) if len(chosen) > 1 else [1.0]
    return [(rows[i], (*to_rgb(ACCENT), strength)) for i, strength in zip(chosen, strengths, strict=True)]


def _finish(axes: Any) -> None:
    axes.set_yscale("log", nonpositive="mask")
    axes.grid(True)
    axes.legend(ncols=3, **ABOVE)
