"""The networks of the benchmarks in PyTorch."""

import torch
from torch import nn
from torch.nn import functional as F


def mlp(features: int, widths: tuple[int, ...], classes: int) -> nn.Module:
    """Returns `arch.mlp.MLP`."""
    layers = [nn.Flatten()]
    for before, width in zip((features, *widths), widths, strict=False):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def ft_transformer(blocks: int, numbers: int, classes: int) -> nn.Module:
    """Returns the authors' `arch.ft_transformer.FTTransformer`, with their defaults for a number of blocks."""
    from rtdl_revisiting_models import FTTransformer

    class Numbers(FTTransformer):
        def forward(self, x):
            return super().forward(x, None)

    options = FTTransformer.get_default_kwargs(blocks)
    return Numbers(n_cont_features=numbers, cat_cardinalities=[], d_out=classes, **options)


def cifar_resnet(depth: int = 20) -> nn.Module:
    """Returns `arch.resnet.CifarResNet`."""

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

    widths = [width for width in (16, 32, 64) for _ in range((depth - 2) // 6)]
    blocks = [Block(a, b, 1 + (a != b)) for a, b in zip([16, *widths], widths, strict=False)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def bottleneck_resnet(blocks: tuple[int, ...] = (3, 4, 6, 3)) -> nn.Module:
    """Returns `arch.resnet.ResNet`, by default of 50 layers: the stride is in the 3x3 convolution."""

    def convolution(before: int, width: int, size: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(before, width, size, stride, size // 2, bias=False), nn.BatchNorm2d(width)]

    class Bottleneck(nn.Module):
        def __init__(self, before: int, width: int, stride: int):
            super().__init__()
            layers = [*convolution(before, width, 1), nn.ReLU(True), *convolution(width, width, 3, stride)]
            self.branch = nn.Sequential(*layers, nn.ReLU(True), *convolution(width, 4 * width, 1))
            same = before == 4 * width
            self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(before, 4 * width, 1, stride))

        def forward(self, x):
            return F.relu(self.shortcut(x) + self.branch(x), inplace=True)

    layers, before = [*convolution(3, 64, 7, 2), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)], 64
    for stage, depth in enumerate(blocks):
        for i in range(depth):
            layers.append(Bottleneck(before, 64 << stage, 2 if i == 0 and stage else 1))
            before = 256 << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


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


class TextCNN(nn.Module):
    """`arch.textcnn.TextCNN`, of texts without padding."""

    def __init__(
        self, vocabulary: int, width: int, windows: tuple[int, ...], filters: int, dropout: float, classes: int
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.windows = nn.ModuleList(nn.Conv1d(width, filters, size, padding=size - 1) for size in windows)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(filters * len(windows), classes)

    def forward(self, tokens, lengths):
        x = self.embedding(tokens).transpose(1, 2)
        return self.head(self.dropout(torch.cat([F.relu(conv(x)).amax(2) for conv in self.windows], 1)))
