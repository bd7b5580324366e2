"""Recurrent networks whose outputs are aligned with their labels by connectionist temporal classification."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, TypedDict

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.conv import Conv
from arch.layers.recurrent import LSTM
from arch.layers.recurrent_stack import Recurrent
from arch.layers.recurrent_variants import VariantLSTM

# Shapes: batch; length, features (of the input); out_length; classes, the blank among them.


class Frames(TypedDict):
    """Outputs: float32 logits, where class 0 is the blank, and the number of valid ones; later ones are meaningless."""

    logits: Float[Array, "batch out_length classes"]
    lengths: Int[Array, " batch"]


class CTCEncoder(nn.Module):
    """Convolutions over time, which may subsample, then recurrent layers and a head.

    Graves et al. (2006, ICML, sec. 5) have no convolutions (variant "TIMIT"); Amodei et al. (2016, arXiv 1512.02595,
    sec. 3) do.

    Attributes:
        num_classes: labels and the blank.
        convolutions: (features, kernel, stride) of each; kernels are odd. Stride r turns n frames into ceil(n / r).
        activation: follows each convolution.
        widths, bidirectional, dropout: as in `layers.recurrent_stack.Recurrent`; dropout also precedes the head.
    """

    num_classes: int = 29
    convolutions: tuple[tuple[int, int, int], ...] = ()
    activation: Callable[[Array], Array] = nn.relu
    cell: Callable[..., nn.Module] = LSTM
    widths: tuple[int, ...] = (256,)
    bidirectional: bool = True
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 4, "convolutions": ((8, 3, 2),), "widths": (8,), "dropout": 0.2},
        "TIMIT": {"num_classes": 62, "cell": partial(VariantLSTM, peepholes=True), "widths": (100,)},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {"TIMIT": 114_662}  # Graves et al. 2006, sec. 5.2
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"features": 26}

    def output_lengths(self, lengths: Int[Array, " batch"]) -> Int[Array, " batch"]:
        """Returns the number of outputs for inputs of these lengths."""
        for _, _, stride in self.convolutions:
            lengths = -(-lengths // stride)
        return lengths

    @nn.compact
    def __call__(
        self, frames: Float[Array, "batch length features"], frames_lengths: Int[Array, " batch"], *, train: bool
    ) -> Frames:
        """Returns logits and their lengths. The values of padding do not matter.

        Raises:
            ValueError: an even kernel.
        """

        def without_padding(x: Array, lengths: Array) -> Array:
            return jnp.where((jnp.arange(x.shape[1]) < lengths[:, None])[..., None], x, 0)

        x, lengths = without_padding(frames, frames_lengths), frames_lengths
        for features, kernel, stride in self.convolutions:
            if kernel % 2 == 0:
                raise ValueError(f"convolutions: a kernel of {kernel} is even; use {kernel - 1} or {kernel + 1}")
            x = Conv(features, (kernel,), stride, padding=kernel // 2, dtype=self.dtype)(x)
            lengths = -(-lengths // stride)
            x = without_padding(self.activation(x), lengths)
        stack = Recurrent(
            cell=self.cell,
            widths=self.widths,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
            dtype=self.dtype,
            name="stack",
        )
        x, _ = stack(x, None, lengths, train=train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return {"logits": nn.Dense(self.num_classes, name="head")(x), "lengths": lengths}
