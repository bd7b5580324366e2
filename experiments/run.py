"""Run an experiment: python -m experiments.run --config=experiments/init_depth.py:cpu

Every cell, a row with a seed, is a run in its own folder. One process trains the seeds of a row together if their
config allows it; otherwise train.py trains each. The same command continues a stopped experiment and does not repeat
finished cells. At the end it writes results.jsonl, table.md, table.png and, in the folder of each row, compare.html.

The complete table with a change, in a separate folder: --set optimizer.name=adamw
"""

import dataclasses
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from core import cli
from core.errors import Stopped, UserError, nearest
from experiments.engine import cells, launch
from experiments.engine.cells import CellFiles, Group, Outcome
from experiments.engine.experiment import (
    Cell,
    Experiment,
    cell_config,
    changed,
    equalised,
    folder_name,
    load,
    source,
    with_sources,
)
from experiments.engine.progress import Progress
from training.overrides import override
from training.workdir import check_path, check_writable

_CONFIG = flags.DEFINE_string("config", None, "Experiment, FILE.py or FILE.py:SCALE.")
_OUTDIR = flags.DEFINE_string("outdir", None, "Folder of all runs (default: experiments/runs/NAME-SCALE[-CHANGES]).")
_SET = flags.DEFINE_multi_string("set", [], "KEY=VALUE, a key of every row's config; repeatable.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Cells at a time; 0 = one per GPU, else one per core, at most 8.", 0)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared TFDS data sets (default: TFDS's own).")
_ROWS = flags.DEFINE_list("rows", [], "Only these rows.")
_SEEDS = flags.DEFINE_integer("seeds", 0, "Number of seeds, at most the experiment's; 0 = the experiment's.", 0)
_TOGETHER = flags.DEFINE_bool("together", True, "Train a row's seeds in one process if its config allows it.")
_LAUNCHER = flags.DEFINE_enum("launcher", "local", ["local", "slurm"], "Where cells run.")
_SLURM = flags.DEFINE_multi_string("slurm", [], "Option of submitit, such as slurm_partition=gpu; repeatable.")

TICK_SECONDS = 0.25


def main(argv: list[str]) -> None:
    if not _CONFIG.value:
        raise UserError("--config is missing: name an experiment, such as experiments/init_depth.py:cpu")
    if argv[1:]:
        raise UserError(f"unexpected argument {argv[1]!r}: write --NAME=VALUE")
    experiment, recipe = load(_CONFIG.value)
    for row in _ROWS.value:
        if row not in experiment.rows:
            raise UserError(f"--rows: unknown row {row!r}: {nearest(row, experiment.rows)}")
    experiment = changed(experiment, _SET.value)
    rows = {row: experiment.rows[row] for row in with_sources(experiment, _ROWS.value or list(experiment.rows))}
    asked = dataclasses.replace(experiment, rows=rows, seeds=experiment.seeds[: _SEEDS.value or None])
    check_changes(asked, named=bool(_ROWS.value))
    outdir = Path(_OUTDIR.value or f"experiments/runs/{folder_name(recipe, experiment)}").resolve()
    check(outdir)
    runner = Runner(asked, recipe, outdir, _DATA_DIR.value, _launcher(outdir), _TOGETHER.value)
    signal.signal(signal.SIGTERM, _stopped)
    try:
        runner.run()
    except (KeyboardInterrupt, SystemExit):
        runner.stop()
        print("stopped; the same command continues", flush=True)
        sys.exit(Stopped.EXIT_CODE)
    command = shlex.join(["python", "-m", "experiments.run", *_typed()])
    write_results(experiment, runner, command)
    failed = {cell: outcome for cell, outcome in runner.outcomes.items() if outcome.failed}
    for cell, outcome in failed.items():
        print(f"failed: {cell.folder}: {outcome.reason}", file=sys.stderr, flush=True)
    sys.exit(int(bool(failed)))


def write_results(experiment: Experiment, runner: "Runner", command: str) -> None:
    """Writes the files of a finished experiment, which compare its cells.

    Args:
        experiment: with all rows and seeds, those of earlier sessions too.
        command: the command line that repeats them.
    """
    from experiments import table
    from experiments.engine import results  # these import jax: late, so that a mistake in flags is reported at once
    from reporting import compare

    outdir = runner.outdir
    results.write(outdir, experiment, runner.recipe, command, runner.data_dir)
    table.write(outdir)
    for row in experiment.rows:
        runs = [path for cell in runner.outcomes if cell.row == row and (path := outdir / cell.folder).exists()]
        if len(runs) > 1:
            compare.write(runs, outdir / row / "compare.html", title=f"{row}, {experiment.paper.title}")
    print(f"results: {outdir}/table.md, table.png, results.jsonl, ROW/compare.html", flush=True)


def _typed() -> list[str]:
    """Returns the command's flags without those that differ per user."""
    typed = [flag for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]) if flag.present]
    shown = {"outdir": "", "workers": "", "data_dir": "--data_dir=DIR"}
    return [text for flag in typed for text in shown.get(flag.name, flag.serialize()).splitlines()]


