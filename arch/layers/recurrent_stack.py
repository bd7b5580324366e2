"""Recurrent layers on top of each other and in both directions, over sequences of any lengths."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.recurrence import State
from arch.layers.recurrent import LSTM
from arch.layers.watch import watch

# Shapes: b batch, t time, f input features, y output features.


def reverse(x: Float[Array, "t b y"], lengths: Int[Array, " b"] | None) -> Float[Array, "t b y"]:
    """Reverses each sequence within its length; what is behind it stays where it is. Its own inverse."""
    if lengths is None:
        return x[::-1]
    time = jnp.arange(len(x))[:, None]
    return jnp.take_along_axis(x, jnp.where(time < lengths, lengths - 1 - time, time)[..., None], axis=0)


class Recurrent(nn.Module):
    """A stack of recurrent layers, `widths` units each.

    Attributes:
        cell: makes a layer: `LSTM`, `GRU`, `Elman`, `IRNN`, or one of these with some fields.
        bidirectional: each layer is two, one of them reads backwards; their outputs are joined (twice the width).
        residual: adds a layer's input to its output where the widths agree.
        dropout: of the input of every layer but the first, as PyTorch's.
        variational: dropout has one mask for all time steps (Gal & Ghahramani 2016), and is of the first layer's, too.
    """

    cell: Callable[..., nn.Module] = LSTM
    widths: tuple[int, ...] = (256,)
    bidirectional: bool = False
    residual: bool = False
    dropout: float = 0.0
    variational: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t f"],
        states: list[State] | None = None,
        lengths: Int[Array, " b"] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "b t y"], list[State]]:
        """Returns the last layer's outputs, zero behind a sequence's length, and every layer's state at its length.

        Args:
            states: to start from, as returned; a bidirectional stack has two of each layer, forwards then backwards.
        """
        x = rearrange(x, "b t f -> t b f")
        mask = None if lengths is None else jnp.arange(len(x))[:, None] < lengths
        x = x if mask is None else jnp.where(mask[..., None], x, 0)
        directions = ("forward", "backward") if self.bidirectional else ("forward",)
        before = iter(states or [None] * len(self.widths) * len(directions))
        after = []
        for number, units in enumerate(self.widths, start=1):
            if number > 1 or self.variational:
                axes = (0,) if self.variational else ()
                x = nn.Dropout(self.dropout, broadcast_dims=axes, deterministic=not train)(x)
            x = rearrange(watch(self, f"layer{number}", rearrange(x, "t b f -> b t f")), "b t f -> t b f")
            outputs = []
            for direction in directions:
                layer = self.cell(units=units, dtype=self.dtype, name=f"layer{number}_{direction}")
                turn = functools.partial(reverse, lengths=lengths) if direction == "backward" else lambda x: x
                y, state = layer(turn(x), next(before), mask, train=train)
                outputs.append(turn(y))
                after.append(state)
            y = jnp.concatenate(outputs, axis=-1)
            x = x + y if self.residual and x.shape == y.shape else y
            x = x if mask is None else jnp.where(mask[..., None], x, 0)
        return rearrange(x, "t b y -> b t y"), after
