"""ConvNeXt (Liu et al. 2022, arXiv 2201.03545), and every network between it and ResNet-50 (section 2).

The defaults are the final design. `experiments/convnext_ladder.py` has the fields of each step of figure 2.
"""

import functools
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import flax.linen as nn
import numpy as np
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.conv import Conv
from arch.layers.dense import Dense
from arch.layers.depthwise import depthwise_conv
from arch.layers.feedforward import gelu_exact
from arch.layers.norm import Norm, layer_norm
from arch.layers.trunk import drop_examples

# Shapes: batch; height, width, channels (of the input); h, w, c (of a block's input); H, W, C (of its output); classes.


class Layers(NamedTuple):
    """Settings that the network shares with its blocks; the others are fields of `ConvNeXt`.

    Attributes:
        spatial: `spatial(features, stride, name=name)` makes the convolution over positions.
        dense: `dense(features, use_bias=bias, name=name)` makes a 1x1 convolution.
        norm: `norm(name=name)` makes a norm.
    """

    spatial: Callable[..., nn.Module]
    dense: Callable[..., nn.Module]
    norm: Norm
    activation: Callable[[Array], Array]
    ratio: float
    moved_up: bool
    few_activations: bool
    few_norms: bool
    layer_scale: float | None
    train: bool


class Block(nn.Module):
    """Three convolutions in a residual branch: one over positions, and two 1x1 that change the number of channels.

    Attributes:
        width: channels of the output.
        stride: of the convolution over positions.
        drop_path: rate at which an example skips the branch.
    """

    width: int
    stride: int
    drop_path: float
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch H W C"]:
        y, options = x, self.layers
        order = ("spatial", "expand", "project") if options.moved_up else ("expand", "spatial", "project")
        for layer in order:
            has_norm = layer == "spatial" or not options.few_norms
            if layer == "spatial":
                y = options.spatial(y.shape[-1], self.stride, name=layer)(y)
            else:
                width = self.width if layer == "project" else round(self.width * options.ratio)
                y = options.dense(width, use_bias=not has_norm, name=layer)(y)
            y = options.norm(name=f"{layer}_norm")(y) if has_norm else y
            if layer == order[1] or (layer == order[0] and not options.few_activations):
                y = options.activation(y)
        if options.layer_scale is not None:
            scale = self.param("layer_scale", nn.initializers.constant(options.layer_scale), (self.width,))
            y *= scale.astype(y.dtype)
        if self.drop_path and options.train:
            y = drop_examples(y, self.drop_path, self.make_rng("dropout"))
        if x.shape != y.shape:
            x = options.dense(self.width, use_bias=False, name="shortcut")(x[:, :: self.stride, :: self.stride])
            x = options.norm(name="shortcut_norm")(x)
        return x + y if options.few_activations else options.activation(x + y)


