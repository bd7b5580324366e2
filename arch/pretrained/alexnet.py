"""torchvision's AlexNet (`arch.alexnet.AlexNet`, "2014"): torchvision/models/alexnet.py of torchvision 0.28."""

from collections.abc import Iterator

from arch.pretrained.family import Weight, dense
from arch.pretrained.table import Network, Table, conv, flattened


def _rows(network: Network) -> Iterator[Weight]:
    for number, place in enumerate((0, 3, 6, 8, 10), start=1):
        yield from conv(f"features.{place}", f"conv{number}")
    yield from dense("classifier.1", "dense1", change=flattened(network.pooled, network.pooled))
    yield from dense("classifier.4", "dense2")
    yield from dense("classifier.6", "head")


TABLE = Table("alexnet.AlexNet", _rows)
