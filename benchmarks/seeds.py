"""The cost per seed when seeds are trained together, against separate runs: same machine, same run, interleaved.

    python -m benchmarks.seeds [--rounds=10]

A ratio below 1 means that a seed costs less when trained together.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from core.cli import guarded, set_environment
from data.batches import train_batches
from experiments.engine.bases import digits_mlp
from training.run import Run, build_run

COUNTS = (1, 5)
STEPS = 20  # per turn


def networks() -> dict[str, ConfigDict]:
    """Returns configs of networks small enough to leave a device idle, and of one that is not."""
    deep, wide, convolutional = (digits_mlp(steps=1, batch_size=64) for _ in range(3))
    deep.model.widths, wide.model.widths = (64,) * 10, (512,) * 2
    convolutional.model = ConfigDict({"name": "resnet.CifarResNet", "depth": 8})
    return {"dense 10 x 64": deep, "dense 2 x 512": wide, "ResNet-8": convolutional}


def _each(config: ConfigDict, count: int) -> list[ConfigDict]:
    configs = [config.copy_and_resolve_references() for _ in range(count)]
    for seed, each in enumerate(configs):
        each.seed = seed
    return configs


def turn(run: Run, steps: int = STEPS) -> Callable[[], float]:
    """Returns a function that runs `steps` steps on one batch and returns milliseconds per step and seed."""
    place, step = run.parallel, run.train_step()
    state = place.place(place.stack(*run.create_states(print)))
    settings = {"batch_size": run.config.train.batch_size, "start": 0, "stop": 1}
    (batch,) = place.batches(*(train_batches(run.train_split, seed=each.seed, **settings) for each in run.configs))

    def measure() -> float:
        nonlocal state
        before = time.perf_counter()
        for _ in range(steps):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        return 1e3 * (time.perf_counter() - before) / steps / len(run.configs)

    measure()  # compiles
    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    device = jax.devices()[0]
    print(f"{os.cpu_count()} cores, {device.platform} ({device.device_kind}), jax {jax.__version__}, {rounds} rounds")
    print("milliseconds per step and seed, medians (range)")
    with tempfile.TemporaryDirectory() as folder:
        for name, config in networks().items():
            each = {count: _each(config, count) for count in COUNTS}
            turns = {count: turn(build_run(first, folder, rest)) for count, (first, *rest) in each.items()}
            times = {count: [] for count in COUNTS}
            for _ in range(rounds):
                for count, run in turns.items():
                    times[count].append(run())
            for count, each in times.items():
                ratio = statistics.median(x / y for x, y in zip(each, times[1], strict=True))
                shown = f"{statistics.median(each):8.3f} ({min(each):.3f}-{max(each):.3f})"
                print(f"{name:16s} {count:3d} seeds {shown}  ratio {ratio:.2f}")


if __name__ == "__main__":
    set_environment()
    sys.exit(guarded(main))
