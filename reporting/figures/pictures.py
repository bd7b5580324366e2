"""Predictions over their images beside the truth: the worst and the typical examples."""

import numpy as np
from jaxtyping import Float, Int

from reporting import drawings
from reporting.drawing import INK, PLAIN, WIDTH, Figure, svg
from reporting.shown import Shown

# n examples, m the shown ones

COUNT = 4  # examples of each kind


def draw(shown: Shown) -> list[Figure]:
    """Draws the predictions of the task's drawing: for the examples of the highest loss, and those around the median,
    the truth left and the prediction right."""
    loss = np.asarray(shown.arrays["loss"], float)
    if "weight" in shown.arrays:
        loss = loss / np.maximum(shown.arrays["weight"], 1e-9)
    parts = zip(("Worst predictions", "Typical predictions"), chosen(loss), strict=True)
    return [_figure(title, places, loss, shown) for title, places in parts]


def chosen(loss: Float[np.ndarray, " n"], count: int = COUNT) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Returns the examples of the highest loss, and of the losses in the middle; NaN is worst."""
    order = np.argsort(-np.nan_to_num(loss, nan=np.inf, posinf=np.inf), kind="stable")
    start = max(0, (len(loss) - count) // 2)
    return order[:count], order[start : start + count]


def _figure(title: str, places: Int[np.ndarray, " m"], loss: Float[np.ndarray, " n"], shown: Shown) -> Figure:
    paint, task = drawings.painter(shown.task), shown.task
    batch = shown.batch(places)
    height, width = batch[task.inputs[0]].shape[-3:-1]

    def paint_all(canvas):
        pairs = canvas.subplots(-(-len(places) // 2), 4, squeeze=False).reshape(-1, 2)
        for axes in pairs.ravel():
            axes.axis("off")
        for number, ((left, right), place) in enumerate(zip(pairs, places, strict=False)):
            example = {key: values[number] for key, values in batch.items()}
            paint(left, example, task.truth(example), task)
            paint(right, example, {key: values[place] for key, values in shown.arrays.items()}, task)
            left.set_title("truth", fontsize=8, color=INK, **PLAIN)
            right.set_title(f"loss {loss[place]:.3g}", fontsize=8, color=INK, **PLAIN)

    rows = -(-len(places) // 2)
    caption = f"{len(places)} of {len(loss):,} examples, the truth left of each prediction."
    return Figure(title, caption, svg(WIDTH, rows * (WIDTH / 4 * height / width + 0.25), paint_all))
