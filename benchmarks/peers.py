"""The networks of the benchmarks in PyTorch."""

from torch import nn
from torch.nn import functional as F


def mlp(features: int, widths: tuple[int, ...], classes: int) -> nn.Module:
    """Returns `arch.mlp.MLP`."""
    layers = [nn.Flatten()]
    for before, width in zip((features, *widths), widths, strict=False):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def resnet20() -> nn.Module:
    """Returns `arch.resnet.CifarResNet(depth=20)`."""

    class Block(nn.Module):
        def __init__(self, before: int, width: int, stride: int):
            super().__init__()
            self.stride, self.missing = stride, width - before
            self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

        def forward(self, x):
            y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
            if self.missing:
                x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))
            return F.relu(x + y)

    widths = [16] * 3 + [32] * 3 + [64] * 3
    blocks = [Block(a, b, 1 + (a != b)) for a, b in zip([16, *widths], widths, strict=False)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def recurrent(kind: str, features: int, width: int, classes: int) -> nn.Module:
    """Returns a layer `kind` ("LSTM", "GRU", "RNN") over [b, t, features] and a head on its last output."""

    class LastOutput(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = getattr(nn, kind)(features, width, batch_first=True)
            self.head = nn.Linear(width, classes)

        def forward(self, x):
            return self.head(self.layer(x)[0][:, -1])

    return LastOutput()
