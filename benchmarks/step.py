"""The train step against the same network in PyTorch eager: same machine, run and number of threads, interleaved.

    python -m benchmarks.step [--rounds=20] [--only=WORD]

Needs the extra `bench`. A ratio below 1 means that OneStep is faster.
"""

import argparse
import functools
import importlib.metadata
import sys

import flax.linen
import jax
import numpy as np

from arch.bert import BERT, MaskedTokens
from arch.gmlp import GMLP
from arch.gpt import GPT
from arch.mixer import Mixer
from arch.mlp import MLP
from arch.resnet import CifarResNet
from arch.textcnn import TextCNN
from arch.transformer import Transformer
from arch.vit import ViT
from core.cli import set_environment
from training.parallel import Parallel, cores

try:
    import torch

    from benchmarks import networks, peers
except ImportError:
    torch = None

BATCH = 128
RECURRENT = ((64, 512, 128), (32, 256, 256), (32, 128, 512))  # batch, time steps, units


class FlaxRecurrent(flax.linen.Module):
    """A `RecurrentClassifier` made of flax's own scan and cells."""

    units: int
    cell: type[flax.linen.RNNCellBase] = flax.linen.OptimizedLSTMCell

    @flax.linen.compact
    def __call__(self, x, train):
        outputs = flax.linen.RNN(self.cell(self.units))(x)
        return flax.linen.Dense(10)(outputs[:, -1])


def rows() -> "list[networks.Network]":
    """Returns the networks to time."""
    digits, images = (BATCH, 28, 28, 1), (BATCH, 32, 32, 3)
    nanogpt = functools.partial(GPT, **GPT.VARIANTS["nanoGPT CPU"], num_classes=65, vocab_size=65)
    words = {"vocab_size": 8000, "context": 64}
    sizes = {"depth": 3, "width": 256, "heads": 4, "mlp_width": 1024, "num_classes": 4000, "vocab_size": 4000}
    small = {"num_classes": 10, "patch": (4, 4)}
    found = [
        networks.classifier("MLP 784-512-512-10", digits, MLP(), lambda: peers.mlp(784, (512, 512), 10)),
        networks.classifier("ResNet-20, 32x32", images, CifarResNet(depth=20), peers.cifar_resnet),
        networks.classifier(
            "ResNet-20, flax's Conv", images, CifarResNet(depth=20, conv=flax.linen.Conv), peers.cifar_resnet
        ),
        networks.ft_transformer(BATCH),
        *networks.convolutional(BATCH),
        networks.unet(16, 64),
        networks.detr(8, 128, 4),
        *networks.video(4, 8, 32),
        networks.gpt("nanoGPT's for CPUs", nanogpt(), 12),
        networks.gpt("the same, dropout 0.1", nanogpt(dropout=0.1), 12),
        networks.transformer("Transformer, b 64, t 24", Transformer(**sizes), 64, 24),
        networks.bert("BERT-mini, b 32, t 64", BERT(**BERT.VARIANTS["mini"], head=MaskedTokens, **words), 32, 64),
        networks.textcnn("TextCNN, b 50, t 50", TextCNN(), 50, 50),
        networks.patches("ViT-Ti/4, 32x32", ViT(**ViT.VARIANTS["Ti/16"] | small), 32),
        networks.patches("Mixer-S/4, 32x32", Mixer(**Mixer.VARIANTS["S/16"] | small), 32),
        networks.patches("gMLP-Ti/4, 32x32", GMLP(**GMLP.VARIANTS["Ti"] | small), 32),
    ]
    found += networks.temporal(32, 8000)
    for batch, steps, units in RECURRENT:
        found += [networks.recurrent(kind, batch, steps, units) for kind in ("LSTM", "GRU")]
        peer = functools.partial(peers.recurrent, "LSTM", units, units, 10)
        name = f"flax's LSTM {units}, {steps} steps"
        found.append(networks.classifier(name, (batch, steps, units), FlaxRecurrent(units), peer))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", help="a part of the names of the networks to time")
    arguments = parser.parse_args()
    if torch is None:
        print("benchmarks.step compares with PyTorch, which is missing: pip install -e '.[bench]'", file=sys.stderr)
        return 2
    torch.set_num_threads(cores())
    jax.config.update("jax_num_cpu_devices", cores())
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "torch"))
    print(f"{versions}; {jax.devices()[0].device_kind}, {cores()} cores; float32, {arguments.rounds} rounds")
    print(f"{'network':28} {'devices':>7} {'ours ms':>8} {'torch ms':>8} {'ratio':>6}  middle half, and range of all")
    for network in rows():
        if arguments.only not in network.name:
            continue
        layouts = {1: None, jax.device_count(): Parallel()}  # a CPU as one device, and as one per core
        ours = [network.ours(parallel) for parallel in layouts.values()]
        theirs, their_count = network.theirs()
        assert ours[0][1] == their_count, f"{network.name}: {ours[0][1]} and {their_count} parameters"
        parts = [make() for make in network.parts.values()]
        times = networks.compare([*(run for run, _ in ours), theirs, *parts], arguments.rounds)
        (*our_times, their_times), part_times = times[: len(ours) + 1], times[len(ours) + 1 :]
        for devices, times in zip(layouts, our_times, strict=True):
            lowest, low, middle, high, highest = np.percentile(times / their_times, (0, 25, 50, 75, 100))
            print(
                f"{network.name:28} {devices:7} {np.median(times):8.1f} {np.median(their_times):8.1f} {middle:6.2f}"
                f"  {low:.2f}-{high:.2f}, {lowest:.2f}-{highest:.2f}",
                flush=True,
            )
        for part, alone in zip(network.parts, part_times, strict=True):
            share = np.median(alone / our_times[0])
            print(f"  {part} alone: {np.median(alone):.2f} ms, {share:.1%} of a step on 1 device", flush=True)
    return 0


if __name__ == "__main__":
    set_environment()  # as train.py does; PyTorch has them too
    sys.exit(main())
