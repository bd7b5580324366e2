"""Generation by a language model, against the same network in PyTorch eager: same machine, run and number of threads.

    python -m benchmarks.generation [--rounds=20] [--only=WORD]

Both sample every token from the model's distribution, one by one; a GPT continues a prompt with a cache of keys and
values, a WaveNet reads rings of past inputs. Needs the extra `bench`.
"""

import argparse
import importlib.metadata
import sys
from collections.abc import Callable

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np

from arch.gpt import GPT
from arch.layers.recurrent import GRU, LSTM
from arch.rnn import RecurrentNetwork
from arch.wavenet import WaveNet
from core.cli import set_environment
from training.decoding import sample
from training.parallel import cores

try:
    import torch
    from torch import nn

    from benchmarks import networks, peers_attention, peers_convolution
except ImportError:
    torch = None

VOCABULARY, LENGTH, WIDTH = 69, 300, 256  # configs/text.py:shakespeare
PROMPT, NEW = 16, 200  # of a GPT
SAMPLES = 1000
WAVENET = WaveNet(num_classes=257, width=32, skip=64, dilations=tuple(2**i for i in range(8)) * 2, conditions=10)
SIZES = {"depth": 6, "width": 384, "heads": 6, "context": 256}  # nanoGPT's for characters


def ours(model: flax.linen.Module, inputs: list, conditions: list, length: int) -> Callable[[int], None]:
    """Returns a function that generates a number of times.

    Args:
        inputs: of the model, for its initialisation.
        conditions: of `model.start`.
    """
    variables = jax.jit(lambda key: model.init(key, *inputs, train=False))(jax.random.key(0))

    @jax.jit
    def write(variables, key):
        return sample(model, variables, conditions, length=length, rng=key).tokens

    def run(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(write(variables, jax.random.key(1)))

    return run


def their_layer(kind: str, batch: int) -> Callable[[int], None]:
    """Returns the same for a recurrent layer of PyTorch."""
    embedding, head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY)
    layer = getattr(nn, kind)(WIDTH, WIDTH, batch_first=True)

    @torch.inference_mode()
    def run(count: int) -> None:
        for _ in range(count):
            tokens, state = torch.zeros(batch, 1, dtype=torch.long), None
            for _ in range(LENGTH):
                outputs, state = layer(embedding(tokens), state)
                tokens = torch.multinomial(torch.softmax(head(outputs[:, 0]), -1), 1)

    return run


def their_gpt(batch: int) -> Callable[[int], None]:
    """Returns the same for a GPT of PyTorch, whose cache is preallocated, which is faster than `torch.cat`."""
    model = peers_attention.GPT(VOCABULARY, **SIZES, bias=True, dropout=0.0, gelu="tanh").eval()
    shape = (batch, SIZES["heads"], PROMPT + NEW, SIZES["width"] // SIZES["heads"])

    @torch.inference_mode()
    def run(count: int) -> None:
        for _ in range(count):
            caches = [(torch.empty(shape), torch.empty(shape)) for _ in range(SIZES["depth"])]
            tokens, first = torch.zeros(batch, PROMPT, dtype=torch.long), 0
            for _ in range(NEW):
                logits = model(tokens, caches, first)[:, -1]
                first += tokens.shape[1]
                tokens = torch.multinomial(torch.softmax(logits, -1), 1)

    return run


def their_wavenet(model: WaveNet, batch: int) -> Callable[[int], None]:
    """Returns the same for a WaveNet of PyTorch."""
    sizes = (model.num_classes, model.width, model.skip, model.dilations, model.conditions, model.condition_width)
    peer, label = peers_convolution.WaveNet(*sizes).eval(), torch.zeros(batch, dtype=torch.long)

    def run(count: int) -> None:
        for _ in range(count):
            peer.generate(label, SAMPLES)

    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", help="a part of the names of the networks to time")
    arguments = parser.parse_args()
    if torch is None:
        print("benchmarks.generation compares with PyTorch: pip install -e '.[bench]'", file=sys.stderr)
        return 2
    torch.set_num_threads(cores())
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "torch"))
    print(f"{versions}; {jax.devices()[0].device_kind}, {cores()} cores; {arguments.rounds} rounds")
    print(f"{'network, batch':14} {'tokens/s':>10} {'torch':>10} {'ratio':>6}  range of the middle half")
    for name in ("LSTM", "GRU", "GPT", "WaveNet"):
        for batch in (1, 32):
            if arguments.only not in name:
                continue
            size = {"vocab_size": VOCABULARY, "num_classes": VOCABULARY}
            prompt = [jnp.zeros((batch, PROMPT if name == "GPT" else 1), jnp.int32)]
            conditions = [*prompt, jnp.full(batch, prompt[0].shape[1], jnp.int32)]
            if name == "GPT":
                length, model, peer = NEW, GPT(**size, **SIZES), their_gpt(batch)
            elif name == "WaveNet":
                length, model, peer = SAMPLES, WAVENET, their_wavenet(WAVENET, batch)
                conditions = conditions[1:]  # labels
                prompt = [*conditions, *prompt]
            else:
                cell = {"LSTM": LSTM, "GRU": GRU}[name]
                length, model = LENGTH, RecurrentNetwork(cell=cell, widths=(WIDTH,), **size)
                peer = their_layer(name, batch)
            runs = [ours(model, prompt, conditions, length), peer]
            mine, theirs = 1e3 * batch * length / networks.compare(runs, arguments.rounds)
            middle, low, high = networks.middle_half(mine / theirs)
            mine, theirs = np.median(mine), np.median(theirs)
            print(
                f"{f'{name}, {batch}':14} {mine:10,.0f} {theirs:10,.0f} {middle:6.2f}  {low:.2f}-{high:.2f}", flush=True
            )
    return 0


if __name__ == "__main__":
    set_environment()  # as train.py does
    sys.exit(main())
