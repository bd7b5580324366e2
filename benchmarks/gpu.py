"""Training steps on a GPU against the same networks in PyTorch eager: one machine, one run, interleaved.

    python -m benchmarks.gpu [--rounds=5] [--output=FILE.json] [--smoke]

Imports only `arch`, `tasks`, `training.state` and `training.step`, so that it runs with little more than jax, flax,
optax and PyTorch installed (einops, jaxtyping, scikit-learn, tokenizers). Both sides may use TF32 for float32 matrix
products; in bfloat16, PyTorch has autocast. A ratio below 1 means that OneStep is faster. `--smoke` runs every row at a
tiny size on a CPU.
"""

import argparse
import functools
import importlib.metadata
import json
import os
from collections.abc import Iterator

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory on the same device

import jax
import jax.numpy as jnp
import numpy as np
import torch

from arch.bert import BERT, MaskedTokens
from arch.gpt import GPT
from arch.mlp import MLP
from arch.resnet import CifarResNet, ResNet
from arch.transformer import Transformer
from benchmarks import peers
from benchmarks.networks import CELLS, Network, bert, classifier, compare, gpt, middle_half, recurrent, transformer

# name of a card -> operations per second in bfloat16 without sparsity, from its data sheet
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
RECURRENT = ((64, 512, 128), (64, 256, 512), (64, 128, 1024))  # batch, time steps, units


def rows(smoke: bool = False) -> Iterator[Network]:
    """Yields the networks to time, one of every family; with `smoke` all of them tiny."""

    def size(full: int, tiny: int) -> int:
        return tiny if smoke else full

    yield classifier("MLP 784-512-512-10", (size(1024, 2), 28, 28, 1), MLP(), lambda: peers.mlp(784, (512, 512), 10))
    image = (size(512, 2), size(32, 8), size(32, 8), 3)
    depth = size(20, 8)
    yield classifier("ResNet-20, 32x32", image, CifarResNet(depth=depth), lambda: peers.cifar_resnet(depth))
    for dtype in (None, jnp.bfloat16):
        name = f"ResNet-50, 224x224{', bfloat16' if dtype else ''}"
        image = (size(128, 2), size(224, 32), size(224, 32), 3)
        blocks = (1, 1, 1, 1) if smoke else (3, 4, 6, 3)
        model = ResNet(blocks=blocks, dtype=dtype)
        yield classifier(name, image, model, functools.partial(peers.bottleneck_resnet, blocks), 1000)
    for kind in CELLS:
        for batch, steps, units in ((2, 3, 4),) if smoke else RECURRENT:
            yield recurrent(kind, batch, steps, units)
    for dtype in (None, jnp.bfloat16):
        suffix = ", bfloat16" if dtype else ""
        small = {"depth": 1, "width": 8, "heads": 2, "context": 4, "vocab_size": 11, "num_classes": 11} if smoke else {}
        model = GPT(**GPT.VARIANTS["nanoGPT"] | small, dtype=dtype)
        yield gpt(f"GPT-2 124M, 1,024 tokens{suffix}", model, size(16, 2))
        small = {"depth": 1, "width": 8, "heads": 2, "mlp_width": 8, "vocab_size": 11, "num_classes": 11}
        model = Transformer(**small if smoke else {"vocab_size": 32_000, "num_classes": 32_000}, dtype=dtype)
        yield transformer(f"Transformer base, 64 tokens{suffix}", model, size(128, 2), size(64, 4))
        small = {"depth": 1, "width": 8, "heads": 2, "context": 4, "vocab_size": 11} if smoke else {}
        model = BERT(**small, head=MaskedTokens, dtype=dtype)
        yield bert(f"BERT base, 128 tokens{suffix}", model, size(128, 2), size(128, 4))


def measure(network: Network, device: str, rounds: int) -> dict[str, str | float]:
    """Returns the medians of both sides, and of the ratio, and what one second of ours does."""
    (ours, our_count), (theirs, their_count) = network.ours(), network.theirs(device)
    assert our_count == their_count, f"{network.name}: {our_count} and {their_count} parameters"
    times = compare([ours, theirs], rounds)
    ratio, low, high = middle_half(times[0] / times[1])
    our_ms, their_ms = np.median(times, axis=1)
    result = {"network": network.name, "batch": network.size, "ours_ms": our_ms, "torch_ms": their_ms}
    result |= {"ratio": ratio, "low": low, "high": high, "examples_per_second": 1e3 * network.size / our_ms}
    tokens = network.batch.get("tokens", network.batch.get("target"))
    if tokens is not None:
        result["tokens_per_second"] = 1e3 * tokens.size / our_ms
    peak = next((peak for card, peak in PEAKS.items() if card in jax.devices()[0].device_kind), None)
    if peak and network.flops and network.model.dtype == jnp.bfloat16:
        result["mfu"] = 1e3 * network.flops / our_ms / peak
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", help="also write the numbers to this file, as JSON")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, on a CPU")
    arguments = parser.parse_args()
    device = "cpu" if arguments.smoke else "cuda"
    if arguments.smoke:
        torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "torch")}
    card = jax.devices()[0].device_kind
    print(f"{card}; {', '.join(f'{k} {v}' for k, v in versions.items())}; {arguments.rounds} rounds", flush=True)
    print(f"{'network':36} {'ours ms':>9} {'torch ms':>9} {'ratio':>6}  middle half  per second")
    measured = []
    for network in rows(arguments.smoke):
        row = measure(network, device, arguments.rounds)
        speed = f"{row['examples_per_second']:,.0f} examples"
        if "tokens_per_second" in row:
            speed = f"{row['tokens_per_second']:,.0f} tokens"
        mfu = f", MFU {row['mfu']:.1%}" if "mfu" in row else ""
        print(
            f"{network.name:36} {row['ours_ms']:9.3f} {row['torch_ms']:9.3f} {row['ratio']:6.2f}"
            f"  {row['low']:.2f}-{row['high']:.2f}    {speed}{mfu}",
            flush=True,
        )
        measured.append(row)
        torch.cuda.empty_cache()
    if arguments.output:
        with open(arguments.output, "w") as file:
            json.dump({"device": card, "versions": versions, "rows": measured}, file, indent=1, default=float)


if __name__ == "__main__":
    main()
