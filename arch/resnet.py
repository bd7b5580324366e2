"""Residual networks: original (arXiv 1512.03385), pre-activation (1603.05027), Wide (1605.07146), and plain ones.

A network is a plan (blocks and width of each stage) of blocks. A block is given its `convolutions`, and decides in
which order they, the norms and the activations come: `OriginalBlock`, `PreActivationBlock`, or one of your own.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.conv import Conv
from arch.layers.norm import Norm, batch_norm

# Shapes: batch; height, width, channels (of the input); h, w, c (of a block's input); H, W, C (of its output); classes.

Convolutions = tuple[tuple[int, int, int], ...]  # (features, kernel, stride) of each convolution of a block


def basic(width: int, stride: int) -> Convolutions:
    """Two 3x3 convolutions (1512.03385, fig. 5 left)."""
    return (width, 3, stride), (width, 3, 1)


def bottleneck(width: int, stride: int) -> Convolutions:
    """1x1, 3x3 and a 1x1 that is four times wider (fig. 5 right). The 3x3 has the stride, as in everyone's code."""
    return (width, 1, 1), (width, 3, stride), (4 * width, 1, 1)


def shortcut(
    x: Float[Array, "batch h w c"], option: str, convolutions: Convolutions, project: Callable[[int, int], Array]
) -> Float[Array, "batch H W C"] | float:
    """Returns what is added to a block's branch (1512.03385, sec. 3.3 and 4.1).

    Args:
        option: "A", identity, subsampled and padded with zero channels where the shape changes; "B", a projection
            there; "C", a projection in every block; "none", no shortcut: a plain network.
        project: the projection, from features and stride to its output.

    Raises:
        ValueError: another option.
    """
    features, stride = convolutions[-1][0], max(stride for _, _, stride in convolutions)
    missing = features - x.shape[-1]
    if option not in ("A", "B", "C", "none"):
        raise ValueError(f"shortcut={option!r}: there are 'A', 'B', 'C' and 'none'")
    if option == "none":
        return 0.0
    if option == "C" or (option == "B" and (missing or stride > 1)):
        return project(features, stride)
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, missing)))


class OriginalBlock(nn.Module):
    """`relu(shortcut(x) + norm(conv(... relu(norm(conv(x))))))` (1512.03385, fig. 2 and 5).

    `conv(features, kernel, stride)`, `norm()` and `dropout()` make layers that know the mode and the compute type.
    """

    convolutions: Convolutions
    shortcut: str
    conv: Callable[..., nn.Module]
    norm: Norm
    activation: Callable[[Array], Array]
    dropout: Callable[..., nn.Module]
    zero_init: bool

    preactivation: ClassVar[bool] = False

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch H W C"]:
        def project(features: int, stride: int) -> Array:
            return self.norm(name="shortcut_norm")(self.conv(features, 1, stride, name="shortcut_conv")(x))

        *inner, (features, kernel, stride) = self.convolutions
        y = x
        for inner_features, inner_kernel, inner_stride in inner:
            y = self.activation(self.norm()(self.conv(inner_features, inner_kernel, inner_stride)(y)))
        y = self.conv(features, kernel, stride)(self.dropout()(y))
        y = self.norm(scale_init=nn.initializers.zeros if self.zero_init else nn.initializers.ones)(y)
        return self.activation(y + shortcut(x, self.shortcut, self.convolutions, project))


class PreActivationBlock(nn.Module):
    """`shortcut(x) + conv(relu(norm(... conv(relu(norm(x))))))` (1603.05027, fig. 1b): the identity path is left clean.

    A projection sees the first activation, as in the authors' code, and has no norm. Dropout precedes the last
    convolution (1605.07146, sec. 2.4). The fields are `OriginalBlock`'s.
    """

    convolutions: Convolutions
    shortcut: str
    conv: Callable[..., nn.Module]
    norm: Norm
    activation: Callable[[Array], Array]
    dropout: Callable[..., nn.Module]
    zero_init: bool

    preactivation: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch H W C"]:
        def project(features: int, stride: int) -> Array:
            return self.conv(features, 1, stride, name="shortcut_conv")(first)

        *inner, (features, kernel, stride) = self.convolutions
        y = first = self.activation(self.norm()(x))
        for inner_features, inner_kernel, inner_stride in inner:
            y = self.activation(self.norm()(self.conv(inner_features, inner_kernel, inner_stride)(y)))
        last_init = {"kernel_init": nn.initializers.zeros} if self.zero_init else {}
        y = self.conv(features, kernel, stride, **last_init)(self.dropout()(y))
        return y + shortcut(x, self.shortcut, self.convolutions, project)


