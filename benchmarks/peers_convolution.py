"""The networks of convolutions over time of the benchmarks in PyTorch."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


class Causal(nn.Conv1d):
    """A convolution that sees no later position, over [b, c, t]."""

    def __init__(self, before: int, width: int, size: int, dilation: int = 1):
        super().__init__(before, width, size, dilation=dilation)
        self.before = (size - 1) * dilation

    def forward(self, x):
        return super().forward(F.pad(x, (self.before, 0)))


def tcn(features: int, widths: tuple[int, ...], size: int, classes: int) -> nn.Module:
    """Returns `arch.tcn.TCNClassifier` over [b, t, features]."""

    class Block(nn.Module):
        def __init__(self, before: int, width: int, dilation: int):
            super().__init__()
            self.conv1 = weight_norm(Causal(before, width, size, dilation))
            self.conv2 = weight_norm(Causal(width, width, size, dilation))
            self.shortcut = nn.Conv1d(before, width, 1) if before != width else nn.Identity()

        def forward(self, x):
            return F.relu(F.relu(self.conv2(F.relu(self.conv1(x)))) + self.shortcut(x))

    class LastOutput(nn.Module):
        def __init__(self):
            super().__init__()
            pairs = zip((features, *widths), widths, strict=False)
            self.blocks = nn.Sequential(*(Block(*pair, 2**i) for i, pair in enumerate(pairs)))
            self.head = nn.Linear(widths[-1], classes)

        def forward(self, x):
            return self.head(self.blocks(x.transpose(1, 2))[:, :, -1])

    return LastOutput()


def wave_resnet(width: int, blocks: tuple[int, ...], classes: int, stem: int = 80, stride: int = 4) -> nn.Module:
    """Returns `arch.resnet.WaveResNet` over [b, n]."""

    def convolution(before: int, width: int, size: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv1d(before, width, size, stride, size // 2, bias=False), nn.BatchNorm1d(width)]

    class Block(nn.Module):
        def __init__(self, before: int, width: int, stride: int):
            super().__init__()
            layers = [*convolution(before, width, 3, stride), nn.ReLU(True), *convolution(width, width, 3)]
            self.branch = nn.Sequential(*layers)
            same = before == width
            self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(before, width, 1, stride))

        def forward(self, x):
            return F.relu(self.shortcut(x) + self.branch(x), inplace=True)

    layers, before = [*convolution(1, width, stem, stride), nn.ReLU(True), nn.MaxPool1d(stride)], width
    for stage, depth in enumerate(blocks):
        for i in range(depth):
            layers.append(Block(before, width << stage, stride if i == 0 and stage else 1))
            before = width << stage
    head = [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(before, classes)]
    return nn.Sequential(nn.Unflatten(1, (1, -1)), *layers, *head)


class WaveNet(nn.Module):
    """`arch.wavenet.WaveNet` of kernels of two samples, with a class as condition."""

    def __init__(self, codes: int, width: int, skip: int, dilations: tuple[int, ...], conditions: int, condition: int):
        super().__init__()
        self.dilations, self.skip = dilations, skip
        self.embedding, self.classes = nn.Embedding(codes, width), nn.Embedding(conditions, condition)
        self.first = Causal(width, width, 2)
        self.convs = nn.ModuleList(Causal(width, 2 * width, 2, dilation) for dilation in dilations)
        self.conditions = nn.ModuleList(nn.Linear(condition, 2 * width, bias=False) for _ in dilations)
        widths = [skip + width] * (len(dilations) - 1) + [skip]
        self.outs = nn.ModuleList(nn.Conv1d(width, out, 1) for out in widths)
        self.hidden, self.head = nn.Conv1d(skip, skip, 1), nn.Conv1d(skip, codes, 1)

    def forward(self, label, codes):
        """Returns logits [b, t, codes]."""
        x, condition = self.first(self.embedding(codes).transpose(1, 2)), self.classes(label)
        return self._outputs(x, condition, lambda i, x: self.convs[i](x)).transpose(1, 2)

    def _outputs(self, x, condition, convolve):
        total = 0.0
        for i, out in enumerate(self.outs):
            y = convolve(i, x) + self.conditions[i](condition)[:, :, None]
            signal, gate = y.chunk(2, 1)
            y = out(torch.tanh(signal) * torch.sigmoid(gate))
            total = total + y[:, : self.skip]
            if i + 1 < len(self.outs):
                x = x + y[:, self.skip :]
        return self.head(F.relu(self.hidden(F.relu(total))))

    @torch.inference_mode()
    def generate(self, label, length: int):
        """Returns codes [b, length], drawn one by one with a ring of past inputs per convolution."""
        condition, batch, width = self.classes(label), len(label), self.embedding.embedding_dim
        rings = [torch.zeros(batch, width, dilation) for dilation in (1, *self.dilations)]
        kernels = [conv.weight.permute(2, 1, 0).contiguous() for conv in (self.first, *self.convs)]
        biases, step = [conv.bias for conv in (self.first, *self.convs)], 0

        def convolve(i, x):
            place = step % rings[i].shape[2]
            past, now = rings[i][:, :, place].clone(), x[:, :, 0]
            rings[i][:, :, place] = now
            return (torch.addmm(biases[i], past, kernels[i][0]) + now @ kernels[i][1])[:, :, None]

        codes, written = torch.zeros(batch, dtype=torch.long), []
        for step in range(length):  # noqa: B007  read by `convolve`
            x = convolve(0, self.embedding(codes)[:, :, None])
            logits = self._outputs(x, condition, lambda i, x: convolve(i + 1, x))[:, :, 0]
            codes = torch.multinomial(torch.softmax(logits, -1), 1)[:, 0]
            written.append(codes)
        return torch.stack(written, 1)
