"""Training steps on a GPU against the same networks in PyTorch eager: one machine, one run, interleaved.

    python -m benchmarks.gpu [--rounds=5] [--seconds=420] [--only=REGEX] [--output=FILE.json] [--smoke]

Imports only `arch`, `tasks`, `training.state` and `training.step`, so that it runs with little more than jax, flax,
optax and PyTorch installed (einops, jaxtyping, scikit-learn, tokenizers; transformers for DETR's peer). Both sides may
use TF32 for float32 matrix products; in bfloat16, PyTorch has autocast. A ratio below 1 means that OneStep is faster.
The rows are compiled and timed in groups of `--threads`; after `--seconds` no further group begins. Leave the processor
to it: compiling takes all cores. `--smoke` runs every row at a tiny size on a CPU.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory on the same device

import jax
import jax.numpy as jnp
import numpy as np
import torch

from arch.bert import BERT, MaskedTokens
from arch.convnext import ConvNeXt
from arch.gmlp import GMLP
from arch.gpt import GPT
from arch.mixer import Mixer
from arch.mlp import MLP
from arch.resnet import CifarResNet, ResNet
from arch.textcnn import TextCNN
from arch.transformer import Transformer
from arch.vit import ViT
from benchmarks import peers, peers_images
from benchmarks.networks import (
    CELLS,
    Network,
    Run,
    bert,
    classifier,
    compare,
    convolutional,
    detr,
    ft_transformer,
    gpt,
    middle_half,
    patches,
    recurrent,
    temporal,
    textcnn,
    transformer,
    unet,
    video,
)

# name of a card -> operations per second in bfloat16 without sparsity, from its data sheet
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
RECURRENT = ((64, 512, 128), (64, 256, 512), (64, 128, 1024))  # batch, time steps, units


def rows(smoke: bool = False) -> Iterator[Network]:
    """Yields the networks to time, of every family, those of the published speeds first; with `smoke` all tiny."""

    def size(full: int, tiny: int) -> int:
        return tiny if smoke else full

    half, batch, side = {"dtype": jnp.bfloat16}, size(128, 2), size(224, 32)
    small = {"depth": 1, "width": 8, "heads": 2, "vocab_size": 11}
    tiny = small | {"context": 4, "num_classes": 11} if smoke else {}
    yield gpt("GPT-2 124M, 1,024 tokens, bf16", GPT(**GPT.VARIANTS["nanoGPT"] | tiny, **half), size(16, 2))
    tiny = {"depth": 1, "width": 8, "heads": 2} if smoke else {}
    vit = ViT(**ViT.VARIANTS["B/16"] | tiny | {"num_classes": 10}, **half)
    yield patches(f"ViT-B/16, {side}x{side}, bf16", vit, batch, side)
    blocks, image = (1, 1, 1, 1) if smoke else (3, 4, 6, 3), (batch, side, side, 3)
    peer = functools.partial(peers.bottleneck_resnet, blocks)
    yield classifier(f"ResNet-50, {side}x{side}, bf16", image, ResNet(blocks=blocks, **half), peer, 1000)
    shapes = ((2, 3, 4),) if smoke else RECURRENT
    yield from (recurrent("LSTM", *shape) for shape in shapes)
    tiny = small | {"mlp_width": 8, "num_classes": 11} if smoke else {"vocab_size": 32_000, "num_classes": 32_000}
    yield transformer("Transformer base, 64 tokens, bf16", Transformer(**tiny, **half), batch, size(64, 4))
    tiny = small | {"context": 4} if smoke else {}
    yield bert("BERT base, 128 tokens, bf16", BERT(**tiny, head=MaskedTokens, **half), batch, size(128, 4))
    tiny = {"depth": 1, "width": 8} if smoke else {}
    mixer = Mixer(**Mixer.VARIANTS["B/16"] | tiny | {"num_classes": 10}, **half)
    yield patches(f"Mixer-B/16, {side}x{side}, bf16", mixer, batch, side)
    gmlp = GMLP(**GMLP.VARIANTS["S"] | tiny | {"num_classes": 10}, **half)
    yield patches(f"gMLP-S, {side}x{side}, bf16", gmlp, batch, side)
    depths, width = ((1, 1), 8) if smoke else ((3, 3, 9, 3), 96)
    peer = functools.partial(peers_images.convnext, depths, width, 4)
    yield classifier(f"ConvNeXt-T, {side}x{side}, bf16", image, ConvNeXt(10, depths, width=width, **half), peer)
    yield unet(size(32, 2), size(256, 16))
    yield detr(size(16, 2), size(512, 64), 10)
    yield from video(size(16, 1), size(16, 4), size(112, 16))
    yield from temporal(size(64, 2), size(8000, 512))
    yield ft_transformer(size(1024, 2))
    yield textcnn("TextCNN, 50 tokens", TextCNN(), size(512, 2), 50)
    yield classifier("MLP 784-512-512-10", (size(1024, 2), 28, 28, 1), MLP(), lambda: peers.mlp(784, (512, 512), 10))
    depth, image = size(20, 8), (size(512, 2), size(32, 8), size(32, 8), 3)
    yield classifier("ResNet-20, 32x32", image, CifarResNet(depth=depth), lambda: peers.cifar_resnet(depth))
    yield from convolutional(size(512, 2))
    yield from (recurrent(kind, *shape) for kind in CELLS if kind != "LSTM" for shape in shapes)


def compiled(network: Network) -> tuple[Run, int]:
    """Returns our step after its first call, and the number of parameters."""
    run, count = network.ours()
    run(1)
    return run, count


def measure(network: Network, prepared: Future, device: str, rounds: int) -> dict[str, str | float]:
    """Returns the medians of both sides, and of the ratio, and what one second of ours does."""
    (ours, our_count), (theirs, their_count) = prepared.result(), network.theirs(device)
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


def measure_all(group: Sequence[Network], device: str, rounds: int) -> Iterator[dict[str, str | float]]:
    """Compiles networks side by side, which takes half a minute for some, then times, prints and yields each."""
    with ThreadPoolExecutor(len(group)) as pool:
        prepared = [pool.submit(compiled, network) for network in group]
    for network, ours in zip(group, prepared, strict=True):
        try:
            row = measure(network, ours, device, rounds)
        except Exception as error:  # one network that fails must not cost the machine's time for the others
            print(f"{network.name:36} failed: {type(error).__name__}: {str(error)[:300]}", flush=True)
            continue
        speed = f"{row['examples_per_second']:,.0f} examples"
        if "tokens_per_second" in row:
            speed = f"{row['tokens_per_second']:,.0f} tokens"
        mfu = f", MFU {row['mfu']:.1%}" if "mfu" in row else ""
        print(
            f"{network.name:36} {row['ours_ms']:9.3f} {row['torch_ms']:9.3f} {row['ratio']:6.2f}"
            f"  {row['low']:.2f}-{row['high']:.2f}    {speed}{mfu}",
            flush=True,
        )
        torch.cuda.empty_cache()
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--only", default="", help="a regular expression of the names of the networks to time")
    parser.add_argument("--threads", type=int, default=6, help="networks that are compiled at a time")
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
    measured, start = [], time.monotonic()
    chosen = [network for network in rows(arguments.smoke) if re.search(arguments.only, network.name)]
    for first in range(0, len(chosen), arguments.threads):
        group = chosen[first : first + arguments.threads]
        if time.monotonic() - start > arguments.seconds:
            print(f"{arguments.seconds:.0f} seconds are over; not timed: {group[0].name} and those after it")
            break
        for row in measure_all(group, device, arguments.rounds):
            measured.append(row)
            if arguments.output:
                with open(arguments.output, "w") as file:
                    json.dump({"device": card, "versions": versions, "rows": measured}, file, indent=1, default=float)


if __name__ == "__main__":
    main()
