"""The report's figures of a task's arrays: a name in `Task.figures` is a function here."""

import dataclasses

import numpy as np

from core.info import Info
from data.dataset import Split
from reporting.figures import drawing
from reporting.figures.drawing import Figure
from tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Shown:
    """An evaluated split.

    Attributes:
        arrays: the task's arrays per example, in the order of `split`.
    """

    task: Task
    info: Info
    split: Split
    arrays: dict[str, np.ndarray]


def confusion_matrix(shown: Shown) -> Figure | None:
    """Returns true classes against predicted ones; None where predictions are not one class per example."""
    if "label" not in shown.arrays:
        return None
    return drawing.confusion_matrix(shown.arrays["label"], shown.arrays["prediction"], shown.task.classes)


def worst_images(shown: Shown) -> Figure | None:
    """Returns the wrong images of highest loss; None where examples have no image or several labels."""
    if "label" not in shown.arrays or "image" not in shown.info.keys:
        return None
    arrays = (shown.arrays[name] for name in ("label", "prediction", "loss"))
    return drawing.worst_images(lambda indices: shown.split.batch(indices)["image"], *arrays, shown.task.classes)


def predicted_against_true(shown: Shown) -> Figure:
    """Returns predicted numbers against true ones."""
    return drawing.predicted_against_true(shown.arrays["target"], shown.arrays["prediction"])


def draw(shown: Shown) -> list[Figure]:
    """Returns the figures that the task names."""
    drawn = (globals()[name](shown) for name in shown.task.figures)
    return [figure for figure in drawn if figure is not None]
