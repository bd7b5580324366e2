"""Time of a training step of each row of an experiment, interleaved in one process:

    python -m benchmarks.rows --config=experiments/transformer_lstm.py:cpu --data_dir=DIR [--rows=gpt-32,lstm-32]

Milliseconds per step, medians over rounds, and their ratio to the first row.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping

from ml_collections import ConfigDict

from benchmarks.seeds import STEPS, turn
from core.cli import guarded, set_environment
from core.errors import nearest
from experiments.engine.experiment import Cell, cell_config, load
from training import environment
from training.config import validate
from training.run import build_run


def step_times(
    configs: Mapping[str, ConfigDict], data_dir: str | None, rounds: int, steps: int = STEPS
) -> dict[str, float]:
    """Returns the milliseconds per step of each config by name, medians over rounds of `steps` steps."""
    turns = {name: turn(build_run(validate(config), data_dir), steps) for name, config in configs.items()}
    times = [{name: measure() for name, measure in turns.items()} for _ in range(rounds)]
    return {name: round(statistics.median(each[name] for each in times), 3) for name in turns}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="an experiment, FILE.py:SCALE")
    parser.add_argument("--rows", default="", help="rows, separated by commas; all by default")
    parser.add_argument("--data_dir")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of a row in a round")
    arguments = parser.parse_args()
    experiment, _ = load(arguments.config)
    rows = arguments.rows.split(",") if arguments.rows else list(experiment.rows)
    for row in rows:
        if row not in experiment.rows:
            parser.error(f"--rows: unknown row {row!r}: {nearest(row, experiment.rows)}")
    configs = {row: cell_config(experiment, Cell(row)) for row in rows}
    times = step_times(configs, arguments.data_dir, arguments.rounds, arguments.steps)
    print(environment.processor(), environment.describe_devices(), sep="; ")
    for row, ms in times.items():
        print(f"{row:24s} {ms:9.1f} ms  {ms / times[rows[0]]:.2f}")


if __name__ == "__main__":
    set_environment()
    sys.exit(guarded(main))
