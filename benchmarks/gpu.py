"""Training steps on a GPU against the same networks in PyTorch eager: one machine, one run, interleaved.

    python -m benchmarks.gpu [--rounds=5] [--output=FILE.json]

Imports only `arch`, `tasks` and `training.step`, so that it runs with little more than jax, flax, optax and PyTorch
installed. Both sides may use TF32 for float32 matrix products. A ratio below 1 means that OneStep is faster.
"""

import argparse
import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory on the same device

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.nn import functional as F

from arch.layers.recurrent import GRU, LSTM, Elman
from arch.mlp import MLP
from arch.resnet import CifarResNet, ResNet
from arch.rnn import RecurrentClassifier
from benchmarks import peers
from tasks.classification import Classification
from training.state import create
from training.step import train_step

SECONDS = 0.4  # per turn, after one step that is not timed


@dataclasses.dataclass(frozen=True)
class Row:
    """A network in both frameworks; `shape` is that of its inputs, batch first."""

    name: str
    shape: tuple[int, ...]
    ours: linen.Module
    theirs: Callable[[], torch.nn.Module]
    classes: int = 10
    bfloat16: bool = False


def rows() -> list[Row]:
    """Returns the networks to time."""
    found = [Row("MLP 784-512-512-10", (1024, 28, 28, 1), MLP(), lambda: peers.mlp(784, (512, 512), 10))]
    found += [Row("ResNet-20, 32x32", (512, 32, 32, 3), CifarResNet(depth=20), peers.resnet20)]
    for dtype in (None, jnp.bfloat16):
        ours = ResNet(depth=50, dtype=dtype)
        name = f"ResNet-50, 224x224{', bfloat16' if dtype else ''}"
        found.append(Row(name, (128, 224, 224, 3), ours, _resnet50, 1000, bool(dtype)))
    cells = {"LSTM": LSTM, "GRU": GRU, "RNN": Elman}
    for batch, steps, units in ((64, 512, 128), (64, 256, 512), (64, 128, 1024)):
        for kind, cell in cells.items():
            ours = RecurrentClassifier(cell=cell, widths=(units,))
            theirs = functools.partial(peers.recurrent, kind, units, units, 10)
            found.append(Row(f"{kind} {units}, {steps} steps", (batch, steps, units), ours, theirs))
    return found


def _resnet50() -> torch.nn.Module:
    import torchvision

    return torchvision.models.resnet50()


def our_step(row: Row, inputs: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    """Returns a function that runs a number of steps and waits for the last one."""
    optimizer = optax.sgd(0.01, momentum=0.9)
    batch = jax.device_put({"image": inputs, "label": labels, "mask": np.ones(len(labels), np.float32)})
    state = create(row.ours, optimizer, (batch["image"],), jax.random.key(0))
    step = functools.partial(train_step, model=row.ours, task=Classification(), optimizer=optimizer)
    step = jax.jit(step, donate_argnums=0)

    def run(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return run


def their_step(row: Row, inputs: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    """Returns the same for PyTorch, with images in its faster memory format, channels last."""
    model = row.theirs().cuda()
    x, y = torch.tensor(inputs).cuda(), torch.tensor(labels, dtype=torch.long).cuda()
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    precision = functools.partial(torch.autocast, "cuda", torch.bfloat16) if row.bfloat16 else contextlib.nullcontext

    def run(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            with precision():
                loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()

    return run


def turn(run: Callable[[int], None], count: int) -> float:
    """Returns milliseconds per step."""
    run(1)
    before = time.perf_counter()
    run(count)
    return 1e3 * (time.perf_counter() - before) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", help="also write the numbers to this file, as JSON")
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "torch")}
    device = torch.cuda.get_device_name()
    print(f"{device}; {', '.join(f'{k} {v}' for k, v in versions.items())}; {arguments.rounds} rounds", flush=True)
    print(f"{'network':30} {'ours ms':>9} {'torch ms':>9} {'examples/s':>11} {'ratio':>6}  range")
    rng, measured = np.random.default_rng(0), []
    for row in rows():
        inputs = rng.standard_normal(row.shape, np.float32)
        labels = rng.integers(0, row.classes, row.shape[0], np.int32)
        runs = our_step(row, inputs, labels), their_step(row, inputs, labels)
        counts = [max(3, round(1e3 * SECONDS / turn(run, 3))) for run in runs]  # compiles, too
        times = [[turn(run, n) for run, n in zip(runs, counts, strict=True)] for _ in range(arguments.rounds)]
        ours, theirs = (statistics.median(each) for each in zip(*times, strict=True))
        ratios = [a / b for a, b in times]
        speed = 1e3 * row.shape[0] / ours
        print(
            f"{row.name:30} {ours:9.3f} {theirs:9.3f} {speed:11.0f} {statistics.median(ratios):6.2f}"
            f"  {min(ratios):.2f}-{max(ratios):.2f}",
            flush=True,
        )
        measured.append({"network": row.name, "batch": row.shape[0], "ours_ms": ours, "torch_ms": theirs})
        measured[-1] |= {"examples_per_second": speed, "ratio": statistics.median(ratios)}
        del runs
        torch.cuda.empty_cache()
    if arguments.output:
        with open(arguments.output, "w") as file:
            json.dump({"device": device, "versions": versions, "rows": measured}, file, indent=1)


if __name__ == "__main__":
    main()
