"""Networks of videos of the benchmarks in PyTorch, by the definitions of torchvision."""

import itertools

from torch import nn
from torch.nn import functional as F


def convolution(before: int, width: int, kernel: tuple[int, ...], stride: tuple[int, ...] = (1, 1, 1)) -> nn.Module:
    """Returns a convolution with equal padding on both sides."""
    return nn.Conv3d(before, width, kernel, stride, [size // 2 for size in kernel], bias=False)


def factorised(before: int, width: int, planes: int, stride: int) -> list[nn.Module]:
    """Returns a convolution in space and one in time."""
    space, time = convolution(before, planes, (1, 3, 3), (1, stride, stride)), (3, 1, 1)
    return [space, nn.BatchNorm3d(planes), nn.ReLU(True), convolution(planes, width, time, (stride, 1, 1))]


def resnet(is_factorised: bool, classes: int) -> nn.Module:
    """Returns R3D-18 or torchvision's R(2+1)D-18."""

    class Block(nn.Module):
        def __init__(self, before: int, width: int, stride: int):
            super().__init__()
            planes = 27 * before * width // (9 * before + 3 * width)

            def layers(before: int, stride: int) -> list[nn.Module]:
                if is_factorised:
                    return [*factorised(before, width, planes, stride), nn.BatchNorm3d(width)]
                return [convolution(before, width, (3, 3, 3), (stride,) * 3), nn.BatchNorm3d(width)]

            self.branch = nn.Sequential(*layers(before, stride), nn.ReLU(True), *layers(width, 1))
            projection = nn.Sequential(convolution(before, width, (1, 1, 1), (stride,) * 3), nn.BatchNorm3d(width))
            self.shortcut = nn.Identity() if before == width else projection

        def forward(self, x):
            return F.relu(self.shortcut(x) + self.branch(x), inplace=True)

    stem = [convolution(3, 64, (3, 7, 7), (1, 2, 2))]
    if is_factorised:
        stem = [convolution(3, 45, (1, 7, 7), (1, 2, 2)), nn.BatchNorm3d(45), nn.ReLU(True)]
        stem.append(convolution(45, 64, (3, 1, 1)))
    widths = (64, 64, 128, 256, 512)
    blocks = []
    for before, width in itertools.pairwise(widths):
        blocks += [Block(before, width, 1 + (before != width)), Block(width, width, 1)]
    end = [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(512, classes)]
    return nn.Sequential(*stem, nn.BatchNorm3d(64), nn.ReLU(True), *blocks, *end)
