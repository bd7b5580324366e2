"""torchvision's ResNets (`arch.resnet.ResNet`): resnet18 to resnet152, and those of other widths.

Source: torchvision/models/resnet.py of torchvision 0.28. The stride of a bottleneck is in its 3x3 convolution in both.
"""

from collections.abc import Iterator

from arch.pretrained.family import Weight, dense
from arch.pretrained.table import Network, Table, batch_norm, conv


def rows(network: Network) -> Iterator[Weight]:
    """Returns the rows of a ResNet's table."""
    yield from conv("conv1", "stem_conv")
    yield from batch_norm("bn1", "stem_norm")
    for stage, count in enumerate(network.blocks, start=1):
        for block in range(count):
            theirs, ours = f"layer{stage}.{block}", f"stage{stage}_block{block + 1}"
            for number in range(3):  # a basic block has two
                yield from conv(f"{theirs}.conv{number + 1}", f"{ours}/Conv_{number}")
                yield from batch_norm(f"{theirs}.bn{number + 1}", f"{ours}/BatchNorm_{number}")
            yield from conv(f"{theirs}.downsample.0", f"{ours}/shortcut_conv")
            yield from batch_norm(f"{theirs}.downsample.1", f"{ours}/shortcut_norm")
    yield from dense("fc", "head")


TABLE = Table("resnet.ResNet", rows)
