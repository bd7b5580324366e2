"""DETR: detection as the prediction of a set (Carion et al. 2020, "End-to-End Object Detection with Transformers",
arXiv 2005.12872)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, TypedDict

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from arch.layers.attention import CrossAttention, SelfAttention
from arch.layers.dense import Dense
from arch.layers.feedforward import FeedForward
from arch.layers.mixer import Context
from arch.layers.norm import Norm, frozen_batch_norm, layer_norm
from arch.layers.trunk import Block, Trunk
from arch.resnet import BasicBlock, ResNet

# Shapes: batch; height, width, channels; h, w, c of the feature map; m = h w; d: width of the model; queries; layers:
# scored blocks of the decoder; classes, without the class "no object"

# PyTorch's nn.MultiheadAttention makes queries, keys and values by one matrix [d, 3 d], whose Xavier initialisation has
# half the variance of three.
_one_of_three = nn.initializers.variance_scaling(0.5, "fan_avg", "uniform")
_torch_linear = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Detections(TypedDict):
    """The predictions of each scored block of the decoder, the last block last.

    `boxes` are x and y of the centre, width and height, in fractions of the canvas.
    """

    logits: Float[Array, "batch layers queries _"]
    boxes: Float[Array, "batch layers queries 4"]


class Sines(nn.Module):
    """Fixed sines and cosines of the place within the real part of the image, half of the features for y and half for x
    (appendix A.4): the sinusoids of the Transformer along both axes.

    Attributes:
        base: the longest wavelength is this times the size of the image.
    """

    base: float = 10_000.0

    @nn.compact
    def __call__(self, mask: Bool[Array, "batch h w"], width: int) -> Float[Array, "batch h w d"]:
        if width % 4:
            raise ValueError(f"sines along two axes need a width that is a multiple of 4, not {width}")
        scales = self.base ** (np.arange(0, width // 2, 2) / (width // 2))
        return jnp.concatenate([self._axis(mask, axis, scales) for axis in (1, 2)], -1)

    def _axis(self, mask: Bool[Array, "batch h w"], axis: int, scales: np.ndarray) -> Float[Array, "batch h w _"]:
        places = jnp.cumsum(mask.astype(jnp.float32), axis)
        last = jnp.take(places, jnp.array([-1]), axis)
        angles = (places / (last + 1e-6) * 2 * math.pi)[..., None] / jnp.asarray(scales, jnp.float32)
        return rearrange(jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1), "b h w f two -> b h w (f two)")


class LearnedSides(nn.Module):
    """A learned vector per row and one per column, side by side (table 3), for feature maps up to `size` x `size`."""

    size: int = 50

    @nn.compact
    def __call__(self, mask: Bool[Array, "batch h w"], width: int) -> Float[Array, "batch h w d"]:
        _, h, w = mask.shape
        init = nn.initializers.uniform(1.0)
        rows, columns = (self.param(name, init, (self.size, width // 2)) for name in ("rows", "columns"))
        sides = jnp.broadcast_to(columns[:w], (h, w, width // 2)), jnp.broadcast_to(rows[:h, None], (h, w, width // 2))
        return jnp.broadcast_to(jnp.concatenate(sides, -1), (len(mask), h, w, width))


class NoPlaces(nn.Module):
    """No positions of the feature map at all (table 3, first row)."""

    def __call__(self, mask: Bool[Array, "batch h w"], width: int) -> Float[Array, "batch h w d"]:
        return jnp.zeros((*mask.shape, width))


class Decoder(nn.Module):
    """Blocks whose outputs are all returned, each after the same norm."""

    depth: int
    block: Callable[..., nn.Module]
    norm: Norm
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch queries d"], context: Context) -> Float[Array, "batch layers queries d"]:
        norm = self.norm(train=context.train, dtype=self.dtype, name="norm")
        outputs = []
        for i in range(self.depth):
            x, _ = self.block(name=f"block{i + 1}")(x, None, context)
            outputs.append(norm(x))
        return jnp.stack(outputs, 1)


class BoxHead(nn.Module):
    """A perceptron of three layers (section 3.2)."""

    width: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b 4"]:
        for i in range(2):
            x = nn.relu(Dense(self.width, dtype=self.dtype, kernel_init=_torch_linear, name=f"hidden{i + 1}")(x))
        return Dense(4, dtype=self.dtype, kernel_init=_torch_linear, name="out")(x)


class DETR(nn.Module):
    """A backbone, a Transformer encoder over its feature map, and a decoder of learned queries, each of which predicts
    a class, or none, and a box (section 3.2, figure 10).

    Attributes:
        num_classes: without "no object", which is one more output of the head.
        queries: the number of boxes per image.
        backbone: makes a network with `features(images, train=train)`, of which the last entry is read.
        depth, decoder_depth: blocks of the encoder and of the decoder.
        positions: `Sines`, `LearnedSides` or `NoPlaces`: added to the queries and keys of every attention to the image.
        auxiliary: whether the outputs of all blocks of the decoder are scored in training, and not the last alone.
        order: of norm and residual branch; "pre" has one more norm after the encoder.
        dropout: rate of residual branches and hidden layers' outputs. attention_dropout, activation_dropout: of
            attention weights and of hidden layers.
    """

    num_classes: int = 91
    queries: int = 100
    backbone: Callable[..., nn.Module] = partial(ResNet, norm=frozen_batch_norm)
    depth: int = 6
    decoder_depth: int = 6
    width: int = 256
    heads: int = 8
    mlp_width: int = 2048
    positions: Callable[..., nn.Module] = Sines
    auxiliary: bool = True
    norm: Norm = partial(layer_norm, epsilon=1e-5)
    activation: Callable[[Array], Array] = nn.relu
    order: Literal["pre", "post"] = "post"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {
            "num_classes": 3,
            "queries": 5,
            "backbone": partial(ResNet, block=BasicBlock, blocks=(1,), width=4),
            "depth": 1,
            "decoder_depth": 2,
            "width": 12,
            "heads": 3,
            "mlp_width": 24,
        },
        "R50": {},
        "R101": {"backbone": partial(ResNet, blocks=(3, 4, 23, 3), norm=frozen_batch_norm)},
    }
    # with scale and bias of the backbone's frozen norms
    PUBLISHED: ClassVar[dict[str, str | int]] = {"R50": 41_577_888}

    # The first attention among queries reads zeros, so that all its values are equal, whatever their weights.
    WITHOUT_GRADIENT: ClassVar[tuple[str, ...]] = ("decoder/block1/self_attention/layer/((query|key)/.*|value/kernel)",)

    def setup(self):
        self.image_network = self.backbone(dtype=self.dtype)
        self.projection = Dense(self.width, dtype=self.dtype, kernel_init=_torch_linear)
        self.places = self.positions()
        self.query_places = self.param("query_places", nn.initializers.normal(1.0), (self.queries, self.width))
        attention = {"heads": self.heads, "dropout": self.attention_dropout, "kernel_init": _one_of_three}
        itself = {"self_attention": partial(SelfAttention, **attention)}
        image = {"cross_attention": partial(CrossAttention, **attention)}
        encoder, decoder = self._block(itself), self._block(itself | image)
        last_norm = self.norm if self.order == "pre" else None
        self.encoder = Trunk(self.depth, (encoder,), last_norm, dtype=self.dtype)
        self.decoder = Decoder(self.decoder_depth, decoder, self.norm, self.dtype)
        self.head = nn.Dense(self.num_classes + 1, kernel_init=_torch_linear)
        self.box_head = BoxHead(self.width, self.dtype)

    @nn.nowrap
    def _block(self, attentions: dict[str, Any]) -> Callable[..., nn.Module]:
        feed_forward = partial(FeedForward, self.mlp_width, self.activation, dropout=self.activation_dropout)
        residual = {"norm": self.norm, "order": self.order, "dropout": self.dropout, "dtype": self.dtype}
        return partial(Block, {**attentions, "feed_forward": feed_forward}, residual)

    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        region: Float[Array, "batch 4"] | None = None,
        *,
        train: bool,
    ) -> Detections:
        """Returns the predictions of each block in training with `auxiliary`, and else those of the last block alone.

        Args:
            region: the part [ymin, xmin, ymax, xmax] of the canvas, in fractions, that each image fills; None: all of
                it. Pixels of the padding become 0, and the head predicts fractions of this part.
        """
        if region is None:
            region = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0, 1.0]), (len(images), 4))
        else:
            images = jnp.where(_inside(region, images.shape[1:3], images.shape[1:3])[..., None], images, 0)
        *_, features = self.image_network.features(images, train=train).values()
        mask = _inside(region, images.shape[1:3], features.shape[1:3])
        memory, places = self.projection(features), self.places(mask, self.width)
        memory, places, mask = (rearrange(x, "b h w ... -> b (h w) ...") for x in (memory, places, mask))
        positions = jnp.arange(memory.shape[1])[None]
        memory, _ = self.encoder(memory, Context(positions, train, mask=mask, places=places))
        context = Context(jnp.arange(self.queries)[None], train, places=self.query_places[None], memory=memory)
        context = context.replace(memory_mask=mask, memory_places=places)
        start = jnp.zeros((len(images), self.queries, self.width), memory.dtype)
        outputs = self.decoder(start, context)
        scored = outputs if train and self.auxiliary else outputs[:, -1:]
        boxes = nn.sigmoid(self.box_head(scored).astype(jnp.float32))
        return {"logits": self.head(scored.astype(jnp.float32)), "boxes": _on_canvas(boxes, region[:, None, None])}


def _inside(region: Float[Array, "batch 4"], pixels: tuple[int, int], cells: tuple[int, int]) -> Bool[Array, "b h w"]:
    """Returns which cells of a feature map are in the region: those whose pixel at the upper left is."""
    rows, columns = (
        (np.arange(n) * whole // n + 0.5) / whole for n, whole in zip(cells, pixels, strict=True)
    )  # the middle of that pixel, which rounding cannot move out
    top, left, bottom, right = jnp.moveaxis(region[:, None], -1, 0)
    in_row, in_column = (top <= rows) & (rows < bottom), (left <= columns) & (columns < right)
    return in_row[:, :, None] & in_column[:, None]


def _on_canvas(boxes: Float[Array, "*b 4"], region: Float[Array, "*#b 4"]) -> Float[Array, "*b 4"]:
    """Returns boxes in fractions of the region as fractions of the canvas: both x, y, width, height."""
    top, left, bottom, right = jnp.moveaxis(region, -1, 0)
    width, height = right - left, bottom - top
    x, y, w, h = jnp.moveaxis(boxes, -1, 0)
    return jnp.stack([left + x * width, top + y * height, w * width, h * height], -1)