class ConvNeXt(nn.Module):
    """A stem, stages of blocks with half the positions of the stage before, and the mean over positions.

    The output is float32.

    Attributes:
        depths: number of blocks of each stage.
        width: channels of the first stage's output; each stage doubles them.
        ratio: channels inside a block by those of its output; below 1 a bottleneck, above an inverted one.
        stem: "patchify": a convolution of `patch` x `patch` with that stride; "resnet": 7x7 and a max-pooling, both of
            stride 2. It has the smaller one of the widths inside and outside a block.
        kernel: side of the convolution over positions.
        depthwise: whether that convolution has one filter per channel.
        moved_up: whether it comes first in the block; else second.
        few_activations: one activation per block, before its last convolution, and none after the sum or the stem.
        few_norms: one norm per block, after the convolution over positions.
        downsampling: "separate": a norm and a 2x2 convolution of stride 2 between the stages, and a norm after the
            mean; "strided": in the first block of a stage.
        layer_scale: initial factor of each channel of a branch (arXiv 2103.17239); None: without it.
        drop_path: rate at which an example skips the last block; it grows linearly from 0 at the first.
    """

    num_classes: int = 1000
    depths: tuple[int, ...] = (3, 3, 9, 3)
    width: int = 96
    ratio: float = 4.0
    stem: Literal["patchify", "resnet"] = "patchify"
    patch: int = 4
    kernel: int = 7
    depthwise: bool = True
    moved_up: bool = True
    few_activations: bool = True
    few_norms: bool = True
    downsampling: Literal["separate", "strided"] = "separate"
    block: Callable[..., nn.Module] = Block
    norm: Norm = layer_norm
    activation: Callable[[Array], Array] = gelu_exact
    # PyTorch's trunc_normal_(std=0.02) cuts at -2 and 2, which changes nothing
    kernel_init: Initializer = nn.initializers.normal(0.02)
    layer_scale: float | None = 1e-6
    drop_path: float = 0.0
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "depths": (1, 2), "width": 4, "patch": 2, "kernel": 3, "layer_scale": 0.5}
        | {"drop_path": 0.2},
        "T": {},
        "S": {"depths": (3, 3, 27, 3)},
        "B": {"depths": (3, 3, 27, 3), "width": 128},
        "L": {"depths": (3, 3, 27, 3), "width": 192},
    }
    # torchvision's convnext
    PUBLISHED: ClassVar[dict[str, str | int]] = {
        "T": 28_589_128,
        "S": 50_223_688,
        "B": 88_591_464,
        "L": 197_767_336,
    }
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"height": 32, "width": 32}

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        *_, x = self.features(images, train=train).values()
        x = x.mean((1, 2))
        if self.downsampling == "separate":
            x = self._layers(train).norm(name="final_norm")(x)
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, name="head")(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> dict[str, Float[Array, "batch h w c"]]:
        """Returns the output of each stage, "stage1" first: the network as a backbone, without its head."""
        layers, stages = self._layers(train), {}
        x = self._stem(images, layers)
        rates = iter(np.linspace(0, self.drop_path, sum(self.depths)).tolist())
        for stage, depth in enumerate(self.depths, start=1):
            width, name = self.width * 2 ** (stage - 1), f"stage{stage}"
            if stage > 1 and self.downsampling == "separate":
                x = self._conv(width, 2, 2, 0, name=f"{name}_conv")(layers.norm(name=f"{name}_norm")(x))
            for i in range(depth):
                stride = 2 if stage > 1 and i == 0 and self.downsampling == "strided" else 1
                x = self.block(width, stride, next(rates), layers, name=f"{name}_block{i + 1}")(x)
            stages[name] = x
            self.sow("intermediates", name, x)
        return stages

    @nn.nowrap
    def _stem(self, images: Array, layers: Layers) -> Array:
        width = min(self.width, round(self.width * self.ratio))
        is_patchify = self.stem == "patchify"
        size, stride, padding = (self.patch, self.patch, 0) if is_patchify else (7, 2, 3)
        conv = self._conv(width, size, stride, padding, use_bias=self.downsampling == "separate", name="stem_conv")
        x = layers.norm(name="stem_norm")(conv(images))
        x = x if self.few_activations else self.activation(x)
        return x if is_patchify else nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))

    @nn.nowrap
    def _layers(self, train: bool) -> Layers:
        def spatial(features: int, stride: int, name: str) -> nn.Module:
            options = {"use_bias": self.few_norms, "name": name}
            if self.depthwise:
                options |= {"feature_group_count": features, "conv_general_dilated": depthwise_conv}
            return self._conv(features, self.kernel, stride, self.kernel // 2, **options)

        dense = functools.partial(Dense, kernel_init=self.kernel_init, dtype=self.dtype)
        norm = functools.partial(self.norm, train=train, dtype=self.dtype)
        shared = (self.activation, self.ratio, self.moved_up, self.few_activations, self.few_norms, self.layer_scale)
        return Layers(spatial, dense, norm, *shared, train)

    @nn.nowrap
    def _conv(self, features: int, size: int, stride: int, padding: int, **options) -> nn.Module:
        options = {"kernel_init": self.kernel_init, "dtype": self.dtype, **options}
        return Conv(features, (size, size), stride, padding, **options)
