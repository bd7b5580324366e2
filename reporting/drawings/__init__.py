"""Pictures of predictions over their images: a file per kind, which a task names as its `drawing`.

A file has `paint(axes, example, prediction, task)`. It draws one prediction on Matplotlib's axes.

Args of `paint`:
    example: the arrays of the example, before augment ops: the image is `example[task.inputs[0]]`.
    prediction: the arrays of `task.predict` for this example, or those of `task.truth`.
"""

import importlib
import pkgutil
from collections.abc import Callable

from core.errors import UserError, nearest
from tasks.task import Task


def painter(task: Task) -> Callable[..., None]:
    """Returns the function `paint` of the task's drawing. Raises UserError for a task without one."""
    if not task.drawing:
        raise UserError(f"task {type(task).__name__} draws no pictures of its predictions")
    known = [entry.name for entry in pkgutil.iter_modules(__path__)]
    if task.drawing not in known:
        raise UserError(f"{type(task).__name__}.drawing: {task.drawing!r}: {nearest(task.drawing, known)}")
    return importlib.import_module(f"{__name__}.{task.drawing}").paint
