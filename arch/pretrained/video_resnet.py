"""torchvision's R3D-18, MC3-18 and R(2+1)D-18 (`arch.video_resnet.VideoResNet`).

Source: torchvision/models/video/resnet.py of torchvision 0.28. Its R(2+1)D has the block
`FactorisedBlock(midplanes="torchvision")`.
"""

from collections.abc import Iterator

from arch.pretrained.family import Weight, dense
from arch.pretrained.table import Network, Table, batch_norm, conv


def _rows(network: Network) -> Iterator[Weight]:
    factorised = network.stem_midplanes > 0
    if factorised:
        yield from conv("stem.0", "stem_space_conv")
        yield from batch_norm("stem.1", "stem_space_norm")
    yield from conv("stem.3" if factorised else "stem.0", "stem_conv")
    yield from batch_norm("stem.4" if factorised else "stem.1", "stem_norm")
    for stage, count in enumerate(network.blocks, start=1):
        for block in range(count):
            theirs, ours = f"layer{stage}.{block}", f"stage{stage}_block{block + 1}"
            yield from _block(theirs, ours, factorised)
            yield from conv(f"{theirs}.downsample.0", f"{ours}/shortcut_conv")
            yield from batch_norm(f"{theirs}.downsample.1", f"{ours}/shortcut_norm")
    yield from dense("fc", "head")


def _block(theirs: str, ours: str, factorised: bool) -> Iterator[Weight]:
    """Yields the rows of two convolutions, each with its norm; a factorised one has a norm inside, too."""
    place = 0
    for number in (1, 2):
        layer = f"{theirs}.conv{number}"
        parts = [(f"{layer}.0", f"{layer}.1")]
        if factorised:
            parts = [(f"{layer}.0.0", f"{layer}.0.1"), (f"{layer}.0.3", f"{layer}.1")]
        for kernel, norm in parts:
            yield from conv(kernel, f"{ours}/Conv_{place}")
            yield from batch_norm(norm, f"{ours}/BatchNorm_{place}")
            place += 1


TABLE = Table("video_resnet.VideoResNet", _rows)
