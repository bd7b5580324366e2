"""A plain convolutional network, for small images and as a backbone."""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.conv import Conv
from arch.layers.norm import Norm, batch_norm

# Shapes: batch; height, width, channels (of the input); h, w, c (of a stage's output); classes.


class ConvNet(nn.Module):
    """3x3 convolutions, each with norm and activation, one per width, and a head on the mean over positions.

    A max-pooling before every convolution but the first halves the positions. The output is float32.
    """

    num_classes: int = 10
    widths: tuple[int, ...] = (32, 64, 128)
    norm: Norm = batch_norm
    activation: Callable[[Array], Array] = nn.relu
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {"test": {"num_classes": 3, "widths": (4, 8)}}

    def setup(self):
        self.head = nn.Dense(self.num_classes)

    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        *_, x = self.features(images, train=train).values()
        return self.head(x.mean((1, 2)))

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> dict[str, Float[Array, "batch h w c"]]:
        """Returns the output of each convolution, "stage1" first: the network as a backbone, without its head."""
        x, stages = images, {}
        for number, features in enumerate(self.widths, start=1):
            x = nn.max_pool(x, (2, 2), strides=(2, 2)) if number > 1 else x
            x = Conv(features, (3, 3), use_bias=False, dtype=self.dtype)(x)
            x = stages[f"stage{number}"] = self.activation(self.norm(train=train, dtype=self.dtype)(x))
            self.sow("intermediates", f"stage{number}", x)
        return stages
