"""Networks that cut their input into patches, mix these tokens in a trunk, and read the result off them.

One trunk takes images, spectrograms, series, videos and texts: only the patches differ.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Int

from arch.layers.dense import matmul
from arch.layers.mixer import Context
from arch.layers.norm import Norm, layer_norm
from arch.layers.trunk import Block, Sublayer, Trunk
from core.errors import UserError

# Shapes: batch; space: axes of the input, and grid: of its patches, such as height and width; channels; length (of a
# text); tokens: patches and additional ones; width (of the model); classes


class Patches(nn.Module):
    """Non-overlapping patches, each projected to a token (arXiv 2010.11929, eq. 1): a convolution of equal size and
    stride, as one matrix product.

    Attributes:
        size: of a patch on each axis.
    """

    width: int
    size: tuple[int, ...]
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *grid width"]:
        """Raises UserError if the patches do not fill the input."""
        space, channels = x.shape[1:-1], x.shape[-1]
        if len(space) != len(self.size) or any(a % b for a, b in zip(space, self.size, strict=True)):
            raise UserError(f"an input of {_by(space)} cannot be cut into patches of {_by(self.size)}")
        kernel = self.param("kernel", self.kernel_init, (*self.size, channels, self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        grid = [a // b for a, b in zip(space, self.size, strict=True)]
        split = [number for pair in zip(grid, self.size, strict=True) for number in pair]
        axes, end = range(1, 2 * len(grid) + 1), 2 * len(grid) + 1
        patches = x.reshape(len(x), *split, channels).transpose(0, *axes[::2], *axes[1::2], end)
        patches, kernel, bias = nn.dtypes.promote_dtype(
            patches.reshape(len(x), *grid, -1), kernel.reshape(-1, self.width), bias, dtype=self.dtype
        )
        return matmul(patches, kernel) + bias


def _by(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


class PatchNetwork(nn.Module):
    """Base class: patches, a trunk, and a head on the mean of the tokens. A subclass has `sublayers`.

    The output is float32.

    Attributes:
        vocab_size: number of tokens; inputs are then token ids, each a patch. None: inputs are numbers.
        context: length of texts and series, in steps, to which shorter ones are padded; None: all are equally long.
        patch: size on each axis: (16, 16) for an image, (4,) for a series [batch, time, channels], (2, 16, 16) for a
            video [batch, time, height, width, channels]. With one axis more than the input has, such as (16, 16) for a
            spectrogram [batch, time, bands], the input has one channel.
        backbone: makes a network with `features(images, train=train)`, of whose last entry [batch, h, w, c] the patches
            are cut: the hybrid of arXiv 2010.11929, section 3.1.
        patch_init, head_init: of the kernels of patches and head, which starts at 0 as in the code of ViT and Mixer.
        drop_path, remat, scan: as in `layers.trunk.Trunk`. layer_scale: as in `layers.trunk.Residual`.
    """

    num_classes: int = 1000
    vocab_size: int | None = None
    context: int | None = None
    patch: tuple[int, ...] = (16, 16)
    backbone: Callable[..., nn.Module] | None = None
    depth: int = 12
    width: int = 768
    norm: Norm = layer_norm
    patch_init: Initializer = nn.initializers.lecun_normal()
    head_init: Initializer = nn.initializers.zeros
    dropout: float = 0.0
    layer_scale: float | None = None
    drop_path: float = 0.0
    remat: bool = False
    scan: bool = False
    dtype: DTypeLike | None = None

    PUBLISHED_SIZES: ClassVar[dict[str, tuple[int, ...]]] = {"*space": (224, 224)}

    def setup(self):
        if self.vocab_size is not None:
            init = nn.initializers.normal(0.02)
            self.embedding = nn.Embed(self.vocab_size, self.width, dtype=self.dtype, embedding_init=init)
        self.head = nn.Dense(self.num_classes, kernel_init=self.head_init)

    @nn.nowrap
    def sublayers(self, grid: tuple[int, ...]) -> Mapping[str, Sublayer]:
        """Returns the sublayers of a block (`layers.trunk.Block`), by name."""
        raise NotImplementedError

    def __call__(
        self,
        inputs: Float[Array, "batch *space channels"] | Int[Array, "batch length"],
        lengths: Int[Array, " batch"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch classes"]:
        """`lengths` are those of texts or series in steps; padding changes nothing else."""
        x, _, mask = self.encode(inputs, lengths, train)
        return self.head(self.pooled(x, mask, train))

    def features(
        self, images: Float[Array, "batch *space channels"], *, train: bool
    ) -> dict[str, Float[Array, "batch *grid width"]]:
        """Returns the tokens in their places as "stage1": the network as a backbone, without its head."""
        x, grid, _ = self.encode(images, None, train)
        return {"stage1": _in_place(x, grid)}

    def pooled(
        self, x: Float[Array, "batch tokens width"], mask: Bool[Array, "batch tokens"] | None, train: bool
    ) -> Float[Array, "batch width"]:
        """Returns the vector that the head reads."""
        x = x.astype(jnp.float32)
        return x.mean(1) if mask is None else (x * mask[..., None]).sum(1) / jnp.maximum(mask.sum(1), 1)[:, None]

    def placed(
        self, x: Float[Array, "batch cells width"], grid: tuple[int, ...], train: bool
    ) -> Float[Array, "batch tokens width"]:
        """Returns the tokens that the trunk reads; additional ones come first."""
        return x

    @nn.compact
    def encode(
        self,
        inputs: Float[Array, "batch *space channels"] | Int[Array, "batch length"],
        lengths: Int[Array, " batch"] | None,
        train: bool,
    ) -> tuple[Float[Array, "batch tokens width"], tuple[int, ...], Bool[Array, "batch tokens"] | None]:
        """Returns the trunk's tokens, the grid of patches, and the mask of real tokens, None if all are real."""
        inputs, lengths = self._padded(inputs, lengths)
        x = self._tokens(inputs, train)
        grid = x.shape[1:-1]
        x = self.placed(x.reshape(len(x), -1, self.width), grid, train)
        mask = None if lengths is None else self._mask(lengths, x.shape[1], grid)
        context = Context(jnp.arange(x.shape[1])[None], train, mask=mask)
        residual = {"norm": self.norm, "dropout": self.dropout, "layer_scale": self.layer_scale, "dtype": self.dtype}
        options = {"drop_path": self.drop_path, "remat": self.remat, "scan": self.scan, "dtype": self.dtype}
        block = partial(Block, self.sublayers(grid), residual)
        x, _ = Trunk(self.depth, (block,), self.norm, name="trunk", **options)(x, context)
        self.sow("intermediates", "stage1", _in_place(x, grid))
        return x, grid, mask

    def _padded(self, inputs: Array, lengths: Int[Array, " batch"] | None) -> tuple[Array, Int[Array, " batch"] | None]:
        """Returns inputs of `context` steps, and their lengths. Steps after the end of a series are set to 0, because
        the last patch may contain some of them."""
        steps = inputs.shape[1]
        if lengths is not None and self.vocab_size is None:
            real = jnp.arange(steps) < lengths[:, None]
            inputs = jnp.where(real.reshape(*real.shape, *[1] * (inputs.ndim - 2)), inputs, 0)
        if self.context is None or steps == self.context:
            return inputs, lengths
        if steps > self.context:
            raise UserError(f"inputs have {steps} steps and the model's context {self.context}")
        missing = [(0, 0), (0, self.context - steps), *[(0, 0)] * (inputs.ndim - 2)]
        return jnp.pad(inputs, missing), jnp.full(len(inputs), steps) if lengths is None else lengths

    def _tokens(self, inputs: Array, train: bool) -> Float[Array, "batch *grid width"]:
        if (self.vocab_size is None) == jnp.issubdtype(inputs.dtype, jnp.integer):
            raise ValueError(f"inputs are {inputs.dtype}, but vocab_size is {self.vocab_size}: only tokens have one")
        if self.vocab_size is not None:
            return self.embedding(inputs)
        x = inputs if inputs.ndim == len(self.patch) + 2 else inputs[..., None]
        if self.backbone is not None:
            *_, x = self.backbone(dtype=self.dtype, name="backbone").features(x, train=train).values()
        return Patches(self.width, self.patch, self.patch_init, self.dtype, name="patches")(x)

    def _mask(self, lengths: Int[Array, " batch"], count: int, grid: tuple[int, ...]) -> Bool[Array, "batch tokens"]:
        """Returns the mask of the tokens that have a real step; additional ones are real."""
        if len(grid) != 1:
            raise ValueError(f"lengths are those of texts or series, but the patches have {len(grid)} axes")
        size = 1 if self.vocab_size is not None else self.patch[0]
        return jnp.arange(count) < (-(-lengths // size) + count - grid[0])[:, None]


def _in_place(x: Float[Array, "batch tokens width"], grid: tuple[int, ...]) -> Float[Array, "batch *grid width"]:
    """Returns the tokens of the patches on their grid."""
    return x[:, x.shape[1] - math.prod(grid) :].reshape(len(x), *grid, x.shape[-1])
