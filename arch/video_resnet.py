"""Residual networks for videos and volumes (Tran et al. 2018, arXiv 1711.11248): R3D, MCx, rMCx, R(2+1)D, f-R2D.

A clip is [batch, time, height, width, channels]; a volume has its layers in the place of time.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
from jax import Array
from jaxtyping import Float

from arch.layers.conv3d import Conv3D
from arch.resnet import Block, Layers, ResidualNetwork

# Shapes: batch; time, height, width, channels (of the input); t, h, w, c (of a block's input); T, H, W, C (of its
# output); classes.


class FactorisedBlock(Block):
    """Two convolutions, each one in space and then one in time with norm and activation between (sec. 3.5, fig. 1e).

    Attributes:
        midplanes: the rule for the number of channels between them, which `between` computes: "paper" from each
            convolution's own channels, "torchvision" from those of the first convolution for both.
    """

    midplanes: Literal["paper", "torchvision"] = "paper"

    @nn.compact
    def __call__(self, x: Float[Array, "batch t h w c"]) -> Float[Array, "batch T H W C"]:
        first = second = between(x.shape[-1], self.width)
        if self.midplanes == "paper":
            second = between(self.width, self.width)
        y = self._factorised(x, first, self.stride)
        y = self._factorised(self.dropout()(self.activation(self.norm()(y))), second)
        return self.activation(self.norm(last=True)(y) + self.shortcut(x, self.width))

    @nn.nowrap
    def _factorised(self, x: Float[Array, "batch t h w c"], midplanes: int, stride: int = 1) -> Array:
        y = self.layers.conv(midplanes, (1, 3, 3), (1, stride, stride))(x)
        return self.layers.conv(self.width, (3, 1, 1), (stride, 1, 1))(self.activation(self.norm()(y)))


def between(channels: int, features: int) -> int:
    """Returns the channels between the parts of a 3x3x3 convolution with which it has as many parameters (sec. 3.5)."""
    return 27 * channels * features // (9 * channels + 3 * features)


class VideoResNet(ResidualNetwork):
    """The ResNet-18 of section 3 with convolutions in space and time: table 1, and figure 1 for the kinds.

    The stem halves height and width; each stage after the first halves time, height and width, and doubles the
    channels.

    Attributes:
        temporal: whether the convolutions of the stem and of each stage read three frames, and halve the time where
            they have a stride, or one frame, as in 2-D; the last value holds for all further stages. Only False: f-R2D,
            which sees frame by frame and averages over time.
        stem_midplanes: channels between the parts of a factorised stem; 0: one convolution.
        shortcut: as in `Block.shortcut`, without "A".
    """

    num_classes: int = 400
    shortcut: Literal["B", "C", "none"] = "B"
    width: int = 64
    rank: int = 3
    conv: Callable[..., nn.Module] = Conv3D
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    temporal: tuple[bool, ...] = (True,)
    stem_midplanes: int = 0

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "blocks": (1, 1), "width": 4, "block": FactorisedBlock, "stem_midplanes": 3},
        "R3D-18": {},
        "f-R2D-18": {"temporal": (False,)},
        "MC2-18": {"temporal": (True, False)},
        "MC3-18": {"temporal": (True, True, False)},
        "MC4-18": {"temporal": (True, True, True, False)},
        "MC5-18": {"temporal": (True, True, True, True, False)},
        "rMC2-18": {"temporal": (False, True)},
        "rMC3-18": {"temporal": (False, False, True)},
        "rMC4-18": {"temporal": (False, False, False, True)},
        "rMC5-18": {"temporal": (False, False, False, False, True)},
        "R(2+1)D-18": {"block": FactorisedBlock, "stem_midplanes": 45},
        "R(2+1)D-18 torchvision": {
            "block": partial(FactorisedBlock, midplanes="torchvision"),
            "stem_midplanes": 45,
        },
    }
    # as printed in table 2, which cuts 33.35M (rMC2) and 33.06M (rMC3) off; exact ones are torchvision's, and derived
    # for R(2+1)D and f-R2D
    PUBLISHED: ClassVar[dict[str, str | int]] = {
        "R3D-18": 33_371_472,
        "f-R2D-18": 11_381_712,
        "MC2-18": "11.4M",
        "MC3-18": 11_695_440,
        "MC4-18": "12.7M",
        "MC5-18": "16.9M",
        "rMC2-18": 33_352_656,
        "rMC3-18": 33_057_744,
        "rMC4-18": "32.0M",
        "rMC5-18": "27.9M",
        "R(2+1)D-18": 33_370_839,
        "R(2+1)D-18 torchvision": 31_505_325,
    }

    @nn.nowrap
    def _layers(self, train: bool, stage: int) -> Layers:
        has_time = self.temporal[min(stage, len(self.temporal) - 1)]

        def conv(features: int, kernel: int | tuple, stride: int | tuple = 1, **options) -> nn.Module:
            kernel, stride = (x if isinstance(x, tuple) else (x, x, x) for x in (kernel, stride))
            if not has_time:
                kernel, stride = (1, *kernel[1:]), (1, *stride[1:])
            padding = [(size // 2, size // 2) for size in kernel]
            options = {"kernel_init": self.kernel_init, "padding": padding, **options}
            return self.conv(features, kernel, stride, use_bias=False, dtype=self.dtype, **options)

        return super()._layers(train, stage)._replace(conv=conv)

    @nn.nowrap
    def stem(self, images: Array, layers: Layers) -> Array:
        if self.stem_midplanes:
            x = layers.conv(self.stem_midplanes, (1, 7, 7), (1, 2, 2), name="stem_space_conv")(images)
            x = layers.activation(layers.norm(name="stem_space_norm")(x))
            x = layers.conv(self.width, (3, 1, 1), name="stem_conv")(x)
        else:
            x = layers.conv(self.width, (3, 7, 7), (1, 2, 2), name="stem_conv")(images)
        return x if self._block_class.preactivation else layers.activation(layers.norm(name="stem_norm")(x))

    def stages(self):
        return [(count, self.width * 2**stage) for stage, count in enumerate(self.blocks)]

    def __call__(
        self, video: Float[Array, "batch time height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        *_, x = self.features(video, train=train).values()
        return self.head(x.mean((1, 2, 3)))
