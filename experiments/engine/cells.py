"""The outcomes of an experiment's cells, read from their workdirs, and the cells to run next."""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from core.errors import UserError
from experiments.engine.experiment import Cell, Experiment, Values, candidates, cell_config
from training import config as config_lib
from training.workdir import from_json

TOGETHER = "together"  # prefix of the folder of cells that are trained in one process


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a cell: metrics (SPLIT/METRIC -> value), divergence, or failure with its `reason`."""

    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    diverged: bool = False
    reason: str = ""

    @property
    def failed(self) -> bool:
        return not self.metrics and not self.diverged


@dataclasses.dataclass(frozen=True)
class CellFiles:
    """The files of a cell: its workdir and, next to it, the output of its process, and its lock.

    For cells that one process trains, `members` are their own files, and `workdir` holds the shared checkpoint.
    """

    workdir: Path
    members: tuple["CellFiles", ...] = ()

    def beside(self, ending: str) -> Path:
        return self.workdir.with_name(f"{self.workdir.name}.{ending}")

    def share(self) -> None:
        """Links the output of the process next to each member, and removes older output."""
        for ending in ("out", "err"):
            self.beside(ending).unlink(missing_ok=True)  # left by a cell that was a member before
            for member in self.members:
                beside = member.beside(ending)
                beside.unlink(missing_ok=True)
                beside.symlink_to(os.path.relpath(self.beside(ending), beside.parent))

    def last_error(self) -> str:
        """Returns the last non-empty line of standard error."""
        lines = self.beside("err").read_text(errors="replace").split("\n") if self.beside("err").exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def status(self) -> dict[str, Any]:
        """Returns the content of the run's status.json, {} before its data is loaded."""
        try:
            return json.loads((self.workdir / "status.json").read_text())
        except (OSError, ValueError):
            return {}

    def progress(self) -> float:
        """Returns the finished share of the steps."""
        status = self.status()
        return status["step"] / status["steps"] if status else 0.0

    def add_seconds(self, seconds: float) -> None:
        with self.beside("seconds").open("a") as file:
            file.write(f"{seconds:.1f}\n")

    def seconds(self) -> float:
        """Returns the total time of the cell's processes, except those whose runner was killed."""
        file = self.beside("seconds")
        return round(sum(map(float, file.read_text().split())), 1) if file.exists() else 0.0


@dataclasses.dataclass(frozen=True)
class Group:
    """Cells that one process runs: a single one, or several of a row.

    Attributes:
        members: all cells of the process, including cells that are no longer requested; () for a single cell.
    """

    cells: tuple[Cell, ...]
    members: tuple[Cell, ...] = ()

    def files(self, outdir: Path) -> CellFiles:
        return together(outdir, self.members) if self.members else CellFiles(outdir / self.cells[0].folder)


def together(outdir: Path, members: Sequence[Cell]) -> CellFiles:
    """Returns the files of cells of one process; cells that continued alone are not among its members."""
    all_files = [CellFiles(outdir / cell.folder) for cell in members]
    folder = all_files[0].workdir.with_name(f"{TOGETHER}-{'-'.join(str(cell.seed) for cell in members)}")
    if len({cell.values for cell in members}) > 1:
        folder = outdir / members[0].row / f"{TOGETHER}-tuning"
    return CellFiles(folder, tuple(files for files in all_files if not is_alone(files.workdir)))


def groups(experiment: Experiment, waiting: Iterable[Cell], outdir: Path, may: Callable[[Cell], bool]) -> list[Group]:
    """Returns the waiting cells in groups.

    Cells that satisfy `may` share a process: the cells of a tuning grid, and the remaining seeds. A group that has
    started keeps its members.
    """
    grouped: dict[Any, list[Cell]] = {}
    for cell in waiting:
        if not may(cell) or is_alone(outdir / cell.folder):
            grouped[cell] = [cell]
        elif members := tuning(experiment, cell):
            grouped.setdefault(tuple(members), []).append(cell)
        else:
            grouped.setdefault((cell.row, cell.values, _begun(outdir, cell)), []).append(cell)
    result = []
    for key, cells in grouped.items():
        if isinstance(key, Cell):
            members = ()
        elif isinstance(key[0], Cell):
            members = key
        else:
            members = tuple(dataclasses.replace(cells[0], seed=seed) for seed in key[2]) or tuple(cells)
        result.append(Group(tuple(cells), members if len(members) > 1 else ()))
    return result


def tuning(experiment: Experiment, cell: Cell) -> list[Cell]:
    """Returns the tuning cells of the row if `cell` is one of them, otherwise []."""
    grid = candidates(experiment)
    tried = [Cell(cell.row, experiment.seeds[0], values) for values in grid] if len(grid) > 1 else []
    return tried if cell in tried else []


