"""VGG (Simonyan & Zisserman 2014, arXiv 1409.1556): 3x3 convolutions and max-pooling, 11 to 19 layers deep."""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.conv import Conv
from arch.layers.norm import Norm, batch_norm, identity
from arch.layers.pool import adaptive_mean

# Shapes: batch; height, width, channels (of the input); h, w, c (of a stage's output); classes.

DEPTHS = {"11": (1, 1, 2, 2, 2), "13": (2, 2, 2, 2, 2), "16": (2, 2, 3, 3, 3), "19": (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each stage with a max-pooling at its end, and hidden layers (table 1).

    The output is float32. For small images: `hidden=(), pooled=1`.

    Attributes:
        depths: number of convolutions of each stage.
        pooled: positions per side that the first hidden layer reads; maps of another size are averaged.
        norm: between each convolution and its activation; the paper has none.
        dropout: after each hidden layer.
    """

    num_classes: int = 1000
    depths: tuple[int, ...] = DEPTHS["16"]
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden: tuple[int, ...] = (4096, 4096)
    pooled: int = 7
    norm: Norm = identity
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = nn.initializers.he_normal()
    dropout: float = 0.5
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "depths": (1, 2), "widths": (4, 6), "hidden": (8,), "pooled": 2, "dropout": 0.2},
        **{name: {"depths": depths} for name, depths in DEPTHS.items()},
        **{f"{name}-bn": {"depths": depths, "norm": batch_norm} for name, depths in DEPTHS.items()},
    }
    # torchvision's vgg
    PUBLISHED: ClassVar[dict[str, str | int]] = {
        "11": 132_863_336,
        "13": 133_047_848,
        "16": 138_357_544,
        "19": 143_667_240,
        "11-bn": 132_868_840,
        "13-bn": 133_053_736,
        "16-bn": 138_365_992,
        "19-bn": 143_678_248,
    }
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"height": 32, "width": 32}

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        *_, x = self.features(images, train=train).values()
        x = adaptive_mean(x, self.pooled, self.pooled).reshape(len(x), -1)
        for number, width in enumerate(self.hidden, start=1):
            dense = nn.Dense(width, kernel_init=self.kernel_init, dtype=self.dtype, name=f"dense{number}")
            x = nn.Dropout(self.dropout, deterministic=not train)(self.activation(dense(x)))
        return nn.Dense(self.num_classes, name="head")(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> dict[str, Float[Array, "batch h w c"]]:
        """Returns the output of each stage, "stage1" first: the network as a backbone, without its head."""
        x, stages = images, {}
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), start=1):
            for number in range(1, depth + 1):
                name = f"stage{stage}_{{}}{number}"
                options = {"kernel_init": self.kernel_init, "dtype": self.dtype, "name": name.format("conv")}
                x = Conv(width, (3, 3), padding=1, **options)(x)
                x = self.activation(self.norm(train=train, dtype=self.dtype, name=name.format("norm"))(x))
            x = stages[f"stage{stage}"] = nn.max_pool(x, (2, 2), (2, 2))
            self.sow("intermediates", f"stage{stage}", x)
        return stages
