"""Boxes over the image, in the colours of their classes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from reporting.drawing import CYCLE, PLAIN, pixels
from tasks.task import Task


def paint(axes: Any, example: Mapping[str, Any], prediction: Mapping[str, Any], task: Task) -> None:
    """Draws the boxes of `prediction["box"]` [n, 4], ymin, xmin, ymax, xmax in fractions of the image, that the task
    chooses by their probability, each with its class."""
    from matplotlib.patches import Rectangle

    image = np.asarray(example[task.inputs[0]])
    axes.imshow(pixels(image))
    sides = np.array([*image.shape[:2], *image.shape[:2]])
    for index in task.chosen(prediction):
        top, left, bottom, right = prediction["box"][index] * sides - 0.5  # the first pixel's centre is at 0
        label = prediction["prediction"][index]
        colour = CYCLE[label % len(CYCLE)]
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.2))
        name = {"fontsize": 5, "color": "white", "va": "bottom", "bbox": {"facecolor": colour, "pad": 0.5, "lw": 0}}
        name["clip_on"] = True  # a box may begin outside the image
        axes.text(left, top, task.classes[label], **name, **PLAIN)
