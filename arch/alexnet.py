"""AlexNet: of 2012 (Krizhevsky et al., "ImageNet classification with deep convolutional neural networks"), in two
halves, and of 2014 (Krizhevsky, arXiv 1404.5997), in one."""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.conv import Conv
from arch.layers.pool import adaptive_mean

# Shapes: batch; height, width, channels (of the input); h, w, c (of a stage's output); classes.

POOLED = (1, 2, 5)  # convolutions that a max-pooling follows
KERNELS = (11, 5, 3, 3, 3)


def response_norm(x: Float[Array, "batch h w c"], size: int = 5) -> Float[Array, "batch h w c"]:
    """Divides by (2 + 1e-4 s)^0.75, where s is the sum of squares over `size` neighbouring channels (2012, 3.3)."""
    half = size // 2
    squares = lax.reduce_window(
        jnp.square(x), np.zeros((), x.dtype), lax.add, (1, 1, 1, size), (1, 1, 1, 1), ((0, 0),) * 3 + ((half, half),)
    )
    return x * (2 + 1e-4 * squares) ** -0.75


class AlexNet(nn.Module):
    """Five convolutions, max-pooling after the first, second and fifth, and two hidden layers. The output is float32.

    Attributes:
        groups: of each convolution; 2 are halves that do not see each other.
        response_norm: whether a normalisation over channels follows the first two convolutions.
        kernel, stride: of the first convolution.
        window: of the max-pooling, whose stride is 2.
        pooled: positions per side that the first hidden layer reads; maps of another size are averaged.
        dropout: before each hidden layer.
    """

    num_classes: int = 1000
    widths: tuple[int, ...] = (64, 192, 384, 256, 256)
    groups: tuple[int, ...] = (1, 1, 1, 1, 1)
    response_norm: bool = False
    kernel: int = 11
    stride: int = 4
    window: int = 3
    pooled: int = 6
    hidden: tuple[int, ...] = (4096, 4096)
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = nn.initializers.he_normal()
    dropout: float = 0.5
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "widths": (4, 6, 8, 4, 6), "groups": (1, 2, 1, 1, 1), "response_norm": True}
        | {"kernel": 3, "stride": 1, "window": 2, "pooled": 2, "hidden": (8, 8), "dropout": 0.2},
        "2014": {},
        "2012": {"widths": (96, 256, 384, 384, 256), "groups": (1, 2, 1, 2, 2), "response_norm": True},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {
        "2014": 61_100_840,  # torchvision's alexnet
        "2012": 60_965_224,  # Caffe's bvlc_alexnet; "60 million" in the paper
    }
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"height": 64, "width": 64}

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        *_, x = self.features(images, train=train).values()
        x = adaptive_mean(x, self.pooled, self.pooled).reshape(len(x), -1)
        for number, width in enumerate(self.hidden, start=1):
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            dense = nn.Dense(width, kernel_init=self.kernel_init, dtype=self.dtype, name=f"dense{number}")
            x = self.activation(dense(x))
        return nn.Dense(self.num_classes, name="head")(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> dict[str, Float[Array, "batch h w c"]]:
        """Returns the output of each max-pooling, "stage1" first: the network as a backbone, without its head."""
        x, stages = images, {}
        for number, (width, groups) in enumerate(zip(self.widths, self.groups, strict=True), start=1):
            kernel, stride = (self.kernel, self.stride) if number == 1 else (KERNELS[number - 1], 1)
            padding = 2 if number == 1 else kernel // 2
            conv = Conv(
                width, (kernel, kernel), stride, padding, feature_group_count=groups, kernel_init=self.kernel_init,
                dtype=self.dtype, name=f"conv{number}",
            )  # fmt: skip
            x = self.activation(conv(x))
            if self.response_norm and number <= 2:
                x = response_norm(x)
            if number in POOLED:
                stage = f"stage{POOLED.index(number) + 1}"
                x = stages[stage] = nn.max_pool(x, (self.window, self.window), (2, 2))
                self.sow("intermediates", stage, x)
        return stages
