"""Residual networks: original (arXiv 1512.03385), pre-activation (1603.05027), Wide (1605.07146), and plain ones; of
sounds (1610.00087). The number of spatial axes is a field.

A network is a stem, stages of blocks, and a head. The block is a field, and your own is a subclass of `Block`.
"""

import functools
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.conv import Conv
from arch.layers.norm import Norm, batch_norm

# Shapes: batch; channels (of the input); c (of a block's input); C (of its output); *space, *hw, *HW: the spatial axes
# of these, height and width for images, on videos (arch/video_resnet.py) with time before them; length (of a sound);
# classes.


class Layers(NamedTuple):
    """Settings that a network shares with all of its blocks. The layers know the mode and the compute type.

    Attributes:
        conv: `conv(features, kernel, stride=1)` makes a convolution without bias.
        norm, dropout: `norm()` and `dropout()` make a layer.
        shortcut, zero_init: as in `ResidualNetwork`.
    """

    conv: Callable[..., nn.Module]
    norm: Norm
    activation: Callable[[Array], Array]
    dropout: Callable[..., nn.Module]
    shortcut: str = "A"
    zero_init: bool = False


class Block(nn.Module):
    """Base class of residual blocks. A subclass computes its branch in `__call__(x)` and adds `self.shortcut(x, C)`.

    Attributes:
        width: channels of the stage; inside a bottleneck.
        stride: in the first block of every stage but the first the network's `stage_stride`; else 1.
        convolutions: number of convolutions in the branch, by which the depth of a network is counted.
        preactivation: whether the block begins with norm and activation. These are then missing after the stem and
            follow the last block instead.
    """

    width: int
    stride: int
    layers: Layers

    convolutions: ClassVar[int] = 2
    preactivation: ClassVar[bool] = False

    @nn.nowrap
    def conv(self, features: int, kernel: int, stride: int = 1, last: bool = False) -> nn.Module:
        """Makes a convolution; `zero_init` starts the `last` one of a branch at zero."""
        options = {"kernel_init": nn.initializers.zeros} if last and self.layers.zero_init else {}
        return self.layers.conv(features, kernel, stride, **options)

    @nn.nowrap
    def norm(self, last: bool = False) -> nn.Module:
        """Makes a norm; `zero_init` starts the scale of the `last` one of a branch at zero."""
        return self.layers.norm(**{"scale_init": nn.initializers.zeros} if last and self.layers.zero_init else {})

    @nn.nowrap
    def activation(self, x: Array) -> Array:
        return self.layers.activation(x)

    @nn.nowrap
    def dropout(self) -> nn.Module:
        return self.layers.dropout()

    @nn.nowrap
    def shortcut(
        self, x: Float[Array, "batch *hw c"], features: int, preactivated: Float[Array, "batch *hw c"] | None = None
    ) -> Float[Array, "batch *HW C"] | float:
        """Returns the term that is added to the branch (1512.03385, sec. 3.3 and 4.1): x where the shapes agree.

        Where they do not, option "A" subsamples and adds zero channels, "B" projects. "C" projects in every block.
        "none" adds nothing: a plain network. A projection has a norm, or with `preactivated`, the activation of x, it
        projects that and has none (as in the code of 1603.05027's authors).

        Raises:
            ValueError: unknown option.
        """
        option, missing = self.layers.shortcut, features - x.shape[-1]
        if option not in ("A", "B", "C", "none"):
            raise ValueError(f"shortcut={option!r} is not one of 'A', 'B', 'C' and 'none'")
        if option == "none":
            return 0.0
        if option == "C" or (option == "B" and (missing or self.stride > 1)):
            project = self.layers.conv(features, 1, self.stride, name="shortcut_conv")
            if preactivated is not None:
                return project(preactivated)
            return self.layers.norm(name="shortcut_norm")(project(x))
        strided = x[:, *(slice(None, None, self.stride) for _ in range(x.ndim - 2))]
        return jnp.pad(strided, ((0, 0),) * (x.ndim - 1) + ((0, missing),))