def _launcher(outdir: Path) -> launch.Local | launch.Submitted:
    """Returns the launcher named by `--launcher`; --slurm options go to submitit, integers as integers."""
    if _LAUNCHER.value == "local":
        return launch.Local(_WORKERS.value)
    pairs = [option.partition("=") for option in _SLURM.value]
    options = {key: int(value) if value.isdecimal() else value for key, _, value in pairs}
    return launch.Submitted(_WORKERS.value, outdir, options)


def check_changes(experiment: Experiment, named: bool) -> None:
    """Prints the values that the changes replace in the config of the first row.

    Raises UserError for a change to a key in which the rows differ, unless the rows are `named` by --rows.
    """
    if not experiment.changes:
        return
    from training import build, optimizer  # these import jax: late, so that a mistake in flags is reported at once

    if not named and (keys := equalised(experiment)):
        raise UserError(
            f"--set {' '.join(experiment.change_texts)}: the rows differ in {', '.join(keys)}, which it replaces: "
            "name the rows to change by --rows"
        )
    row = Cell(next(iter(experiment.rows)))
    config, note = override(cell_config(dataclasses.replace(experiment, changes={}), row), experiment.changes)
    for package, group in build.KINDS.items():
        build.check_fields(config[group], package)
    optimizer.check_keys(config.optimizer)
    if note:
        print(f"{row.row}: {note}", flush=True)


def check(outdir: Path) -> None:
    """Raises UserError for a folder that cannot be created, or belongs to a single run."""
    check_path(outdir, f"--outdir {outdir}")
    parent = next(path for path in (outdir, *outdir.parents) if path.exists())
    if not parent.is_dir():
        raise UserError(f"--outdir {outdir}: {parent} is a file")
    check_writable(parent, f"--outdir {outdir}")
    if (outdir / "config.json").exists():
        raise UserError(f"--outdir {outdir} is the folder of one run, not of an experiment")


