"""torchvision's ConvNeXt (`arch.convnext.ConvNeXt`): torchvision/models/convnext.py of torchvision 0.28."""

from collections.abc import Iterator

from arch.pretrained.family import Weight, dense, norm
from arch.pretrained.table import CHANNELS, Network, Table, conv


def _rows(network: Network) -> Iterator[Weight]:
    yield from conv("features.0.0", "stem_conv")
    yield from norm("features.0.1", "stem_norm")
    for stage, depth in enumerate(network.depths, start=1):
        yield from norm(f"features.{2 * stage - 2}.0", f"stage{stage}_norm")
        yield from conv(f"features.{2 * stage - 2}.1", f"stage{stage}_conv")
        for block in range(depth):
            theirs, ours = f"features.{2 * stage - 1}.{block}", f"stage{stage}_block{block + 1}"
            yield from conv(f"{theirs}.block.0", f"{ours}/spatial")
            yield from norm(f"{theirs}.block.2", f"{ours}/spatial_norm")
            yield from dense(f"{theirs}.block.3", f"{ours}/expand")
            yield from dense(f"{theirs}.block.5", f"{ours}/project")
            yield Weight(f"{theirs}.layer_scale", (f"{ours}/layer_scale",), CHANNELS)
    yield from norm("classifier.0", "final_norm")
    yield from dense("classifier.2", "head")


TABLE = Table("convnext.ConvNeXt", _rows)