class BasicBlock(Block):
    """Two 3x3 convolutions (1512.03385, fig. 5 left); with another number of spatial axes, 3 or 3x3x3."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch *hw c"]) -> Float[Array, "batch *HW C"]:
        y = self.activation(self.norm()(self.conv(self.width, 3, self.stride)(x)))
        y = self.norm(last=True)(self.conv(self.width, 3)(self.dropout()(y)))
        return self.activation(y + self.shortcut(x, self.width))


class BottleneckBlock(Block):
    """1x1, 3x3 and a 1x1 convolution that is four times wider (fig. 5 right).

    The 3x3 has the stride, as in torchvision; in the paper the first 1x1 has it.
    """

    convolutions: ClassVar[int] = 3

    @nn.compact
    def __call__(self, x: Float[Array, "batch *hw c"]) -> Float[Array, "batch *HW C"]:
        y = self.activation(self.norm()(self.conv(self.width, 1)(x)))
        y = self.activation(self.norm()(self.conv(self.width, 3, self.stride)(y)))
        y = self.norm(last=True)(self.conv(4 * self.width, 1)(self.dropout()(y)))
        return self.activation(y + self.shortcut(x, 4 * self.width))


class PreActivationBlock(Block):
    """Norm and activation before each of two 3x3 convolutions (1603.05027, fig. 1b), so that the path of x is clean.

    Dropout precedes the last convolution (1605.07146, sec. 2.4).
    """

    preactivation: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Float[Array, "batch *hw c"]) -> Float[Array, "batch *HW C"]:
        first = self.activation(self.norm()(x))
        y = self.conv(self.width, 3, self.stride)(first)
        y = self.conv(self.width, 3, last=True)(self.dropout()(self.activation(self.norm()(y))))
        return y + self.shortcut(x, self.width, first)


class PreActivationBottleneck(Block):
    """Norm and activation before each convolution of a bottleneck (1603.05027, sec. 4)."""

    convolutions: ClassVar[int] = 3
    preactivation: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Float[Array, "batch *hw c"]) -> Float[Array, "batch *HW C"]:
        first = self.activation(self.norm()(x))
        y = self.conv(self.width, 1)(first)
        y = self.conv(self.width, 3, self.stride)(self.activation(self.norm()(y)))
        y = self.conv(4 * self.width, 1, last=True)(self.dropout()(self.activation(self.norm()(y))))
        return y + self.shortcut(x, 4 * self.width, first)


class ResidualNetwork(nn.Module):
    """Base class of residual networks: a stem, stages of blocks, the mean over positions, and the head.

    Each stage has 1 / `stage_stride` of the positions of the previous one along each spatial axis. The output is
    float32 whatever `dtype`, the compute type, is.

    Attributes:
        block: makes a `Block` from its fields.
        shortcut: the option of `Block.shortcut`.
        width: channels of the stem.
        rank: number of spatial axes, 2 for images. An input without a channel axis has one channel.
        stage_stride: stride of the first block of each stage but the first.
        zero_init: starts every branch at zero (Goyal et al. 2017, arXiv 1706.02677, sec. 5.1): the last norm's scale,
            or with pre-activation the last kernel.
        dropout: rate before the last convolution of each block.
    """

    num_classes: int = 10
    block: Callable[..., nn.Module] = BasicBlock
    shortcut: str = "A"
    width: int = 16
    rank: int = 2
    stage_stride: int = 2
    norm: Norm = batch_norm
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = nn.initializers.he_normal()
    conv: Callable[..., nn.Module] = Conv
    zero_init: bool = False
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    def stages(self) -> list[tuple[int, int]]:
        """Returns the number of blocks and the width of each stage.

        Raises:
            ValueError: an impossible depth.
        """
        raise NotImplementedError

    @nn.nowrap
    def stem(self, images: Array, layers: Layers) -> Array:
        x = layers.conv(self.width, 3, name="stem_conv")(images)
        return x if self._block_class.preactivation else layers.activation(layers.norm(name="stem_norm")(x))

    @property
    def _block_class(self) -> type[Block]:
        return self.block.func if isinstance(self.block, functools.partial) else self.block

    @nn.nowrap
    def _layers(self, train: bool, stage: int) -> Layers:
        """Returns the layers of a stage, counted from 1; 0 is the stem."""
        del stage  # a network whose stages differ has its own method

        def conv(features: int, kernel: int, stride: int = 1, **options) -> nn.Module:
            # Equal padding on both sides: XLA's "SAME" would shift strided convolutions against published weights.
            options = {"kernel_init": self.kernel_init, "padding": kernel // 2, **options}
            return self.conv(features, (kernel,) * self.rank, stride, use_bias=False, dtype=self.dtype, **options)

        norm = functools.partial(self.norm, train=train, dtype=self.dtype)
        dropout = functools.partial(nn.Dropout, self.dropout, deterministic=not train)
        return Layers(conv, norm, self.activation, dropout, self.shortcut, self.zero_init)

    def setup(self):
        self.head = nn.Dense(self.num_classes)

    def __call__(self, images: Float[Array, "batch *space channels"], *, train: bool) -> Float[Array, "batch classes"]:
        *_, x = self.features(images, train=train).values()
        return self.head(x.mean(tuple(range(1, x.ndim - 1))))

    @nn.compact
    def features(
        self, images: Float[Array, "batch *space channels"], *, train: bool
    ) -> dict[str, Float[Array, "batch *hw c"]]:
        """Returns the output of each stage, "stage1" first: the network as a backbone, without its head."""
        stages = {}
        x = self.stem(images if images.ndim == self.rank + 2 else images[..., None], self._layers(train, 0))
        for number, (count, width) in enumerate(self.stages(), start=1):
            layers = self._layers(train, number)
            for i in range(count):
                stride = self.stage_stride if number > 1 and i == 0 else 1
                x = self.block(width=width, stride=stride, layers=layers, name=f"stage{number}_block{i + 1}")(x)
            stages[f"stage{number}"] = x
        if self._block_class.preactivation:
            stages[f"stage{number}"] = self.activation(layers.norm(name="final_norm")(x))
        for name, x in stages.items():
            self.sow("intermediates", name, x)
        return stages

    @nn.nowrap
    def blocks_per_stage(self, depth: int, extra: int) -> int:
        """Returns n for a depth of 3 stages of n blocks and `extra` layers.

        Raises:
            ValueError: an impossible depth; the message names the nearest.
        """
        layers = 3 * self._block_class.convolutions
        n = max(1, round((depth - extra) / layers))
        if depth != layers * n + extra:
            raise ValueError(f"depth={depth} is not {layers}n+{extra}: the nearest is {layers * n + extra}")
        return n


class CifarResNet(ResidualNetwork):
    """The networks for small images (1512.03385, sec. 4.2): three stages of `width`, 2 and 4 times as many channels.

    `depth` is 6n+2, with bottlenecks 9n+2.
    """

    depth: int = 20

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "depth": 8, "width": 4},
        "20": {"depth": 20},
        "32": {"depth": 32},
        "44": {"depth": 44},
        "56": {"depth": 56},
        "110": {"depth": 110},
        "preact-110": {"depth": 110, "block": PreActivationBlock},
        "preact-164": {"depth": 164, "block": PreActivationBottleneck, "shortcut": "B"},
    }
    # 1512.03385, table 6; 1605.07146, table 5
    PUBLISHED: ClassVar[dict[str, str | int]] = {
        "20": "0.27M",
        "32": "0.46M",
        "44": "0.66M",
        "56": "0.85M",
        "110": "1.7M",
        "preact-110": "1.7M",
        "preact-164": "1.7M",
    }

    def stages(self):
        n = self.blocks_per_stage(self.depth, extra=2)
        return [(n, self.width), (n, 2 * self.width), (n, 4 * self.width)]


class WideResNet(ResidualNetwork):
    """Wide ResNet (1605.07146): pre-activation, `width_factor` times as wide, of `depth` 6n+4 (dropout: 0.3)."""

    block: Callable[..., nn.Module] = PreActivationBlock
    shortcut: str = "B"
    depth: int = 28
    width_factor: int = 10

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "depth": 10, "width_factor": 1, "dropout": 0.3},
        "16-4": {"depth": 16, "width_factor": 4},
        "40-4": {"depth": 40, "width_factor": 4},
        "28-10": {"depth": 28, "width_factor": 10},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {"16-4": "2.7M", "40-4": "8.9M", "28-10": "36.5M"}  # table 5

    def stages(self):
        n = self.blocks_per_stage(self.depth, extra=4)
        return [(n, factor * self.width * self.width_factor) for factor in (1, 2, 4)]


class ResNet(ResidualNetwork):
    """The networks for ImageNet (1512.03385, table 1).

    Stages of `width`, 2, 4 and 8 times as many channels, of `blocks` blocks each, follow a 7x7 convolution and a
    max-pooling, both of stride 2.
    """

    num_classes: int = 1000
    block: Callable[..., nn.Module] = BottleneckBlock
    shortcut: str = "B"
    width: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "block": BasicBlock, "blocks": (2, 2, 2, 2), "width": 4},
        "18": {"block": BasicBlock, "blocks": (2, 2, 2, 2)},
        "34": {"block": BasicBlock, "blocks": (3, 4, 6, 3)},
        "50": {"blocks": (3, 4, 6, 3)},
        "101": {"blocks": (3, 4, 23, 3)},
        "152": {"blocks": (3, 8, 36, 3)},
    }
    # torchvision's resnet
    PUBLISHED: ClassVar[dict[str, str | int]] = {
        "18": 11_689_512,
        "34": 21_797_672,
        "50": 25_557_032,
        "101": 44_549_160,
        "152": 60_192_808,
    }

    @nn.nowrap
    def stem(self, images, layers):
        x = layers.conv(self.width, 7, 2, name="stem_conv")(images)
        x = x if self._block_class.preactivation else layers.activation(layers.norm(name="stem_norm")(x))
        return nn.max_pool(x, (3,) * self.rank, strides=(2,) * self.rank, padding=((1, 1),) * self.rank)

    def stages(self):
        return [(count, self.width * 2**stage) for stage, count in enumerate(self.blocks)]


class WaveResNet(ResidualNetwork):
    """The residual network for the samples of a sound (Dai et al. 2016, arXiv 1610.00087, table 1, M34-res).

    A convolution over `stem_size` samples and a max-pooling, both of stride `stage_stride`, precede the stages. Each
    stage has 1 / `stage_stride` of the positions of the previous one and twice its channels.
    """

    shortcut: str = "B"
    width: int = 48
    rank: int = 1
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    stem_size: int = 80
    stage_stride: int = 4

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "width": 4, "blocks": (1, 1), "stem_size": 5, "stage_stride": 2},
        "M34-res": {"blocks": (3, 4, 6, 3)},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {"M34-res": "4M"}

    def __call__(self, waves: Float[Array, "batch length"], *, train: bool) -> Float[Array, "batch classes"]:
        return super().__call__(waves, train=train)

    @nn.nowrap
    def stem(self, images, layers):
        pooled = (self.stage_stride,)
        x = layers.conv(self.width, self.stem_size, self.stage_stride, name="stem_conv")(images)
        return nn.max_pool(layers.activation(layers.norm(name="stem_norm")(x)), pooled, strides=pooled)

    def stages(self):
        return [(count, self.width * 2**stage) for stage, count in enumerate(self.blocks)]