class ResidualNetwork(nn.Module):
    """What all residual networks share: a stem, stages of blocks, the mean over positions, and the head.

    From one stage to the next the positions are halved in each direction. `zero_init` starts every branch at zero
    (Goyal et al. 2017, sec. 5.1): the last norm's scale, or with pre-activation the last kernel. The output is float32
    whatever `dtype`, the compute type, is.
    """

    num_classes: int = 10
    block: Callable[..., nn.Module] = OriginalBlock
    shortcut: str = "A"
    norm: Norm = batch_norm
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = nn.initializers.he_normal()
    conv: Callable[..., nn.Module] = Conv
    zero_init: bool = False
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    imagenet_stem: ClassVar[bool] = False

    def plan(self) -> tuple[int, list[tuple[int, int]], Callable[[int, int], Convolutions]]:
        """Returns the stem's features, (blocks, width) of each stage, and the blocks' shape.

        Raises:
            ValueError: no such depth.
        """
        raise NotImplementedError

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        def conv(features: int, kernel: int, stride: int = 1, **kwargs) -> nn.Module:
            # Padded alike on both sides: XLA's "SAME" would shift strided convolutions against everyone's weights.
            kwargs = {"kernel_init": self.kernel_init, **kwargs}
            shape = {"kernel_size": (kernel, kernel), "strides": stride, "padding": kernel // 2}
            return self.conv(features, **shape, use_bias=False, dtype=self.dtype, **kwargs)

        norm = partial(self.norm, train=train, dtype=self.dtype)
        dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
        block = partial(
            self.block,
            shortcut=self.shortcut,
            conv=conv,
            norm=norm,
            activation=self.activation,
            dropout=dropout,
            zero_init=self.zero_init,
        )
        stem_features, stages, shape = self.plan()
        blocks = [
            block(convolutions=shape(width, 2 if stage and not i else 1), name=f"stage{stage + 1}_block{i + 1}")
            for stage, (count, width) in enumerate(stages)
            for i in range(count)
        ]
        preactivation = blocks[0].preactivation
        x = conv(stem_features, *((7, 2) if self.imagenet_stem else (3, 1)), name="stem_conv")(images)
        x = x if preactivation else self.activation(norm(name="stem_norm")(x))
        if self.imagenet_stem:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in blocks:
            x = block(x)
        x = self.activation(norm(name="final_norm")(x)) if preactivation else x
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2)))


def blocks_per_stage(depth: int, layers: int, extra: int) -> int:
    """Returns n of a depth of `layers * n + extra`. Raises ValueError, naming the nearest depth, if there is none."""
    n = max(1, round((depth - extra) / layers))
    if depth != layers * n + extra:
        raise ValueError(f"depth={depth} is not {layers}n+{extra}: the nearest is {layers * n + extra}")
    return n


class CifarResNet(ResidualNetwork):
    """The networks for small images (1512.03385, sec. 4.2): three stages of `width`, 2 and 4 times as many channels.

    `depth` is 6n+2 (20, 32, 44, 56, 110), with bottlenecks 9n+2 (164 and 1001 in 1603.05027).
    """

    depth: int = 20
    width: int = 16
    bottleneck: bool = False

    TINY: ClassVar[dict] = {"num_classes": 3, "depth": 8, "width": 4}

    def plan(self):
        n = blocks_per_stage(self.depth, 9 if self.bottleneck else 6, 2)
        stages = [(n, self.width), (n, 2 * self.width), (n, 4 * self.width)]
        return self.width, stages, bottleneck if self.bottleneck else basic


class WideResNet(ResidualNetwork):
    """Wide ResNet (1605.07146): pre-activation, `width_factor` times as wide, of `depth` 6n+4 (dropout: 0.3)."""

    block: Callable[..., nn.Module] = PreActivationBlock
    shortcut: str = "B"
    depth: int = 28
    width_factor: int = 10

    TINY: ClassVar[dict] = {"num_classes": 3, "depth": 10, "width_factor": 1, "dropout": 0.3}

    def plan(self):
        n = blocks_per_stage(self.depth, 6, 4)
        return 16, [(n, width * self.width_factor) for width in (16, 32, 64)], basic


class ResNet(ResidualNetwork):
    """The networks for ImageNet (1512.03385, table 1): `depth` 18 or 34 of basic blocks, 50, 101 or 152 of bottlenecks.

    Stages of `width`, 2, 4 and 8 times as many channels follow a 7x7 stem and a max-pooling, each of stride 2.
    """

    num_classes: int = 1000
    shortcut: str = "B"
    depth: int = 50
    width: int = 64

    TINY: ClassVar[dict] = {"num_classes": 3, "depth": 18, "width": 4}
    imagenet_stem: ClassVar[bool] = True
    stages: ClassVar[dict] = {
        18: (2, 2, 2, 2),
        34: (3, 4, 6, 3),
        50: (3, 4, 6, 3),
        101: (3, 4, 23, 3),
        152: (3, 8, 36, 3),
    }

    def plan(self):
        if self.depth not in self.stages:
            nearest = min(self.stages, key=lambda depth: abs(depth - self.depth))
            depths = ", ".join(map(str, self.stages))
            raise ValueError(f"depth={self.depth} is none of {depths}: the nearest is {nearest}")
        stages = [(count, self.width * 2**stage) for stage, count in enumerate(self.stages[self.depth])]
        return self.width, stages, bottleneck if self.depth >= 50 else basic
