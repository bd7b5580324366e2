"""Trains several cells of a row in one process; `experiments.run` starts it:

    python -m experiments.engine.together --config=experiments/X.py:cpu --outdir=DIR --cell=ROW --cell=ROW,seed=1

The cells differ in seed or learning rate. The same command continues where it was stopped. Cells with their own
checkpoints have continued alone and are skipped.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from core import cli
from core.errors import UserError
from experiments.engine import cells
from experiments.engine.cells import CellFiles
from experiments.engine.experiment import Cell, Experiment, cell_config, changed, load, parse_cell


def main(argv: list[str]) -> None:
    given = flags.FLAGS
    for name in ("config", "cell", "outdir"):
        if not given[name].value:
            raise UserError(f"--{name} is missing: {given[name].help}")
    if argv[1:]:
        raise UserError(f"unexpected argument {argv[1]!r}: write --NAME=VALUE")
    experiment = changed(load(given.config)[0], given.set)
    members = [parse_cell(experiment, text.split(",")) for text in given.cell]
    if len(set(members)) < len(members) or len({cell.row for cell in members}) > 1:
        raise UserError(f"--cell {' '.join(given.cell)}: name different cells of one row")
    train(experiment, members, Path(given.outdir).resolve(), given.data_dir)


def train(experiment: Experiment, members: Sequence[Cell], outdir: Path, data_dir: str | None) -> None:
    """Trains the unfinished cells among cells of one row.

    Raises UserError if a workdir has another config, and as `training.main.train_side_by_side`.
    """
    from training import main as training  # imports jax: late, so that a typo ends the command at once

    configs = [cell_config(experiment, cell, outdir) for cell in members]
    files = cells.together(outdir, members)
    all_files = [CellFiles(outdir / cell.folder) for cell in members]
    workdirs = [member_files.workdir if member_files in files.members else None for member_files in all_files]
    for member_files, config in zip(all_files, configs, strict=True):
        if member_files in files.members:
            cells.finished(member_files, config)  # refuses a workdir of another config
    if any(workdirs):
        training.train_side_by_side(configs, workdirs, files.workdir, data_dir)


if __name__ == "__main__":  # `experiments.run` has flags of the same names, and both may be imported
    flags.DEFINE_string("config", None, "Experiment, FILE.py:SCALE.")
    flags.DEFINE_multi_string("cell", [], "A cell, ROW[,seed=NUMBER][,KEY=VALUE]...; once per cell.")
    flags.DEFINE_multi_string("set", [], "KEY=VALUE, a key of every cell's config; repeatable.")
    flags.DEFINE_string("outdir", None, "Folder of the experiment, which contains the cells' folders.")
    flags.DEFINE_string("data_dir", None, "Folder of prepared TFDS data sets (default: TFDS's own).")
    cli.run(main)
