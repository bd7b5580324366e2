"""Sublayers that mix tokens without attention, as the first sublayer of a block: `mixer="layers.mixers.Convolution()"`.

They are causal and have caches, so that every decoder takes them.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.dense import Dense
from arch.layers.mixer import Cached, Context
from arch.layers.recurrence import State
from arch.layers.recurrent import GRU
from arch.layers.recurrent_stack import Recurrent

# b: batch, t: tokens, k: width of the window, d: width of the model


class Recurrence(nn.Module):
    """One recurrent layer over the tokens and a projection of its outputs. A row has one text: no `context.segments`.

    Attributes:
        cell: of `layers.recurrent` or `layers.recurrent_variants`.
        width: units; None: as wide as the model.
    """

    cell: Callable[..., nn.Module] = GRU
    width: int | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], context: Context, cache: list[State] | None = None) -> Cached:
        if context.segments is not None:
            raise ValueError("layers.mixers.Recurrence reads one text per row: it cannot train on packed texts")
        layer = Recurrent(self.cell, (self.width or x.shape[-1],), dtype=self.dtype, name="recurrent")
        y, states = layer(x, cache, context.lengths, train=context.train)
        states = states if cache is not None or context.capacity is not None else None
        return Dense(x.shape[-1], dtype=self.dtype, name="out")(y), states


class Convolution(nn.Module):
    """A causal convolution over the last `size` tokens of each channel, gated by the token itself.

    As in the short convolutions of H3 (Fu et al. 2022, arXiv 2212.14052, section 3.1) and Mamba (Gu & Dao 2023, arXiv
    2312.00752, figure 3).
    """

    size: int = 4
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], context: Context, cache: Float[Array, "b k d"] | None = None
    ) -> Cached:
        d, before = x.shape[-1], self.size - 1
        values, gate = jnp.split(Dense(2 * d, dtype=self.dtype, name="in")(x), 2, -1)
        kernel = self.param("kernel", nn.initializers.variance_scaling(1.0, "fan_in", "normal"), (self.size, d))
        earlier = jnp.zeros((len(x), before, d), values.dtype) if cache is None else cache
        seen = jnp.concatenate([earlier, values], 1)
        y = sum(
            _visible(seen, context.segments, x.shape[1], before - i) * kernel[i].astype(seen.dtype)
            for i in range(self.size)
        )
        if cache is not None or context.capacity is not None:
            count = jnp.full(len(x), x.shape[1]) if context.lengths is None else context.lengths
            cache = jnp.take_along_axis(seen, (count[:, None] + jnp.arange(before))[..., None], axis=1)
        return Dense(d, dtype=self.dtype, name="out")(y * nn.silu(gate)), cache


def _visible(
    seen: Float[Array, "b s d"], segments: Int[Array, "b t"] | None, t: int, before: int
) -> Float[Array, "b t d"]:
    """Returns the token that stands `before` positions before each of the last t, or 0 if that is of another text."""
    earlier = seen[:, seen.shape[1] - t - before : seen.shape[1] - before]
    if segments is None:
        return earlier
    texts = jnp.pad(segments, ((0, 0), (before, 0)))[:, :t]
    return jnp.where((texts == segments)[..., None], earlier, 0)
