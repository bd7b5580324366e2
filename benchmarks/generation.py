"""Generation by a language model, against the same network in PyTorch eager: same machine, run and number of threads.

    python -m benchmarks.generation [--rounds=20]

Both sample every token from the model's distribution, one by one. Needs the extra `bench`.
"""

import argparse
import importlib.metadata
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from arch.layers.recurrent import GRU, LSTM
from arch.rnn import RecurrentNetwork
from benchmarks.step import compare
from core.cli import use_huge_pages
from training.decoding import sample
from training.parallel import cores

try:
    import torch
    from torch import nn
except ImportError:
    torch = None

VOCABULARY, LENGTH, WIDTH = 69, 300, 256  # configs/text.py:shakespeare


def ours(cell: type, batch: int) -> Callable[[], None]:
    model = RecurrentNetwork(cell=cell, widths=(WIDTH,), vocab_size=VOCABULARY, num_classes=VOCABULARY)
    first = jnp.zeros((batch, 1), jnp.int32)
    variables = jax.jit(lambda key: model.init(key, first, train=False))(jax.random.key(0))

    @jax.jit
    def write(variables, key):
        prompts = first, jnp.ones(batch, jnp.int32)
        return sample(model, variables, prompts, length=LENGTH, rng=key).tokens

    return lambda: jax.block_until_ready(write(variables, jax.random.key(1)))


def theirs(kind: str, batch: int) -> Callable[[], None]:
    embedding, head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY)
    layer = getattr(nn, kind)(WIDTH, WIDTH, batch_first=True)

    @torch.inference_mode()
    def write():
        tokens, state = torch.zeros(batch, 1, dtype=torch.long), None
        for _ in range(LENGTH):
            outputs, state = layer(embedding(tokens), state)
            tokens = torch.multinomial(torch.softmax(head(outputs[:, 0]), -1), 1)

    return write


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    if torch is None:
        print("benchmarks.generation compares with PyTorch: pip install -e '.[bench]'", file=sys.stderr)
        return 2
    torch.set_num_threads(cores())
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "torch"))
    print(
        f"{versions}; {jax.devices()[0].device_kind}, {cores()} cores; {WIDTH} units, {LENGTH} tokens, {rounds} rounds"
    )
    print(f"{'cell, batch':14} {'tokens/s':>10} {'torch':>10} {'ratio':>6}  range of the middle half")
    for cell in (LSTM, GRU):
        for batch in (1, 32):
            mine, peer = 1e3 * batch * LENGTH / compare([ours(cell, batch), theirs(cell.__name__, batch)], rounds)
            low, middle, high = np.percentile(mine / peer, (25, 50, 75))
            mine, peer = np.median(mine), np.median(peer)
            print(f"{cell.__name__ + f', {batch}':14} {mine:10,.0f} {peer:10,.0f} {middle:6.2f}  {low:.2f}-{high:.2f}")
    return 0


if __name__ == "__main__":
    use_huge_pages()  # as train.py does
    sys.exit(main())
