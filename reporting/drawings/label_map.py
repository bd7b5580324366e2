"""A class per pixel, as colours over the image."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from reporting.drawing import pixels
from tasks.task import Task

# k classes

STRENGTH = 0.55  # of the colours over the image
GOLDEN = 0.618034  # steps between hues that are far from each other for any number of classes


def paint(axes: Any, example: Mapping[str, Any], prediction: Mapping[str, Any], task: Task) -> None:
    """Draws the classes of `prediction["prediction"]`: class 0 and pixels without class stay as they are. Of a volume
    it shows the layer in the middle.
    """
    image, labels = np.asarray(example[task.inputs[0]]), np.asarray(prediction["prediction"])
    if labels.ndim == 3:
        image, labels = image[len(image) // 2], labels[len(labels) // 2]
        image = (image - image.min()) / max(float(np.ptp(image)), 1e-9)  # volumes are in units of their own
    shown = pixels(image)
    coloured = ((labels > 0) & (labels < len(task.classes)))[..., None]
    colour = colours(len(task.classes))[np.where(coloured[..., 0], labels, 0)]
    drawn = np.where(coloured, (1 - STRENGTH) * shown + STRENGTH * colour, shown)
    axes.imshow(drawn, interpolation="none")  # an SVG then holds the pixels themselves


def colours(count: int) -> Float[np.ndarray, "k 3"]:
    """Returns a colour per class, RGB in [0, 1], the same for every number of classes."""
    from matplotlib.colors import hsv_to_rgb

    numbers = np.arange(count)
    return hsv_to_rgb(np.stack([numbers * GOLDEN % 1, np.full(count, 0.9), 1 - 0.25 * (numbers % 2)], -1))
