"""torchvision's DenseNet (`arch.densenet.DenseNet`): torchvision/models/densenet.py of torchvision 0.28.

The published files are older than the code, which renames their arrays: "norm.1" was "norm1".
"""

from collections.abc import Iterator

from arch.pretrained.family import Weight, dense
from arch.pretrained.table import Network, Table, batch_norm, conv


def _rows(network: Network) -> Iterator[Weight]:
    yield from conv("features.conv0", "stem_conv")
    yield from batch_norm("features.norm0", "stem_norm")
    for block, count in enumerate(network.blocks, start=1):
        for layer in range(1, count + 1):
            theirs, ours = f"features.denseblock{block}.denselayer{layer}", f"block{block}_layer{layer}"
            for number, prefix in ((1, "bottleneck_"), (2, "")) if network.bottleneck else ((1, ""),):
                yield from _renamed(
                    theirs, "norm", number, batch_norm(f"{theirs}.norm{number}", f"{ours}_{prefix}norm")
                )
                yield from _renamed(theirs, "conv", number, conv(f"{theirs}.conv{number}", f"{ours}_{prefix}conv"))
        yield from batch_norm(f"features.transition{block}.norm", f"transition{block}_norm")
        yield from conv(f"features.transition{block}.conv", f"transition{block}_conv")
    yield from batch_norm("features.norm5", "final_norm")
    yield from dense("classifier", "head")


def _renamed(layer: str, kind: str, number: int, rows: tuple[Weight, ...]) -> Iterator[Weight]:
    """Yields the rows with the names of the published files beside those of the code."""
    for row in rows:
        older = row.theirs.replace(f"{layer}.{kind}{number}", f"{layer}.{kind}.{number}")
        yield row._replace(theirs=f"{row.theirs}|{older}")


TABLE = Table("densenet.DenseNet", _rows)
