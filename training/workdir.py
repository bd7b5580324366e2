"""What a run leaves in its folder: config.json, metrics.jsonl, TensorBoard events, results.json, checkpoints/,
best/, report.html.
"""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tensorboardX import SummaryWriter

from core.errors import UserError
from training import config as config_lib

PART = ".part"  # suffix of a file that is being written


class Workdir:
    """The folder of one run, shared by its hosts; the first of them writes. Nothing is written before `begin`."""

    def __init__(self, path: str):
        self.path = Path(path)
        self.rows: list[dict] = []  # of metrics.jsonl
        self._metrics = None

    def check(self, config: ConfigDict) -> None:
        """Raises UserError for a folder that cannot be written, is not a run's, or was started with another config."""
        check_path(self.path, f"--workdir {self.path}")
        parent = self.path
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir():
            raise UserError(f"--workdir {self.path}: {parent} is a file")
        check_writable(parent, f"--workdir {self.path}")
        files = (path for path in self.path.rglob("*") if path.is_file())
        if any(path.suffix != PART for path in files):  # a run killed at its beginning leaves no complete file
            changes = config_lib.difference(self.config(), config)
            if changes:
                raise UserError(
                    f"--workdir {self.path} was started with another config ({'; '.join(changes)}): "
                    "use that config, or another workdir"
                )

    def config(self) -> ConfigDict:
        """Returns the config that the run was started with. Raises UserError if the folder is no run's."""
        try:
            return config_lib.from_json((self.path / "config.json").read_text())
        except OSError as error:
            raise UserError(f"--workdir {self.path} is not the folder of a run: it has no config.json") from error
        except ValueError as error:
            raise UserError(f"--workdir {self.path}: config.json is damaged ({error})") from error

    def begin(self, config: ConfigDict, step: int, rows: int) -> None:
        """Starts or continues writing after `step`, keeping the first `rows` lines of metrics.jsonl."""
        metrics = self.path / "metrics.jsonl"
        kept = metrics.read_text().splitlines()[:rows] if metrics.exists() else []
        self.rows = [from_json(line) for line in kept]
        if jax.process_index() > 0:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / "config.json", config_lib.to_json(config))
        write_whole(metrics, "".join(line + "\n" for line in kept))
        self._metrics = metrics.open("a")
        self._events = SummaryWriter(str(self.path / "tensorboard"), purge_step=step + 1, flush_secs=30)

    def log(self, step: int, split: str, metrics: dict[str, float | list[float]]) -> None:
        """Appends one line to metrics.jsonl and its numbers to TensorBoard, a list as their distribution."""
        self.rows.append({"step": step, "split": split, **metrics})
        if self._metrics is None:
            return
        self._metrics.write(to_json(self.rows[-1]) + "\n")
        self._metrics.flush()
        for name, value in metrics.items():
            if isinstance(value, list):
                self._events.add_histogram(f"{split}/{name}", np.array(value), step)
            else:
                self._events.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._events.close()


def check_path(folder: Path, name: str) -> None:
    """Raises UserError, which names the flag, for a path that has characters of a glob pattern: Orbax expands them."""
    if found := sorted(set(str(folder.resolve())) & set("[]*?")):
        raise UserError(f"{name}: {folder.resolve()} has {' '.join(found)} in it: use a path without [ ] * ?")


def check_writable(folder: Path, name: str) -> None:
    """Raises UserError, which names the flag, for a folder that takes no file (permissions alone do not tell)."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{name}: {folder} cannot be written ({error.strerror})") from error


def to_json(value: Any, indent: int | None = None) -> str:
    """Returns JSON in which numbers that are not finite are null: the standard has no text for them."""

    def finite(value):
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(value), indent=indent, allow_nan=False)


def from_json(text: str) -> Any:
    """Inverse of `to_json`; null is NaN."""

    def numbers(value):
        if isinstance(value, dict):
            return {key: numbers(item) for key, item in value.items()}
        if isinstance(value, list):
            return [numbers(item) for item in value]
        return math.nan if value is None else value

    return numbers(json.loads(text))


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that it exists completely or not at all."""
    beside = path.with_name(path.name + PART)
    beside.write_text(text)
    beside.replace(path)
