"""Time to trace and compile the training step of a GPT by its depth, with the trunk's `scan` and without.

    python -m benchmarks.compilation [--rounds=3]

Prints medians; the target is that 48 layers with `scan` take at most 1.5 times as long as 12.
"""

import argparse
import functools
import os
import statistics
import time

import jax
import numpy as np
import optax

from arch.gpt import GPT
from tasks.sequence import TokenClassification
from training.state import create
from training.step import train_step

DEPTHS = (12, 48)
SIZES = {"width": 64, "heads": 4, "context": 64, "vocab_size": 65, "num_classes": 65}


def seconds(depth: int, scan: bool) -> float:
    """Returns the seconds from the Python function to the compiled program."""
    jax.clear_caches()
    model, optimizer = GPT(**SIZES, depth=depth, scan=scan), optax.adamw(1e-3)
    tokens = np.zeros((4, 64), np.int32)
    batch = {"tokens": tokens, "labels": tokens, "mask": np.ones(4, np.float32)}
    state = jax.eval_shape(lambda: create(model, optimizer, (tokens,), jax.random.key(0)))
    step = functools.partial(train_step, model=model, task=TokenClassification(), optimizer=optimizer)
    before = time.perf_counter()
    jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    return time.perf_counter() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"{os.cpu_count()} cores, {jax.devices()[0].device_kind}, jax {jax.__version__}, {rounds} rounds, seconds")
    kinds = [(depth, scan) for scan in (True, False) for depth in DEPTHS]
    times = [[seconds(*kind) for kind in kinds] for _ in range(rounds)]
    for (depth, scan), each in zip(kinds, zip(*times, strict=True), strict=True):
        name = f"{depth} layers{', scan' if scan else ''}"
        print(f"{name:16} {statistics.median(each):7.1f} ({min(each):.1f}-{max(each):.1f})")
    for scan, first in ((True, 0), (False, 2)):
        ratio = statistics.median(each[first + 1] / each[first] for each in times)
        print(f"{DEPTHS[1]} layers / {DEPTHS[0]} layers{', scan' if scan else ''}: {ratio:.2f}")


if __name__ == "__main__":
    main()
