"""Shown: a run and its predictions, the input of figures, and the lookup of figures by name."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from core.errors import UserError, nearest
from core.info import Info
from reporting import figures
from reporting.drawing import Figure
from reporting.figures import run as run_figures
from tasks.task import Task

# m: chosen examples


@dataclasses.dataclass(frozen=True)
class Shown:
    """A run and the predictions for one of its splits.

    Attributes:
        task, info: of the run.
        batch: returns the batch of the split's examples at some indices, since only a few examples are read.
        strings: returns the split's unchanged texts of a key, as `data.splits.Split.text`; None without a split.
        arrays: the task's arrays per example, in the order of the split.
        history: rows of metrics.jsonl.
        run: the run itself, for figures of any run.
    """

    task: Task
    info: Info
    batch: Callable[[Int[np.ndarray, " m"]], dict[str, np.ndarray]]
    arrays: Mapping[str, np.ndarray]
    history: Sequence[Mapping[str, Any]] = ()
    run: Any = None
    strings: Callable[[str, Int[np.ndarray, " m"]], Sequence[str]] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of a classification."""
        return self.task.classes

    def images(self) -> list[str]:
        """Returns the inputs that are images."""
        return self._inputs("image")

    def texts(self) -> list[str]:
        """Returns the inputs that are texts."""
        return self._inputs("tokens")

    def _inputs(self, role: str) -> list[str]:
        """Returns the inputs of a role; an input that an augment op adds has none."""
        return [key for key in self.task.inputs if key in self.info.keys and self.info.keys[key].role == role]

    def text(self, key: str, indices: Int[np.ndarray, " m"]) -> Sequence[str]:
        """Returns texts of the set; for a set of tokens without texts, the decoded tokens."""
        try:
            if self.strings:
                return self.strings(key, indices)
        except UserError:
            pass
        return list(map(self.info.keys[key].vocabulary.text, self.batch(indices)[key]))


def draw(shown: Shown) -> list[Figure]:
    """Returns the figures that the task names, if there are arrays to show, then those of any run.

    Raises UserError for an unknown name in `task.figures`.
    """
    known = _files(figures)
    drawn = []
    for name in shown.task.figures if shown.arrays else ():
        if name not in known:
            raise UserError(f"{type(shown.task).__name__}.figures: {name!r} does not exist: {nearest(name, known)}")
        drawn += _drawn(f"{figures.__name__}.{name}", shown)
    for name in _files(run_figures):
        drawn += _drawn(f"{run_figures.__name__}.{name}", shown)
    return drawn


def _files(package: Any) -> list[str]:
    return [entry.name for entry in pkgutil.iter_modules(package.__path__) if not entry.ispkg]


def _drawn(module: str, shown: Shown) -> list[Figure]:
    figure = importlib.import_module(module).draw(shown)
    return [figure] if isinstance(figure, Figure) else list(figure or ())
