"""Confusion matrix: true classes against predicted ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from reporting.drawing import ACCENT, INK, PLAIN, WIDTH, Figure, fit, shorten, svg
from reporting.shown import Shown

# k: classes; m: blocks of classes

NAMED, COUNTED = 30, 15  # most classes whose names, or counts, fit into the picture


def draw(shown: Shown) -> Figure | None:
    """Draws true classes down and predicted classes across, each row as shares of its class; with names and counts if
    they fit, otherwise with the most frequent confusions as a table.

    Pairs outside 0..k-1 are left out.
    """
    if "label" not in shown.arrays:
        return None
    labels, predictions, classes = shown.arrays["label"], shown.arrays["prediction"], shown.classes
    size, title = len(classes), "Confusion matrix"
    known = (labels >= 0) & (labels < size) & (predictions >= 0) & (predictions < size)
    if not known.any():
        return Figure(title, "No examples.")
    counts = np.zeros((size, size), int)
    np.add.at(counts, (labels[known].astype(int), predictions[known].astype(int)), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.imshow(_pooled(share), cmap=_fade(ACCENT), vmin=0, vmax=1, extent=(-0.5, size - 0.5, size - 0.5, -0.5))
        axes.set(xlabel="predicted", ylabel="true")
        axes.spines[:].set_visible(True)
        if size <= NAMED:
            names = [fit(name, 16, 1) for name in classes]
            upright = (size > 6 and max(map(len, names)) > 2) or max(map(len, names)) * size > 50
            style = {"fontsize": 10 if size <= COUNTED else 7, **PLAIN}
            axes.set_xticks(range(size), names, rotation=90 if upright else 0, **style)
            axes.set_yticks(range(size), names, **style)
        if size <= COUNTED:
            for row, column in np.argwhere(counts):
                color = "white" if share[row, column] > 0.5 else INK
                axes.text(column, row, counts[row, column], ha="center", va="center", color=color, fontsize=9)

    confusions = _confusions(counts, classes)
    image = svg(WIDTH, WIDTH if size > 4 else 3.6, paint)
    if size > NAMED:
        rows = [(true, predicted, str(count)) for true, predicted, count in confusions[:10]]
        return Figure(title, _caption(counts, []), image, [("true", "predicted", "examples"), *rows] if rows else ())
    return Figure(title, _caption(counts, confusions[:3]), image)


def _confusions(counts: Int[np.ndarray, "k k"], classes: Sequence[str]) -> list[tuple[str, str, int]]:
    """Returns (true, predicted, number of examples), most frequent first."""
    wrong = counts - np.diag(np.diag(counts))
    pairs = [np.unravel_index(index, wrong.shape) for index in np.argsort(-wrong, axis=None, kind="stable")[:10]]
    names = [shorten(name, 40) for name in classes]
    return [(names[row], names[column], int(wrong[row, column])) for row, column in pairs if wrong[row, column]]


def _caption(counts: Int[np.ndarray, "k k"], confusions: Sequence[tuple[str, str, int]]) -> str:
    pairs = [f"{true} taken for {predicted} ({count})" for true, predicted, count in confusions]
    most = f" Most often {'; '.join(pairs)}." if pairs else ""
    return f"{np.trace(counts):,} of {counts.sum():,} right; colour is the share of a row.{most}"


def _pooled(share: Float[np.ndarray, "k k"], most: int = 120) -> Float[np.ndarray, "m m"]:
    """Returns the greatest share of each block of cells, so that single ones stay visible among a thousand classes."""
    block = -(-len(share) // most)
    padding = -len(share) % block
    blocks = np.pad(share, (0, padding)).reshape(2 * ((len(share) + padding) // block, block))
    return blocks.max((1, 3))


def _fade(color: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    # Square-root opacity keeps a few mistakes among many visible.
    return LinearSegmentedColormap.from_list("fade", [(*to_rgb(color), alpha**0.5) for alpha in np.linspace(0, 1, 64)])
