"""Train cells of a row together, as `experiments.run` has it done:

    python -m experiments.engine.together --config=experiments/X.py:cpu --outdir=DIR --cell=ROW --cell=ROW,seed=1

They differ in seed or learning rate. The same command goes on where it was stopped. Cells that have checkpoints of
their own went on alone and are left as they are.
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
    """Trains what is not finished of cells of one row.

    Raises UserError for a workdir of another config, and as `training.main.train_side_by_side`.
    """
    from training import main as training  # with jax: late, so that a typo ends the command at once

    configs = [cell_config(experiment, cell, outdir) for cell in members]
    files = cells.together(outdir, members)
    own = [CellFiles(outdir / cell.folder) for cell in members]
    workdirs = [each.workdir if each in files.members else None for each in own]
    for each, config in zip(own, configs, strict=True):
        if each in files.members:
            cells.finished(each, config)  # refuses a workdir of another config
    if any(workdirs):
        training.train_side_by_side(configs, workdirs, files.workdir, data_dir)


if __name__ == "__main__":  # `experiments.run` has flags of these names, and they may be imported side by side
    flags.DEFINE_string("config", None, "Experiment, FILE.py:SCALE.")
    flags.DEFINE_multi_string("cell", [], "A cell, ROW[,seed=NUMBER][,KEY=VALUE]...; repeated for each.")
    flags.DEFINE_multi_string("set", [], "KEY=VALUE, a key of every cell's config; repeatable.")
    flags.DEFINE_string("outdir", None, "Folder of the experiment, in which are the cells' own.")
    flags.DEFINE_string("data_dir", None, "Where TFDS data sets are or are prepared (default: TFDS's own).")
    cli.run(main)
