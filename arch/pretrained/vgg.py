"""torchvision's VGG (`arch.vgg.VGG`), with and without batch normalisation: torchvision/models/vgg.py of 0.28."""

from collections.abc import Iterator

from arch.layers.norm import identity
from arch.pretrained.family import TRANSPOSED, Weight, dense
from arch.pretrained.table import Network, Table, batch_norm, conv, flattened


def _rows(network: Network) -> Iterator[Weight]:
    place, layers = 0, 2 if network.norm is identity else 3  # of a convolution: itself, norm, activation
    for stage, depth in enumerate(network.depths, start=1):
        for number in range(1, depth + 1):
            yield from conv(f"features.{place}", f"stage{stage}_conv{number}")
            yield from batch_norm(f"features.{place + 1}", f"stage{stage}_norm{number}")
            place += layers
        place += 1  # the max-pooling
    for number, ours in enumerate([f"dense{i + 1}" for i in range(len(network.hidden))] + ["head"]):
        change = TRANSPOSED if number else flattened(network.pooled, network.pooled)
        yield from dense(f"classifier.{3 * number}", ours, change=change)


TABLE = Table("vgg.VGG", _rows)
