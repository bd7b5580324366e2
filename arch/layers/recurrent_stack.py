"""A stack of recurrent layers, in one or both directions, over sequences of unequal lengths."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.recurrence import State
from arch.layers.recurrent import LSTM
from arch.layers.tap import tap

# Shapes: b batch, t time, f input features, y output features.


def reverse(x: Float[Array, "t b y"], lengths: Int[Array, " b"] | None) -> Float[Array, "t b y"]:
    """Reverses each sequence within its length; padding stays where it is. The function is its own inverse."""
    if lengths is None:
        return x[::-1]
    time = jnp.arange(len(x))[:, None]
    return jnp.take_along_axis(x, jnp.where(time < lengths, lengths - 1 - time, time)[..., None], axis=0)


class Recurrent(nn.Module):
    """A stack of recurrent layers, `widths` units each.

    Attributes:
        cell: makes a layer: a `Cell` of `layers.recurrent` or `layers.recurrent_variants`, or one with fields set.
        bidirectional: each layer is two layers, one of which reads backwards; their outputs are concatenated, which
            doubles the width.
        residual: adds a layer's input to its output where the widths agree.
        dropout: rate for the input of every layer but the first, as in PyTorch.
        variational: dropout has one mask for all time steps (Gal & Ghahramani 2016, arXiv 1512.05287) and also applies
            to the input of the first layer.
    """

    cell: Callable[..., nn.Module] = LSTM
    widths: tuple[int, ...] = (256,)
    bidirectional: bool = False
    residual: bool = False
    dropout: float = 0.0
    variational: bool = False
    dtype: DTypeLike | None = None

    def setup(self):
        directions = ("forward", "backward") if self.bidirectional else ("forward",)
        self.layers = [
            [self.cell(units=units, dtype=self.dtype, name=f"layer{number}_{direction}") for direction in directions]
            for number, units in enumerate(self.widths, start=1)
        ]
        self.drop = nn.Dropout(self.dropout, broadcast_dims=(0,) if self.variational else ())

    def initial_states(self, batch: int) -> list[State]:
        """Returns the states that every layer starts from by default."""
        return [layer.initial_state(batch) for directions in self.layers for layer in directions]

    def __call__(
        self,
        x: Float[Array, "b t f"],
        states: list[State] | None = None,
        lengths: Int[Array, " b"] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "b t y"], list[State]]:
        """Returns the last layer's outputs, zero after a sequence's end, and every layer's state at its end.

        Args:
            states: to start from, as returned; a bidirectional stack has two per layer, forwards then backwards.
        """
        x = rearrange(x, "b t f -> t b f")
        mask = None if lengths is None else jnp.arange(len(x))[:, None] < lengths
        x = x if mask is None else jnp.where(mask[..., None], x, 0)
        before = iter(states or self.initial_states(x.shape[1]))
        after = []
        for number, directions in enumerate(self.layers, start=1):
            if number > 1 or self.variational:
                x = self.drop(x, deterministic=not train)
            x = rearrange(tap(self, f"layer{number}", rearrange(x, "t b f -> b t f")), "b t f -> t b f")
            outputs = []
            for layer, backward in zip(directions, (False, True), strict=False):
                y, state = layer(reverse(x, lengths) if backward else x, next(before), mask, train=train)
                outputs.append(reverse(y, lengths) if backward else y)
                after.append(state)
            y = jnp.concatenate(outputs, axis=-1)
            x = x + y if self.residual and x.shape == y.shape else y
            x = x if mask is None else jnp.where(mask[..., None], x, 0)
        return rearrange(x, "t b y -> b t y"), after
