"""Segmenter: a class per pixel from the patches of a Vision Transformer (Strudel et al. 2021, arXiv 2105.05633)."""

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.attention import SelfAttention
from arch.layers.feedforward import FeedForward, gelu_exact
from arch.layers.mixer import Context
from arch.layers.norm import Norm, layer_norm
from arch.layers.trunk import Block, Trunk
from arch.vit import ViT

# Shapes: batch; height, width, channels of the image; h, w: grid of patches, t: all patches; d: width of the features;
# classes

EPSILON = 1e-5  # of the decoder's norms, as in PyTorch
INIT = nn.initializers.truncated_normal(0.02)


class LinearDecoder(nn.Module):
    """A dense layer on each patch (section 3.2)."""

    num_classes: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w d"], train: bool) -> Float[Array, "batch h w classes"]:
        return nn.Dense(self.num_classes, kernel_init=INIT, name="head")(x.astype(jnp.float32))


class MaskDecoder(nn.Module):
    """Transformer blocks over the patches and one learned token per class. A mask is the product of the normalised
    tokens of patches and class (section 3.2, eq. 1-2).

    Attributes:
        heads: None: one per 64 channels, at least one.
    """

    num_classes: int
    depth: int = 2
    heads: int | None = None
    norm: Norm = partial(layer_norm, epsilon=EPSILON)
    activation: Callable[[Array], Array] = gelu_exact
    kernel_init: Initializer = INIT
    dropout: float = 0.1
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w d"], train: bool) -> Float[Array, "batch h w classes"]:
        grid, width = x.shape[1:-1], x.shape[-1]
        x = nn.Dense(width, kernel_init=self.kernel_init, dtype=self.dtype, name="project")(x)
        tokens = self.param("head_embedding", self.kernel_init, (1, self.num_classes, width)).astype(x.dtype)
        tokens = jnp.broadcast_to(tokens, (len(x), *tokens.shape[1:]))
        x = jnp.concatenate([rearrange(x, "b h w d -> b (h w) d"), tokens], axis=1)
        heads = self.heads or max(width // 64, 1)
        sublayers = {
            "attention": partial(SelfAttention, heads, dropout=self.dropout),
            "feed_forward": partial(FeedForward, 4 * width, self.activation, dropout=self.dropout),
        }
        block = partial(Block, sublayers, {"norm": self.norm, "dropout": self.dropout, "dtype": self.dtype})
        context = Context(jnp.arange(x.shape[1])[None], train)
        x, _ = Trunk(self.depth, (block,), self.norm, dtype=self.dtype, name="trunk")(x, context)
        patches, classes = jnp.split(x, [math.prod(grid)], axis=1)
        scaled = partial(nn.Dense, width, use_bias=False, kernel_init=nn.initializers.normal(width**-0.5))
        patches = _unit(scaled(dtype=self.dtype, name="project_patches")(patches))
        classes = _unit(scaled(dtype=self.dtype, name="project_classes")(classes))
        masks = jnp.einsum("btd,bkd->btk", patches, classes)
        masks = self.norm(train=train, name="head_norm")(masks)  # over the classes, as in the authors' code
        return masks.reshape(len(x), *grid, self.num_classes)


def _unit(x: Float[Array, "batch t d"]) -> Float[Array, "batch t d"]:
    """Returns float32 vectors of length 1."""
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


class Segmenter(nn.Module):
    """A backbone, a decoder of its last features, and bilinear upsampling to the image's size.

    Attributes:
        backbone: makes a network with `features(images, train=train)`, whose last entry [batch, h, w, d] is decoded.
        decoder: `MaskDecoder` or `LinearDecoder`.
    """

    num_classes: int = 150
    backbone: Callable[..., nn.Module] = partial(ViT, activation=gelu_exact, drop_path=0.1)
    decoder: Callable[..., nn.Module] = MaskDecoder
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {
            "num_classes": 3,
            "backbone": partial(ViT, patch=(1, 1), depth=1, width=24, heads=2, dropout=0.1),
            "decoder": LinearDecoder,
        },
        **{
            f"{name}/16": {"backbone": partial(ViT, **ViT.VARIANTS[f"{name}/16"], activation=gelu_exact, drop_path=0.1)}
            for name in ("Ti", "S", "B", "L")
        },
    }
    # derived; the README of the authors has 7M, 27M, 106M and 334M with a head of 1000 classes that is not used
    PUBLISHED: ClassVar[dict[str, str | int]] = {
        "Ti/16": 6_713_388,
        "S/16": 26_033_964,
        "B/16": 102_497_580,
        "L/16": 332_644_652,
    }
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"height": 512, "width": 512}

    def setup(self):
        self.image_network = self.backbone(dtype=self.dtype)
        self.mask_decoder = self.decoder(num_classes=self.num_classes, dtype=self.dtype)

    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch height width classes"]:
        """Raises ValueError if the features do not divide the image's size."""
        *_, x = self.image_network.features(images, train=train).values()
        logits = self.mask_decoder(x, train)
        for axis in (1, 2):
            logits = enlarged(logits, axis, images.shape[axis])
        return logits


def enlarged(x: Float[Array, "*shape"], axis: int, size: int) -> Float[Array, "*resized"]:
    """Returns an array with an axis interpolated to `size`, a multiple of its length, as PyTorch's `bilinear` does."""
    factor, rest = divmod(size, x.shape[axis])
    if rest:
        raise ValueError(f"features of {x.shape[axis]} positions do not divide an image of {size}")
    x = jnp.moveaxis(x, axis, 0)
    offset = (np.arange(factor) + 0.5) / factor - 0.5  # from the centre of a value, in its units
    before, here, after = np.maximum(-offset, 0), 1 - np.abs(offset), np.maximum(offset, 0)
    sides = jnp.concatenate([x[:1], x[:-1]]), x, jnp.concatenate([x[1:], x[-1:]])
    shares = [np.float32(share).reshape(1, factor, *(1,) * (x.ndim - 1)) for share in (before, here, after)]
    y = sum(share * side[:, None] for share, side in zip(shares, sides, strict=True))
    return jnp.moveaxis(y.reshape(size, *x.shape[1:]), 0, axis)
