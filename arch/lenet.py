"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II)."""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.conv import conv_general_dilated

# Shapes: batch; height, width, channels (of the input); h, w, c (of a layer's input); H, W, C (of its output); classes.

SIZE = 32  # of the field in whose centre smaller images stand
CONNECTIONS = (  # table I: the maps of S2 that each map of C3 reads
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip


def scaled_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns 1.7159 tanh(2 x / 3) (appendix A), which maps 1 to 1 and -1 to -1."""
    return 1.7159 * nn.tanh(2 / 3 * x)


class Convolution(nn.Module):
    """A 5x5 convolution without padding. `connections`: the input maps that each output map reads; None: all."""

    features: int
    connections: tuple[tuple[int, ...], ...] | None = None
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch H W C"]:
        maps, shape = x.shape[-1], (5, 5, x.shape[-1], self.features)
        read = self.connections or (tuple(range(maps)),) * self.features
        if len(read) != self.features or max(map(max, read)) >= maps:
            raise ValueError(
                f"connections join {max(map(max, read)) + 1} maps to {len(read)}, but the layer has {maps} and "
                f"{self.features}: connections=None joins all"
            )
        inputs, outputs = np.array([(i, out) for out, some in enumerate(read) for i in some]).T
        kernel = self.param("kernel", lambda key: self.kernel_init(key, shape)[:, :, inputs, outputs])
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        kernel = jnp.zeros(shape, kernel.dtype).at[:, :, inputs, outputs].set(kernel)
        return conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias


class TrainableSubsampling(nn.Module):
    """Means of 2x2 positions, times a learned number per map, plus a bias; the activation follows (section II.B, S2).

    The paper sums the positions: its numbers are a quarter of these.
    """

    activation: Callable[[Array], Array] = scaled_tanh
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch H W c"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        x, scale, bias = nn.dtypes.promote_dtype(x, scale, bias, dtype=self.dtype)
        return self.activation(nn.avg_pool(x, (2, 2), (2, 2)) * scale + bias)


class MeanSubsampling(nn.Module):
    """Means of 2x2 positions, without parameters and activation, as in later versions of LeNet."""

    activation: Callable[[Array], Array] = scaled_tanh
    dtype: DTypeLike | None = None

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch H W c"]:
        return nn.avg_pool(x, (2, 2), (2, 2))


class RadialBasis(nn.Module):
    """The negative squared distance to a fixed code of +1 and -1 per class (eq. 7).

    The authors drew the codes by hand, as 7x12 pictures of the characters. These are random, which section II.B names
    as the alternative. Under softmax cross-entropy the loss is eq. 9 without the class of rubbish.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch c"]) -> Float[Array, "batch classes"]:
        codes = np.random.default_rng(1998).choice(np.array([-1, 1], np.float32), (self.features, x.shape[-1]))
        return -jnp.square(x.astype(jnp.float32)[:, None] - codes).sum(-1)


class LeNet5(nn.Module):
    """C1, S2, C3, S4, C5, F6 and the output, for grey characters of 32x32; smaller images stand in the centre of zeros.

    Larger images give C5 several positions, of which the mean is taken. The output is float32.

    Attributes:
        connections: of C3; None: each map reads all.
        subsampling: S2 and S4.
        output: makes the head of `num_classes` features.
    """

    num_classes: int = 10
    widths: tuple[int, int, int, int] = (6, 16, 120, 84)
    connections: tuple[tuple[int, ...], ...] | None = CONNECTIONS
    subsampling: Callable[..., nn.Module] = TrainableSubsampling
    output: Callable[..., nn.Module] = RadialBasis
    activation: Callable[[Array], Array] = scaled_tanh
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "output": nn.Dense},
        "1998": {},
        "full": {"connections": None, "subsampling": MeanSubsampling, "output": nn.Dense},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {
        "1998": 60_000,  # section II.B
        "full": 61_706,  # PyTorch's and Keras's tutorials
    }
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"channels": 1}

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        *_, x = self.features(images, train=train).values()
        x = self.activation(self._convolution(self.widths[2], name="c5")(x)).mean((1, 2))
        x = self.activation(nn.Dense(self.widths[3], kernel_init=self.kernel_init, dtype=self.dtype, name="f6")(x))
        return self.output(self.num_classes, name="head")(x)

    @nn.compact
    def features(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> dict[str, Float[Array, "batch h w c"]]:
        """Returns the outputs of S2 and S4, "stage1" and "stage2": the network as a backbone, without its head."""
        sides = [max(SIZE - side, 0) for side in images.shape[1:3]]
        x, stages = jnp.pad(images, ((0, 0), *((side // 2, side - side // 2) for side in sides), (0, 0))), {}
        for stage, connections in enumerate((None, self.connections), start=1):
            x = self._convolution(self.widths[stage - 1], connections, name=f"c{2 * stage - 1}")(x)
            subsampling = self.subsampling(activation=self.activation, dtype=self.dtype, name=f"s{2 * stage}")
            x = stages[f"stage{stage}"] = subsampling(self.activation(x))
            self.sow("intermediates", f"stage{stage}", x)
        return stages

    @nn.nowrap
    def _convolution(self, features: int, connections=None, *, name: str) -> nn.Module:
        return Convolution(features, connections, self.kernel_init, self.dtype, name=name)
