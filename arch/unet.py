"""U-Net for images (Ronneberger et al. 2015, arXiv 1505.04597) and volumes (Cicek et al. 2016, arXiv 1606.06650)."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.conv import Conv
from arch.layers.conv3d import Conv3D
from arch.layers.dense import matmul
from arch.layers.norm import Norm, batch_norm, identity

# Shapes: batch; space: height and width, of volumes depth before them; hw, HW: space of a level, and of the result;
# c, C: channels; classes.


class Convolutions(nn.Module):
    """Two convolutions over windows of 3, each followed by a norm and an activation."""

    widths: tuple[int, int]
    padding: Literal["VALID", "SAME"]
    norm: Norm
    activation: Callable[[Array], Array]
    bias: bool
    kernel_init: Initializer
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Float[Array, "batch *hw c"], train: bool) -> Float[Array, "batch *HW C"]:
        rank = x.ndim - 2
        conv = partial(Conv3D if rank == 3 else Conv, kernel_size=(3,) * rank, padding=self.padding, dtype=self.dtype)
        for number, width in enumerate(self.widths, start=1):
            x = conv(width, use_bias=self.bias, kernel_init=self.kernel_init, name=f"conv{number}")(x)
            x = self.activation(self.norm(train=train, dtype=self.dtype, name=f"norm{number}")(x))
        return x


class UpConvolution(nn.Module):
    """A transposed convolution with windows of 2 and stride 2: each position becomes 2 positions per axis, which no
    other position changes, so it is one matrix product. (XLA's own is slow, in 3-D most of all.)"""

    width: int
    bias: bool = True
    kernel_init: Initializer = nn.initializers.he_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch *hw c"]) -> Float[Array, "batch *HW C"]:
        space, rank = x.shape[1:-1], x.ndim - 2
        shape = (x.shape[-1], *(2,) * rank, self.width)
        flat = (x.shape[-1], 2**rank * self.width)  # each output reads one position: c inputs, which `init` counts so
        kernel = self.param("kernel", lambda key: self.kernel_init(key, flat).reshape(shape))
        bias = self.param("bias", nn.initializers.zeros, (self.width,)) if self.bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = matmul(x, kernel.reshape(x.shape[-1], -1)).reshape(*x.shape[:-1], *(2,) * rank, self.width)
        axes = itertools.chain(*zip(range(1, rank + 1), range(rank + 1, 2 * rank + 1), strict=True))
        y = y.transpose(0, *axes, 2 * rank + 1).reshape(len(x), *(2 * side for side in space), self.width)
        return y if bias is None else y + bias


class UNet(nn.Module):
    """A contracting path of `depth` max-poolings, and an expanding path that reads the maps of the contracting one
    (figure 1). The result has the size of the input, which may be any.

    Attributes:
        width: channels of the first level; each pooling doubles them.
        padding: "VALID": convolutions do not pad, and the input is extended by its mirror image, as at the edges of the
            paper's tiles (section 2, figure 2). "SAME": convolutions pad with zeros.
        skips: whether the expanding path reads the maps of the contracting one.
        doubling: whether channels double "after" a pooling, or "before" it, by the second convolution of a level (Cicek
            2016, section 2, against bottlenecks); up-convolutions then keep all channels.
        bias, up_bias: of convolutions, and of up-convolutions.
        dropout: rate after the last two levels of the contracting path (section 3.1; the rate is that of the published
            network).
    """

    num_classes: int = 2
    width: int = 64
    depth: int = 4
    padding: Literal["VALID", "SAME"] = "VALID"
    skips: bool = True
    doubling: Literal["after", "before"] = "after"
    norm: Norm = identity
    activation: Callable[[Array], Array] = nn.relu
    bias: bool = True
    up_bias: bool = True
    kernel_init: Initializer = nn.initializers.he_normal()
    dropout: float = 0.5
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "width": 16, "depth": 1, "dropout": 0.1, "norm": batch_norm},
        "2015": {},
        # as in common PyTorch code (milesial/Pytorch-UNet)
        "padded": {"padding": "SAME", "norm": batch_norm, "bias": False, "dropout": 0.0},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {"2015": 31_030_658}  # derived from figure 1: biases, one channel
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"channels": 1}

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch *space channels"], *, train: bool
    ) -> Float[Array, "batch *space classes"]:
        x, maps = self._extended(images), []
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        for level in range(self.depth + 1):
            width = self.width * 2**level
            widths = (width // 2 if self.doubling == "before" else width, width)
            x = self._convolutions(widths, f"down{level + 1}")(x, train)
            x = dropout(x) if level >= self.depth - 1 else x
            maps.append(x)
            if level < self.depth:
                x = nn.max_pool(x, (2,) * (x.ndim - 2), (2,) * (x.ndim - 2))
        for level in reversed(range(self.depth)):
            width = self.width * 2**level
            up = x.shape[-1] if self.doubling == "before" else width
            x = UpConvolution(up, self.up_bias, self.kernel_init, self.dtype, name=f"up{level + 1}")(x)
            if self.skips:
                x = jnp.concatenate([_centre(maps[level], x.shape[1:-1]), x], axis=-1)
            x = self._convolutions((width, width), f"expand{level + 1}")(x, train)
        x = _centre(x, images.shape[1:-1])
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, name="head")(x.astype(jnp.float32))

    @nn.nowrap
    def _convolutions(self, widths: tuple[int, int], name: str) -> Convolutions:
        shared = (self.padding, self.norm, self.activation, self.bias, self.kernel_init, self.dtype)
        return Convolutions(widths, *shared, name=name)

    @nn.nowrap
    def _extended(self, x: Float[Array, "batch *space c"]) -> Float[Array, "batch *HW c"]:
        """Returns the images with margins, with which all poolings fit and the result is at least as large as they."""
        sizes = [self.input_size(side) for side in x.shape[1:-1]]
        margins = [
            ((size - side) // 2, -(-(size - side) // 2)) for size, side in zip(sizes, x.shape[1:-1], strict=True)
        ]
        return jnp.pad(x, [(0, 0), *margins, (0, 0)], mode="reflect" if self.padding == "VALID" else "constant")

    @nn.nowrap
    def input_size(self, size: int) -> int:
        """Returns the least side of an input for which the result has at least this side; in the paper 572 for 388."""
        lost = 4 if self.padding == "VALID" else 0  # by two convolutions
        for _ in range(self.depth):
            size = -(-(size + lost) // 2)
        for _ in range(self.depth):
            size = 2 * (size + lost)
        return size + lost


class UNet3D(UNet):
    """The 3-D U-Net of Cicek et al. (section 2, figure 2); a volume is [batch, depth, height, width, channels]."""

    num_classes: int = 3
    depth: int = 3
    doubling: Literal["after", "before"] = "before"
    norm: Norm = batch_norm
    up_bias: bool = False
    dropout: float = 0.0

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "width": 16, "depth": 1, "padding": "SAME"},
        "2016": {},
    }
    # printed: 19,069,955, which leaves out the scales and biases of the norms
    PUBLISHED: ClassVar[dict[str, str | int]] = {"2016": 19_069_955 + 4_672}
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"time": 4, "channels": 3}

    def __call__(
        self, volumes: Float[Array, "batch time height width channels"], *, train: bool
    ) -> Float[Array, "batch time height width classes"]:
        return super().__call__(volumes, train=train)


def _centre(x: Float[Array, "batch *hw c"], size: tuple[int, ...]) -> Float[Array, "batch *HW c"]:
    """Returns the middle of a map."""
    starts = [(have - wanted) // 2 for have, wanted in zip(x.shape[1:-1], size, strict=True)]
    return x[(slice(None), *(slice(start, start + wanted) for start, wanted in zip(starts, size, strict=True)))]