def _begun(outdir: Path, cell: Cell) -> tuple[int, ...]:
    """Returns the seeds of the process in which the cell was started, () if it was not."""
    for folder in sorted((outdir / cell.folder).parent.glob(f"{TOGETHER}-*")):
        seeds = tuple(int(seed) for seed in folder.name.split("-")[1:] if seed.isdecimal())
        if cell.seed in seeds and saved(folder):
            return seeds
    return ()


def saved(workdir: Path) -> list[int]:
    """Returns the steps of the checkpoints of a workdir."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal())


def is_alone(workdir: Path) -> bool:
    """Whether a run continues alone: it has a checkpoint, but the process of several runs that saved it has none."""
    if not (steps := saved(workdir)):
        return False
    try:
        meta = json.loads((workdir / "checkpoints" / str(steps[-1]) / "meta" / "metadata").read_text())
        return not saved(workdir / meta["together"])
    except (OSError, ValueError, KeyError):
        return True


def finished(files: CellFiles, config: ConfigDict) -> Outcome | None:
    """Returns the outcome of the run of `config` in a cell's workdir, None if it has not finished.

    Raises UserError if the workdir has another config, or was written by an older version.
    """
    try:
        old = config_lib.from_json((files.workdir / "config.json").read_text())
    except (OSError, ValueError):  # not started, or a file that the trainer itself reports
        return None
    config_lib.check_version(old, str(files.workdir))
    if changes := config_lib.difference(old, config):
        raise UserError(
            f"{files.workdir} was run with another config ({'; '.join(changes)}): remove it, or set another --outdir"
        )
    if (files.workdir / "results.json").exists():
        results = from_json((files.workdir / "results.json").read_text())["results"]
        return Outcome({f"{split}/{name}": x for split, metrics in results.items() for name, x in metrics.items()})
    return Outcome(diverged=True) if files.status().get("state") == "diverged" else None


def ended(files: CellFiles, config: ConfigDict, code: int) -> Outcome:
    """Returns the outcome of a cell whose process has ended with exit code `code`."""
    outcome = finished(files, config) if code in (0, 1) else None
    return outcome or Outcome(reason=files.status().get("error") or files.last_error() or f"exit code {code}")


def all_finished(experiment: Experiment, outdir: Path) -> dict[Cell, Outcome]:
    """Returns the outcome of every finished cell under `outdir`. Raises UserError as `finished` does."""
    outcomes: dict[Cell, Outcome] = {}
    while True:  # finished tuning determines further cells
        left = [cell for cell in wanted(experiment, outcomes) if cell not in outcomes]
        new = {cell: finished(CellFiles(outdir / cell.folder), cell_config(experiment, cell, outdir)) for cell in left}
        new = {cell: outcome for cell, outcome in new.items() if outcome}
        if not new:
            return outcomes
        outcomes |= new


def wanted(experiment: Experiment, outcomes: Mapping[Cell, Outcome]) -> list[Cell]:
    """Returns all cells that are known to be needed; for a row whose tuning has not finished, only the tuning cells."""
    cells = []
    for row in experiment.rows:
        first = Cell(row, experiment.seeds[0], candidates(experiment)[0])
        values = choose(experiment, row, outcomes)
        rest = [Cell(row, seed, values) for seed in experiment.seeds] if values is not None else []
        cells += dict.fromkeys([*tuning(experiment, first), *rest])
    return cells


def count(experiment: Experiment) -> int:
    """Returns the number of all cells, including tuning."""
    return len(experiment.rows) * (len(candidates(experiment)) + len(experiment.seeds) - 1)


def choose(experiment: Experiment, row: str, outcomes: Mapping[Cell, Outcome]) -> Values | None:
    """Returns the tuned values that are best for the row's first seed on the validation split.

    None until that is known, or if a tuning cell failed. A diverged cell is the worst.
    """
    grid = candidates(experiment)
    if len(grid) == 1:
        return grid[0]
    tried = [outcomes.get(Cell(row, experiment.seeds[0], values)) for values in grid]
    if any(outcome is None or outcome.failed for outcome in tried):
        return None
    scores = [score(experiment, outcome, "validation") for outcome in tried]
    return grid[max(range(len(grid)), key=scores.__getitem__)]


def score(experiment: Experiment, outcome: Outcome, split: str) -> float:
    """Returns the experiment's metric on a split, higher is better. Raises UserError if the run lacks it."""
    name = f"{split}/{experiment.metric.lstrip('-').partition('/')[2]}"
    if outcome.diverged:
        return -math.inf
    if name not in outcome.metrics:
        raise UserError(f"the results lack {name!r}; they have {', '.join(outcome.metrics)}")
    value = outcome.metrics[name] * (-1 if experiment.metric.startswith("-") else 1)
    return value if math.isfinite(value) else -math.inf
