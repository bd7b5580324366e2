"""The folder of a run: config.json, info.json, metrics.jsonl, results.json, checkpoints/, best/, report.html, and the
files of `config.log.writers`.
"""

import contextlib
import fcntl
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from core.errors import UserError
from core.info import Info
from training import config as config_lib
from training import environment, writers

PART = ".part"  # suffix of a file that is being written
LOCK = "lock"  # the file whose lock admits one process; the system releases it when the process ends


class Workdir:
    """The folder of one run, shared by its hosts; the first host writes. Nothing is written before `begin`."""

    def __init__(self, path: str):
        self.path = Path(path)
        self.rows: list[dict] = []  # of metrics.jsonl
        self._metrics = None
        self._writers: list[writers.Writer] = []
        self._began, self._seconds_before = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Wall time of the run's processes. Work of a killed process after its last checkpoint is not counted."""
        return self._seconds_before + time.monotonic() - self._began

    def check(self, config: ConfigDict) -> None:
        """Raises UserError for a folder that is not writable, not a run's, or was started with another config, and for
        writers that cannot be created.
        """
        writers.create(config.log.writers)
        check_path(self.path, f"--workdir {self.path}")
        parent = self.path
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir():
            raise UserError(f"--workdir {self.path}: {parent} is a file")
        check_writable(parent, f"--workdir {self.path}")
        files = (path for path in self.path.rglob("*") if path.is_file())
        # a run killed at its start leaves no complete file
        if any(path.suffix != PART and path.name != LOCK for path in files):
            config_lib.check_same(self.config(), config, f"--workdir {self.path}")

    def config(self) -> ConfigDict:
        """Returns the config with which the run was started.

        Raises UserError if the folder is not a run's, or was written by an older version.
        """
        try:
            config = config_lib.from_json((self.path / "config.json").read_text())
        except OSError as error:
            raise UserError(f"--workdir {self.path} is not the folder of a run: it has no config.json") from error
        except ValueError as error:
            raise UserError(f"--workdir {self.path}: config.json is damaged ({error})") from error
        config_lib.check_version(config, f"--workdir {self.path}")
        return config

    def begin(self, config: ConfigDict, info: Info, step: int, rows: int) -> int:
        """Starts or continues writing after `step`, keeping the first `rows` lines of metrics.jsonl.

        Returns the number of these that are missing or damaged.
        """
        metrics = self.path / "metrics.jsonl"
        lines = metrics.read_bytes().split(b"\n")[:rows] if metrics.exists() else []
        self.rows = [row for row in map(metrics_row, lines) if row]
        self._seconds_before = self.rows[-1].get("seconds", 0.0) if self.rows else 0.0
        lost = rows - len(self.rows)
        if jax.process_index() > 0:
            return lost
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / "config.json", config_lib.to_json(config))
        write_whole(self.path / "info.json", to_json(info.to_json()))
        write_whole(metrics, "".join(to_json(row) + "\n" for row in self.rows))
        self._metrics = metrics.open("a")
        self._writers = writers.create(config.log.writers)
        for writer in self._writers:
            writer.begin(self.path, config, step)
        return lost

    def log(self, step: int, split: str, metrics: dict[str, float | list[float]]) -> None:
        """Appends one line to metrics.jsonl, with the run's seconds so far, and passes the metrics to the writers.

        Raises UserError if the folder was deleted in the meantime.
        """
        self.rows.append({"step": step, "split": split, "seconds": round(self.seconds, 3), **metrics})
        if self._metrics is None:
            return
        if os.fstat(self._metrics.fileno()).st_nlink == 0:
            raise UserError(f"--workdir {self.path} was deleted during the run; the same command starts again")
        self._metrics.write(to_json(self.rows[-1]) + "\n")
        self._metrics.flush()
        for writer in self._writers:
            writer.log(step, split, metrics)

    def sync(self) -> None:
        """Returns when the lines of metrics.jsonl are on the disk: a checkpoint counts them."""
        if self._metrics is not None:
            os.fsync(self._metrics.fileno())

    def finish(self, config: ConfigDict, step: int, results: dict[str, dict[str, float]], command: str) -> None:
        """Writes results.json.

        Args:
            step: of the evaluated weights.
            results: split -> metric -> value.
            command: the command line that repeats the run; "" if it was started from Python.
        """
        record = {"step": step, "results": results, "seed": config.seed, "seconds": round(self.seconds, 1)}
        record |= {"command": command, "devices": environment.describe_devices()}
        record |= {"processor": environment.processor(), "versions": environment.versions()}
        write_whole(self.path / "results.json", to_json(record, indent=2))

    def status(self, state: str, step: int, steps: int, error: str = "") -> None:
        """Writes status.json, which programs read to follow a run; it appears when the data is loaded.

        Args:
            state: training, evaluating, finished, stopped (by SIGTERM), diverged or failed.
            steps: of the complete run.
            error: the reason of a failure.
        """
        if self._metrics is None or not self.path.exists():  # deleted during the run, which `log` reports
            return
        status = {
            "state": state,
            "step": step,
            "steps": steps,
            "error": error,
            "devices": environment.describe_devices(),
        }
        write_whole(self.path / "status.json", to_json(status, indent=2))

    def close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
        for writer in self._writers:
            writer.close()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Context in which this process alone trains in a folder. Raises UserError if another one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--workdir {folder}: another process trains this run: wait for its end, or stop it"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def check_path(folder: Path, name: str) -> None:
    """Raises UserError, which names the flag, for a path with characters of a glob pattern, which Orbax expands."""
    if characters := sorted(set(str(folder.resolve())) & set("[]*?")):
        raise UserError(f"{name}: {folder.resolve()} contains {' '.join(characters)}: use a path without [ ] * ?")


def check_writable(folder: Path, name: str) -> None:
    """Raises UserError, which names the flag, for a folder that is not writable (permissions alone do not decide)."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{name}: {folder} is not writable ({error.strerror})") from error


def to_json(value: Any, indent: int | None = None) -> str:
    """Returns JSON in which numbers that are not finite are null, since the standard cannot represent them."""

    def finite(value):
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(value), indent=indent, allow_nan=False)


def from_json(text: str) -> Any:
    """Inverse of `to_json`; null becomes NaN."""

    def numbers(value):
        if isinstance(value, dict):
            return {key: numbers(item) for key, item in value.items()}
        if isinstance(value, list):
            return [numbers(item) for item in value]
        return math.nan if value is None else value

    return numbers(json.loads(text))


def metrics_row(line: bytes) -> dict | None:
    """Returns a line of metrics.jsonl, None if it is damaged."""
    try:
        row = from_json(line.decode())
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"step", "split"} <= row.keys() else None


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that it exists completely or not at all."""
    with writing(path, path.with_name(path.name + PART)) as beside, beside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # after a power failure, too


@contextlib.contextmanager
def writing(path: Path, beside: Path | None = None) -> Iterator[Path]:
    """Yields the name under which to write a file, which then exists completely or not at all.

    Args:
        beside: this name; by default one with the suffix of `path`, from which libraries take the format.
    """
    beside = beside or path.with_name(f"{path.stem}{PART}{path.suffix}")
    try:
        yield beside
        beside.replace(path)
    except BaseException:  # such as a full disk, or a folder of this name
        beside.unlink(missing_ok=True)
        raise
