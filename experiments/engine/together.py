"""Train cells of a row together, as `experiments.run` has it done:

    python -m experiments.engine.together --config=experiments/X.py:cpu --outdir=DIR --cell=ROW --cell=ROW,seed=1

They differ in seed or learning rate. The same command goes on where it was stopped. Cells that have checkpoints of
their own went on alone and are left as they are.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from core import cli
from core.errors import UserError
from experiments.engine import cells
from experiments.engine.cells import Place
from experiments.engine.experiment import Cell, cell_config, load, parse_cell


def main(argv: list[str]) -> None:
    given = flags.FLAGS
    for name in ("config", "cell", "outdir"):
        if not given[name].value:
            raise UserError(f"--{name} is missing: {given[name].help}")
    if argv[1:]:
        raise UserError(f"{argv[1]!r} is no flag: write --NAME=VALUE")
    whole, _ = load(given.config)
    members = [parse_cell(whole, text.split(",")) for text in given.cell]
    if len(set(members)) < len(members) or len({cell.row for cell in members}) > 1:
        raise UserError(f"--cell {' '.join(given.cell)}: name different cells of one row")
    train(whole, members, Path(given.outdir).resolve(), given.data_dir)


def train(whole: ConfigDict, members: Sequence[Cell], outdir: Path, data_dir: str | None) -> None:
    """Trains what is not finished of cells of one row.

    Raises UserError for a workdir of another config, and as `training.main.train_side_by_side`.
    """
    from training import main as training  # with jax: late, so that a typo ends the command at once

    configs = [cell_config(whole, cell, outdir) for cell in members]
    place = cells.together(outdir, members)
    own = [Place(outdir / cell.folder) for cell in members]
    workdirs = [each.workdir if each in place.members else None for each in own]
    for each, config in zip(own, configs, strict=True):
        if each in place.members:
            cells.finished(each, config)  # refuses a workdir of another config
    if any(workdirs):
        training.train_side_by_side(configs, workdirs, place.workdir, data_dir)


if __name__ == "__main__":  # `experiments.run` has flags of these names, and they may be imported side by side
    flags.DEFINE_string("config", None, "Experiment, FILE.py:SCALE.")
    flags.DEFINE_multi_string("cell", [], "A cell, ROW[,seed=NUMBER][,KEY=VALUE]...; repeated for each.")
    flags.DEFINE_string("outdir", None, "Folder of the experiment, in which are the cells' own.")
    flags.DEFINE_string("data_dir", None, "Where TFDS data sets are or are prepared (default: TFDS's own).")
    cli.run(main)