class Runner:
    """Runs cells until all wanted ones have an outcome."""

    def __init__(
        self,
        experiment: Experiment,
        recipe: str,
        outdir: Path,
        data_dir: str | None,
        launcher: Any,
        together: bool = True,
    ):
        self.experiment, self.recipe, self.outdir, self.launcher, self.together = (
            experiment,
            recipe,
            outdir,
            launcher,
            together,
        )
        self.data_dir = data_dir and str(Path(data_dir).resolve())
        self.outcomes: dict[Cell, Outcome] = {}
        self.groups: dict[Group, tuple[Any, float]] = {}  # running ones: job, start time
        self.busy: set[Cell] = set()  # cells whose workdir another process holds
        self.configs: dict[Cell, ConfigDict] = {}
        self.in_company: dict[Cell, bool] = {}  # whether a cell may be trained together with others
        self.loaded: set[str] = set()  # data sets that a cell has read, so they are prepared

    def run(self) -> None:
        """Runs the unfinished cells. Raises UserError if a workdir has another config."""
        self.outcomes = cells.all_finished(self.experiment, self.outdir)
        with Progress(self.experiment, self.outcomes) as progress:
            while waiting := [
                cell for cell in cells.wanted(self.experiment, self.outcomes) if cell not in self.outcomes
            ]:
                self._start([cell for cell in waiting if cell not in self.running])
                time.sleep(TICK_SECONDS)
                for cell, outcome in self._ended():
                    self.outcomes[cell] = outcome
                    progress.ended(cell, outcome, self.outcomes)
                in_flight = {cell: self._files(cell).progress() for cell in {*self.running, *self.busy}}
                progress.refresh(self.outcomes, in_flight)

    def stop(self) -> None:
        launch.stop([job for job, _ in self.groups.values()])

    @property
    def running(self) -> list[Cell]:
        return [cell for group in self.groups for cell in group.cells]

    def _config(self, cell: Cell) -> ConfigDict:
        if cell not in self.configs:
            self.configs[cell] = cell_config(self.experiment, cell, self.outdir)
        return self.configs[cell]

    def _being_prepared(self, cell: Cell) -> bool:
        """Whether a running cell may be preparing this cell's data set, which two processes must not do at once."""
        name = self._config(cell).data.name
        readers = [other for other in self.running if self._config(other).data.name == name]
        if any(self._files(other).status() for other in readers):
            self.loaded.add(name)
        return bool(readers) and name not in self.loaded

    def _files(self, cell: Cell) -> CellFiles:
        return CellFiles(self.outdir / cell.folder)

    def _finished(self, cell: Cell) -> Outcome | None:
        return cells.finished(self._files(cell), self._config(cell))

    def _may_go_together(self, cell: Cell) -> bool:
        from training.side_by_side import differences, refusal  # imports jax: late, so that a typo is reported at once

        if cell not in self.in_company:
            is_start = cell.row in self.experiment.starts.values()  # its workdir must contain its own checkpoint
            tuning = cells.tuning(self.experiment, cell)
            tuned = [key.removeprefix("optimizer.") for key in self.experiment.tune] if tuning else []
            refused = any(refusal(self._config(other), tuned) for other in tuning or [cell])
            first = dataclasses.replace(cell, seed=self.experiment.seeds[0])
            apart = differences(self._config(first), self._config(cell))  # such as a tokenizer of each seed's start
            self.in_company[cell] = self.together and not is_start and not refused and not apart
        return self.in_company[cell]

    def _start(self, waiting: list[Cell]) -> None:
        if not self.launcher.free:
            return
        for cell in self.busy.intersection(waiting):
            if outcome := self._finished(cell):  # the other process may have finished it
                self.busy.discard(cell)
                self.outcomes[cell] = outcome
        ready = {None, *self.outcomes}
        unfinished = [c for c in waiting if c not in self.outcomes and source(self.experiment, c) in ready]
        for group in cells.groups(self.experiment, unfinished, self.outdir, self._may_go_together):
            if not self.launcher.free:
                return
            if self._being_prepared(group.cells[0]):
                continue
            files = group.files(self.outdir)
            try:
                self.groups[group] = self.launcher.start(self._command(group, files), files), time.monotonic()
                self.busy.difference_update(group.cells)
            except launch.Busy:
                self.busy.update(group.cells)

    def _command(self, group: Group, files: CellFiles) -> list[str]:
        cell, changes = group.cells[0], [f"--set={text}" for text in self.experiment.change_texts]
        if group.members:
            return launch.together_command(self.recipe, group.members, self.outdir, self.data_dir) + changes
        command = launch.train_command(self.recipe, cell.argument, files, self.data_dir) + changes
        start = self._config(cell).init_from
        return command + ([f"--config.init_from={start}"] if start else [])

    def _ended(self) -> list[tuple[Cell, Outcome]]:
        result = []
        for group, (job, began) in list(self.groups.items()):
            if (code := job.poll()) is not None:
                del self.groups[group]
                self.launcher.ended(job)
                for cell in group.cells:
                    files = self._files(cell)
                    files.add_seconds((time.monotonic() - began) / len(group.cells))
                    result.append((cell, cells.ended(files, self._config(cell), code)))
        return result


def _stopped(number: int, frame: Any) -> None:
    del number, frame
    raise SystemExit(Stopped.EXIT_CODE)


if __name__ == "__main__":
    cli.run(main)
