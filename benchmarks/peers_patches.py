"""Networks of image patches in PyTorch, for the benchmarks: plain code with timm's layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.peers_attention import Attention, feed_forward

# b: batch, t: tokens, d: width; images are [b, c, h, w]


class Residual(nn.Module):
    """x + branch(norm(x))."""

    def __init__(self, width: int, branch: nn.Module):
        super().__init__()
        self.norm, self.branch = nn.LayerNorm(width, 1e-6), branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(self.norm(x))


class OverTokens(nn.Module):
    """A module over the tokens of each channel."""

    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x.transpose(1, 2)).transpose(1, 2)


class GatedMLP(nn.Module):
    """The sublayer of gMLP."""

    def __init__(self, width: int, hidden: int, tokens: int):
        super().__init__()
        self.hidden, self.out = nn.Linear(width, hidden), nn.Linear(hidden // 2, width)
        self.norm, self.spatial = nn.LayerNorm(hidden // 2), OverTokens(nn.Linear(tokens, tokens))
        nn.init.normal_(self.spatial.branch.weight, std=1e-6)
        nn.init.ones_(self.spatial.branch.bias)

    def forward(self, x: Tensor) -> Tensor:
        u, v = nn.functional.gelu(self.hidden(x)).chunk(2, -1)
        return self.out(u * self.spatial(self.norm(v)))


class PatchNetwork(nn.Module):
    """Patches, blocks, and a head on the class token (ViT) or on the mean."""

    def __init__(
        self, block: Callable[[], nn.Module], depth: int, width: int, patch: int, tokens: int, has_token: bool = False
    ):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width)) if has_token else None
        self.positions = nn.Parameter(torch.randn(1, tokens + 1, width) * 0.02) if has_token else None
        self.blocks = nn.Sequential(*(block() for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        x = self.norm(self.blocks(x))
        return self.head(x.mean(1) if self.token is None else x[:, 0])


def vit(depth: int, width: int, heads: int, patch: int, tokens: int) -> nn.Module:
    """Returns `arch.vit.ViT`."""

    def block() -> nn.Module:
        mlp = feed_forward(width, 4 * width, nn.GELU("tanh"))
        return nn.Sequential(Residual(width, Attention(width, heads)), Residual(width, mlp))

    return PatchNetwork(block, depth, width, patch, tokens, has_token=True)


def mixer(depth: int, width: int, patch: int, tokens: int) -> nn.Module:
    """Returns `arch.mixer.Mixer`."""

    def block() -> nn.Module:
        over_tokens = OverTokens(feed_forward(tokens, width // 2, nn.GELU("tanh")))
        return nn.Sequential(
            Residual(width, over_tokens), Residual(width, feed_forward(width, 4 * width, nn.GELU("tanh")))
        )

    return PatchNetwork(block, depth, width, patch, tokens)


def gmlp(depth: int, width: int, patch: int, tokens: int) -> nn.Module:
    """Returns `arch.gmlp.GMLP`."""
    return PatchNetwork(lambda: Residual(width, GatedMLP(width, 6 * width, tokens)), depth, width, patch, tokens)
