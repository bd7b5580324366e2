"""DenseNet and DenseNet-BC (Huang et al. 2017, arXiv 1608.06993): each layer reads the outputs of all before it."""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.conv import Conv
from arch.layers.norm import Norm, batch_norm

# Shapes: batch; height, width, channels (of the input); h, w, c (of a layer's input); H, W, C (of its output); classes.


class DenseNet(nn.Module):
    """A stem, dense blocks with transitions between them, and the mean over positions (section 3). The output is
    float32.

    Attributes:
        blocks: number of layers of each dense block.
        growth: channels that each layer adds (k).
        stem_width: channels of the stem.
        small: the stem is a 3x3 convolution; else 7x7 and a max-pooling, both of stride 2.
        bottleneck: the 1x1 convolution before each 3x3 has this many times `growth` channels; 0: without it.
        compression: share of the channels that a transition keeps (theta).
        dropout: after each 3x3 convolution.
    """

    num_classes: int = 1000
    blocks: tuple[int, ...] = (6, 12, 24, 16)
    growth: int = 32
    stem_width: int = 64
    small: bool = False
    bottleneck: int = 4
    compression: float = 0.5
    norm: Norm = batch_norm
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = nn.initializers.he_normal()
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "blocks": (1, 2), "growth": 4, "stem_width": 6, "small": True, "dropout": 0.2},
        "121": {},
        "161": {"blocks": (6, 12, 36, 24), "growth": 48, "stem_width": 96},
        "169": {"blocks": (6, 12, 32, 32)},
        "201": {"blocks": (6, 12, 48, 32)},
        "CIFAR BC 100, 12": {"num_classes": 10, "blocks": (16,) * 3, "growth": 12, "stem_width": 24, "small": True},
        "CIFAR 40, 12": {"num_classes": 10, "blocks": (12,) * 3, "growth": 12, "stem_width": 16, "small": True}
        | {"bottleneck": 0, "compression": 1.0},
    }
    # torchvision's densenet; table 2
    PUBLISHED: ClassVar[dict[str, str | int]] = {
        "121": 7_978_856,
        "161": 28_681_000,
        "169": 14_149_480,
        "201": 20_013_928,
        "CIFAR BC 100, 12": "0.8M",
        "CIFAR 40, 12": "1.0M",
    }
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"height": 32, "width": 32}

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        *_, x = self.features(images, train=train).values()
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2)))

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> dict[str, Float[Array, "batch h w c"]]:
        """Returns the output of each dense block, "stage1" first, the last with norm and activation: the network as a
        backbone, without its head."""

        def activated(x: Array, name: str) -> Array:
            return self.activation(self.norm(train=train, dtype=self.dtype, name=f"{name}norm")(x))

        def layer(x: Float[Array, "batch h w c"], name: str) -> Float[Array, "batch h w C"]:
            """Returns the channels that a layer adds."""
            if self.bottleneck:
                x = self._conv(self.bottleneck * self.growth, 1, f"{name}_bottleneck_conv")(
                    activated(x, f"{name}_bottleneck_")
                )
            x = self._conv(self.growth, 3, f"{name}_conv")(activated(x, f"{name}_"))
            return nn.Dropout(self.dropout, deterministic=not train)(x)

        x, stages = self._conv(self.stem_width, *((3, "stem_conv") if self.small else (7, "stem_conv", 2)))(images), {}
        if not self.small:
            x = nn.max_pool(activated(x, "stem_"), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block, count in enumerate(self.blocks, start=1):
            for i in range(count):
                x = jnp.concatenate([x, layer(x, f"block{block}_layer{i + 1}")], axis=-1)
            if block == len(self.blocks):
                x = activated(x, "final_")
            stages[f"stage{block}"] = x
            if block < len(self.blocks):
                kept, name = int(self.compression * x.shape[-1]), f"transition{block}_"
                x = nn.avg_pool(self._conv(kept, 1, f"{name}conv")(activated(x, name)), (2, 2), (2, 2))
        for name, x in stages.items():
            self.sow("intermediates", name, x)
        return stages

    @nn.nowrap
    def _conv(self, features: int, kernel: int, name: str, stride: int = 1) -> nn.Module:
        options = {"kernel_init": self.kernel_init, "dtype": self.dtype, "name": name}
        return Conv(features, (kernel, kernel), stride, kernel // 2, use_bias=False, **options)
