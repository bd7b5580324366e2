"""The images that a classifier is most wrong about."""

import numpy as np
from jaxtyping import Float, Int

from reporting.drawing import INK, WRONG, Figure, fit, image_grid
from reporting.shown import Shown

# n examples, m the shown ones


def draw(shown: Shown, count: int = 16) -> Figure | None:
    """Shows the wrongly classified images of highest loss; without mistakes, the images of highest loss."""
    if not shown.images() or "label" not in shown.arrays:
        return None
    labels, predictions, classes = shown.arrays["label"], shown.arrays["prediction"], shown.classes
    chosen = worst(labels, predictions, shown.arrays["loss"], count)
    wrong, total = int(np.sum(labels != predictions)), len(labels)
    above, below = ([fit(str(classes[each[index]])) for index in chosen] for each in (predictions, labels))
    images = shown.batch(chosen)[shown.images()[0]] if len(chosen) else np.zeros((0, 1, 1, 1))
    image = image_grid(images, above, below, WRONG if wrong else INK)
    names = "the prediction above each image, the true class below"
    if not wrong:
        return Figure("Hardest examples", f"None of {total:,} is wrong; these have the highest loss; {names}.", image)
    return Figure("Worst mistakes", f"{wrong:,} of {total:,} are wrong; highest loss first, {names}.", image)


def worst(
    labels: Int[np.ndarray, "n"], predictions: Int[np.ndarray, "n"], losses: Float[np.ndarray, "n"], count: int
) -> Int[np.ndarray, " m"]:
    """Returns the indices of the mistakes of highest loss, or of all examples without mistakes; NaN is worst."""
    mistakes = np.flatnonzero(labels != predictions)
    chosen = mistakes if len(mistakes) else np.arange(len(labels))
    return chosen[np.argsort(-np.nan_to_num(losses[chosen], nan=np.inf, posinf=np.inf), kind="stable")][:count]
