"""Train the seeds of a row together, as `experiments.run` has it done:

    python -m experiments.together --config=experiments/init_depth.py:cpu,he-30 --seeds=0,1,2 --outdir=DIR

--config names one cell, whose own seed does not matter. The same command goes on where it was stopped. Cells that have
checkpoints of their own went on alone and are left as they are.
"""

import dataclasses
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from data.errors import UserError
from experiments import cells
from experiments.experiment import Cell, cell_config, load, parse_cell
from training import cli


def main(argv: list[str]) -> None:
    given = flags.FLAGS
    for name in ("config", "seeds", "outdir"):
        if not given[name].value:
            raise UserError(f"--{name} is missing: {given[name].help}")
    if argv[1:]:
        raise UserError(f"{argv[1]!r} is no flag: write --NAME=VALUE")
    if not all(seed.isdecimal() for seed in given.seeds) or len(set(given.seeds)) < len(given.seeds):
        raise UserError(f"--seeds={','.join(given.seeds)}: write different numbers, such as 0,1,2")
    recipe, _, argument = given.config.partition(",")
    if not argument:
        raise UserError(f"--config {recipe} names no row: write FILE.py:SCALE,ROW")
    whole, _ = load(recipe)
    cell = parse_cell(whole, argument.split(","))
    train(whole, cell, tuple(map(int, given.seeds)), Path(given.outdir).resolve(), given.data_dir)


def train(whole: ConfigDict, cell: Cell, seeds: tuple[int, ...], outdir: Path, data_dir: str | None) -> None:
    """Trains what is not finished of the cells that are like `cell` but for their seeds.

    Raises UserError for a workdir of another config, and as `training.seeds.Seeds.build`; Stopped after SIGTERM.
    """
    from training.display import Display, describe_devices  # with jax: late, so that a slip is answered at once
    from training.seeds import Seeds, Trainer
    from training.workdir import write_whole

    configs = {seed: cell_config(whole, dataclasses.replace(cell, seed=seed)) for seed in seeds}
    place = cells.together(outdir, cell, seeds)
    members = {int(member.workdir.name): member for member in place.members}
    for seed, member in members.items():
        cells.finished(member, configs[seed])  # refuses a workdir of another config
    display = Display()
    display.say(f"devices: {describe_devices()}")
    together = Seeds.build(configs[seeds[0]], seeds, data_dir)
    sizes = ", ".join(f"{len(split)} {name}" for name, split in together.run.splits.items())
    display.say(f"data: {together.run.info.name} ({sizes}); seeds {', '.join(map(str, seeds))}\n")
    if not members:
        return
    trainer = Trainer(together, {seed: member.workdir for seed, member in members.items()}, place.workdir, display)
    try:
        state = trainer.train()
        for seed in members.keys() & trainer.diverged.keys():
            write_whole(members[seed].beside("err"), f"{trainer.diverged[seed]}\n")
        trainer.finish(state)
    finally:
        trainer.close()


if __name__ == "__main__":  # `experiments.run` has flags of these names, and they may be imported side by side
    flags.DEFINE_string("config", None, "Cells, FILE.py:SCALE,ROW[,KEY=VALUE]...")
    flags.DEFINE_list("seeds", [], "Their seeds, such as 0,1,2.")
    flags.DEFINE_string("outdir", None, "Folder of the experiment, in which are the cells' own.")
    flags.DEFINE_string("data_dir", None, "Where TFDS data sets are or are prepared (default: TFDS's own).")
    cli.run(main)
