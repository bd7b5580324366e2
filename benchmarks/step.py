"""The train step against the same network in PyTorch eager: same machine, run and number of threads, interleaved.

    python -m benchmarks.step [--rounds=20]

Needs the extra `bench`. A ratio below 1 means that OneStep is faster.
"""

import argparse
import functools
import importlib.metadata
import itertools
import sys
import time
from collections.abc import Callable

import flax.linen
import jax
import numpy as np
import optax

from arch.layers.recurrent import GRU, LSTM
from arch.mlp import MLP
from arch.resnet import CifarResNet
from arch.rnn import RecurrentClassifier
from core.cli import use_huge_pages
from tasks.classification import Classification
from training.parallel import Parallel, cores
from training.state import create
from training.step import train_step

try:
    import torch
    from torch import nn
    from torch.nn import functional as F

    from benchmarks import peers
except ImportError:
    torch = None

BATCH = 128
RECURRENT = ((64, 512, 128), (32, 256, 256), (32, 128, 512))  # batch, time steps, units
STEPS = 3  # per turn, after one that is not timed: the other side's threads may still be spinning


class FlaxRecurrent(flax.linen.Module):
    """A `RecurrentClassifier` made of flax's own scan and cells."""

    units: int
    cell: type[flax.linen.RNNCellBase] = flax.linen.OptimizedLSTMCell

    @flax.linen.compact
    def __call__(self, x, train):
        outputs = flax.linen.RNN(self.cell(self.units))(x)
        return flax.linen.Dense(10)(outputs[:, -1])


def our_step(model, images: np.ndarray, labels: np.ndarray, parallel: Parallel | None) -> tuple[Callable, int]:
    """Returns a function that runs one step, on all devices of `parallel` or on one, and waits for it, and the number
    of parameters.
    """
    optimizer = optax.sgd(0.01, momentum=0.9)
    batch = {"image": images, "label": labels, "mask": np.ones(len(labels), np.float32)}
    state = create(model, optimizer, (batch["image"],), jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    step = functools.partial(train_step, model=model, task=Classification(), optimizer=optimizer)
    if parallel:
        step = parallel.compile_train(functools.partial(step, axis_name=parallel.axis_name))
        state, (batch,) = parallel.place(state), parallel.batches([batch])
    else:
        step, batch = jax.jit(step, donate_argnums=0), jax.device_put(batch)

    def run():
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return run, count


def their_step(model: "nn.Module", images: np.ndarray, labels: np.ndarray) -> tuple[Callable[[], None], int]:
    """Returns the same for a PyTorch module, which gets `images` [b, h, w, c] as [b, c, h, w].

    The redundant second bias of a recurrent layer is not counted (except in the GRU's candidate).
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    inputs, targets = torch.tensor(images), torch.tensor(labels, dtype=torch.long)
    inputs = inputs.permute(0, 3, 1, 2).contiguous() if inputs.ndim == 4 else inputs

    def run():
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    spare = sum(
        2 * m.hidden_size if m.mode == "GRU" else m.bias_hh_l0.numel()
        for m in model.modules()
        if isinstance(m, nn.RNNBase)
    )
    return run, sum(p.numel() for p in model.parameters()) - spare


def compare(runs: list[Callable[[], None]], rounds: int) -> np.ndarray:
    """Returns milliseconds per step [runs, rounds]; each run has one turn per round."""

    def turn(run) -> float:
        run()
        start = time.perf_counter()
        for _ in range(STEPS):
            run()
        return 1e3 * (time.perf_counter() - start) / STEPS

    for run in runs:  # compiles, and fills PyTorch's caches
        turn(run)
    return np.array([[turn(run) for run in runs] for _ in range(rounds)]).T


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    if torch is None:
        print("benchmarks.step compares with PyTorch, which is missing: pip install -e '.[bench]'", file=sys.stderr)
        return 2
    torch.set_num_threads(cores())
    jax.config.update("jax_num_cpu_devices", cores())
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, BATCH, np.int32)
    digits, images = (rng.standard_normal((BATCH, *shape), np.float32) for shape in ((28, 28, 1), (32, 32, 3)))
    networks = {
        "MLP 784-512-512-10": (digits, MLP(), lambda: peers.mlp(784, (512, 512), 10)),
        "ResNet-20, 32x32": (images, CifarResNet(depth=20), peers.resnet20),
        "ResNet-20, flax's Conv": (images, CifarResNet(depth=20, conv=flax.linen.Conv), peers.resnet20),
    }
    recurrent = {
        "LSTM": lambda units: RecurrentClassifier(cell=LSTM, widths=(units,)),
        "GRU": lambda units: RecurrentClassifier(cell=GRU, widths=(units,)),
        "flax's LSTM": FlaxRecurrent,
    }
    for (cell, of), (batch, steps, units) in itertools.product(recurrent.items(), RECURRENT):
        networks[f"{cell} {units}, b {batch}, t {steps}"] = (
            rng.standard_normal((batch, steps, units), np.float32),
            of(units),
            functools.partial(peers.recurrent, cell.split()[-1], units, units, 10),
        )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "torch"))
    print(f"{versions}; {jax.devices()[0].device_kind}, {cores()} cores; batch {BATCH}, float32, {rounds} rounds")
    print(f"{'network':28} {'devices':>7} {'ours ms':>8} {'torch ms':>8} {'ratio':>6}  middle half, and range of all")
    for name, (inputs, model, peer) in networks.items():
        targets = labels[: len(inputs)]
        layouts = {1: None, jax.device_count(): Parallel()}  # a CPU as one device, and as one per core
        ours = [our_step(model, inputs, targets, parallel) for parallel in layouts.values()]
        theirs, their_count = their_step(peer(), inputs, targets)
        assert ours[0][1] == their_count, f"{name}: {ours[0][1]} and {their_count} parameters"
        *our_times, their_times = compare([*(run for run, _ in ours), theirs], rounds)
        for devices, times in zip(layouts, our_times, strict=True):
            lowest, low, middle, high, highest = np.percentile(times / their_times, (0, 25, 50, 75, 100))
            print(
                f"{name:28} {devices:7} {np.median(times):8.1f} {np.median(their_times):8.1f} {middle:6.2f}"
                f"  {low:.2f}-{high:.2f}, {lowest:.2f}-{highest:.2f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    use_huge_pages()  # as train.py does; PyTorch has them too
    sys.exit(main())
