"""Writers: destinations of metrics besides metrics.jsonl. `config.log.writers` names classes of this file.

A class has the name that configs use. A new class needs no other edit.
"""

import importlib.util
import inspect
import sys
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from core import names
from core.errors import UserError

Metrics = Mapping[str, float | list[float]]


class Writer:
    """Base class: receives the metrics of one run."""

    def begin(self, workdir: Path, config: ConfigDict, step: int) -> None:
        """Starts, or continues a run after `step`: metrics of later steps are written again."""
        raise NotImplementedError

    def log(self, step: int, split: str, metrics: Metrics) -> None:
        """Writes numbers, and lists of numbers as their distribution."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the writing."""
        raise NotImplementedError


def create(calls: Iterable[str]) -> list[Writer]:
    """Returns the writers of `config.log.writers`, such as ("tensorboard", "wandb(project='x')").

    Raises UserError for an unknown name or argument, or a package that is not installed.
    """
    return [names.call(sys.modules[__name__], call, "config.log.writers", _is_writer) for call in calls]


def _is_writer(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Writer) and value is not Writer


class tensorboard(Writer):
    """TensorBoard event files in WORKDIR/tensorboard."""

    def begin(self, workdir: Path, config: ConfigDict, step: int) -> None:
        from tensorboardX import SummaryWriter

        self.events = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1, flush_secs=30)

    def log(self, step: int, split: str, metrics: Metrics) -> None:
        for name, value in metrics.items():
            if isinstance(value, list):
                self.events.add_histogram(f"{split}/{name}", np.array(value), step)
            else:
                self.events.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        self.events.close()


class wandb(Writer):
    """Weights & Biases; files in WORKDIR/wandb. Its own environment variables apply, such as WANDB_MODE=offline.

    Args:
        project: the project that gets the run.
    """

    def __init__(self, project: str = "onestep"):
        if importlib.util.find_spec("wandb") is None:
            raise UserError("the package wandb is not installed: pip install 'onestep[wandb]'")
        self.project = project

    def begin(self, workdir: Path, config: ConfigDict, step: int) -> None:
        import wandb as library

        file = workdir / "wandb" / "id"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(uuid.uuid4().hex[:12])
        self.histogram = library.Histogram
        self.run = library.init(
            project=self.project,
            name=workdir.name,
            id=file.read_text(),
            resume="allow",
            dir=str(workdir),
            config=config.to_dict(),
            reinit="create_new",  # one process may train several runs
            settings=library.Settings(console="off", silent=True),
        )
        self.run.define_metric("*", step_metric="step")  # a restart may repeat steps, which W&B's own step may not

    def log(self, step: int, split: str, metrics: Metrics) -> None:
        values = {name: self.histogram(value) if isinstance(value, list) else value for name, value in metrics.items()}
        self.run.log({"step": step} | {f"{split}/{name}": value for name, value in values.items()})

    def close(self) -> None:
        self.run.finish()
