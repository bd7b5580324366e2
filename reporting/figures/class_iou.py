"""Intersection over union of each class of a segmentation."""

import numpy as np

from reporting.drawing import Figure, shorten
from reporting.shown import Shown
from tasks.segmentation import overlaps


def draw(shown: Shown) -> Figure:
    """Lists the classes, the least IoU first, with their shares of the pixels."""
    intersection, true, predicted = overlaps(shown.arrays["confusion"])
    union = true + predicted - intersection
    iou = intersection / np.maximum(union, 1)
    rows = [("class", "IoU", "share of the pixels", "share of the predictions")]
    for index in np.argsort(iou, kind="stable"):
        shares = (f"{counts[index] / max(counts.sum(), 1):.1%}" for counts in (true, predicted))
        rows.append((shorten(shown.classes[index], 40), f"{iou[index]:.3f}" if union[index] else "absent", *shares))
    return Figure("Classes", "Intersection over union from all pixels of the split.", table=rows)
