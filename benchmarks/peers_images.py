"""Convolutional networks of the benchmarks in PyTorch, by the definitions of torchvision."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F


def lenet() -> nn.Module:
    """Returns `arch.lenet.LeNet5` of 32x32 images with full connections, means and a linear head."""
    layers = [nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)]
    layers += [nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)]
    return nn.Sequential(*layers)


def vgg(depths: tuple[int, ...]) -> nn.Module:
    """Returns `arch.vgg.VGG` of 32x32 images without hidden layers."""
    layers, before = [], 3
    for depth, width in zip(depths, (64, 128, 256, 512, 512), strict=True):
        for _ in range(depth):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(True)]
            before = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def densenet(blocks: tuple[int, ...], growth: int) -> nn.Module:
    """Returns `arch.densenet.DenseNet` with bottlenecks for small images."""

    class Layer(nn.Module):
        def __init__(self, before: int):
            super().__init__()
            narrow = [nn.BatchNorm2d(before), nn.ReLU(True), nn.Conv2d(before, 4 * growth, 1, bias=False)]
            wide = [nn.BatchNorm2d(4 * growth), nn.ReLU(True), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)]
            self.layers = nn.Sequential(*narrow, *wide)

        def forward(self, x):
            return torch.cat([x, self.layers(x)], 1)

    width = 2 * growth
    layers = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    for block, count in enumerate(blocks, start=1):
        layers += [Layer(width + i * growth) for i in range(count)]
        width += count * growth
        layers += [nn.BatchNorm2d(width), nn.ReLU(True)]
        if block < len(blocks):
            layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def convnext(depths: tuple[int, ...], width: int, patch: int) -> nn.Module:
    """Returns `arch.convnext.ConvNeXt`."""

    class Norm(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    class Block(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.spatial, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width, 1e-6)
            self.expand, self.project = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.scale = nn.Parameter(1e-6 * torch.ones(width))

        def forward(self, x):
            y = self.norm(self.spatial(x).permute(0, 2, 3, 1))
            y = self.scale * self.project(F.gelu(self.expand(y)))
            return x + y.permute(0, 3, 1, 2)

    layers = [nn.Conv2d(3, width, patch, patch), Norm(width, 1e-6)]
    for stage, depth in enumerate(depths):
        if stage:
            layers += [Norm(width, 1e-6), nn.Conv2d(width, 2 * width, 2, 2)]
            width *= 2
        layers += [Block(width) for _ in range(depth)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), Norm(width, 1e-6), nn.Flatten(), nn.Linear(width, 10))


def unet(width: int, depth: int, classes: int) -> nn.Module:
    """Returns `arch.unet.UNet` with padded convolutions and batch norm; outputs are [b, h, w, classes]."""

    def convolutions(before: int, width: int) -> nn.Module:
        layers = []
        for channels in (before, width):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [width << level for level in range(depth + 1)]
            pairs = list(itertools.pairwise(widths))
            self.down = nn.ModuleList(convolutions(*pair) for pair in [(3, width), *pairs])
            self.up = nn.ModuleList(nn.ConvTranspose2d(deep, wide, 2, 2) for wide, deep in pairs)
            self.expand = nn.ModuleList(convolutions(2 * wide, wide) for wide, _ in pairs)
            self.head = nn.Conv2d(width, classes, 1)

        def forward(self, x):
            maps = []
            for level, down in enumerate(self.down):
                x = down(F.max_pool2d(x, 2) if level else x)
                maps.append(x)
            for level in reversed(range(depth)):
                x = self.expand[level](torch.cat([maps[level], self.up[level](x)], 1))
            return self.head(x).movedim(1, -1)

    return UNet()
