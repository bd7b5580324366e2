"""Causal dilated convolutions over time, with queues from which generation continues (TCN, WaveNet)."""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.dense import matmul
from arch.layers.mixer import Cached, Context

# b: batch, t: positions, s: these and some before them, c: input channels, f: features, k: size of the kernel, n: the
# length of a queue, (k - 1) dilation + 1


class Queue(NamedTuple):
    """The last inputs of a convolution: a ring in which the next input replaces the oldest one, at `clock` modulo n.

    One input costs O(1) for any dilation. `clock` is the same for all rows, so that one slice of the ring is written.
    """

    values: Float[Array, "b n c"]
    clock: Int[Array, " b"]

    def push(self, x: Float[Array, "b 1 c"]) -> "Queue":
        """Returns the queue with one more input."""
        place = self.clock[0] % self.values.shape[1]
        return Queue(lax.dynamic_update_slice_in_dim(self.values, x, place, axis=1), self.clock + 1)

    def ago(self, steps: int) -> Float[Array, "b 1 c"]:
        """Returns the input that came `steps` before the last one."""
        place = (self.clock[0] - 1 - steps) % self.values.shape[1]
        return lax.dynamic_slice_in_dim(self.values, place, 1, axis=1)

    def ordered(self) -> Float[Array, "b n c"]:
        """Returns all inputs, the oldest first."""
        return jnp.roll(self.values, -self.clock[0], axis=1)


class CausalConv(nn.Module):
    """y_t = bias + sum over i < size of x_{t - i dilation} W_{size - 1 - i}; inputs before the first one are zero.

    A row has one text: no `context.segments`.

    Attributes:
        features: of the output; None: those of the input.
        weight_norm: W = scale V / |V| with one scale and norm per feature (Salimans & Kingma 2016, arXiv 1602.07868,
            eq. 2). The scale starts as |V|, so that `kernel_init` is the distribution of W.
    """

    features: int | None = None
    size: int = 2
    dilation: int = 1
    weight_norm: bool = False
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None

    causal: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"], context: Context, cache: Queue | None = None) -> Cached:
        if context.segments is not None:
            raise ValueError("layers.causal.CausalConv reads one text per row: it cannot train on packed texts")
        kernel, bias = self._parameters(x.shape[-1])
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        before = (self.size - 1) * self.dilation
        if cache is not None and x.shape[1] == 1:
            cache = cache.push(x)
            taps = [cache.ago(i * self.dilation) for i in reversed(range(self.size))]
            y = matmul(jnp.concatenate(taps, -1), kernel.reshape(-1, kernel.shape[-1]))
            return y + bias, cache
        if cache is None:
            seen = jnp.pad(x, ((0, 0), (before, 0), (0, 0)))
        else:
            seen = jnp.concatenate([cache.ordered()[:, 1:], x], axis=1)
        if cache is not None or context.capacity is not None:
            count = jnp.full(len(x), x.shape[1]) if context.lengths is None else context.lengths
            cache = _queue(seen, count, before)
        axes = ("NWC", "WIO", "NWC")
        y = lax.conv_general_dilated(seen, kernel, (1,), "VALID", rhs_dilation=(self.dilation,), dimension_numbers=axes)
        return y + bias, cache

    def _parameters(self, channels: int) -> tuple[Float[Array, "k c f"], Float[Array, " f"]]:
        features = self.features or channels
        kernel = self.param("kernel", self.kernel_init, (self.size, channels, features))
        if self.weight_norm:
            norm = jnp.sqrt(jnp.square(kernel).sum((0, 1)))
            kernel *= self.param("scale", lambda _: norm) / norm
        return kernel, self.param("bias", nn.initializers.zeros, (features,))


def _queue(seen: Float[Array, "b s c"], count: Int[Array, " b"], before: int) -> Queue:
    """Returns the queue of the last inputs up to the `count`-th of each row; `seen` has `before` more in front."""
    seen = jnp.pad(seen, ((0, 0), (1, 0), (0, 0)))  # the oldest place, which the next input takes
    values = jnp.take_along_axis(seen, (count[:, None] + jnp.arange(before + 1))[..., None], axis=1)
    return Queue(values, jnp.zeros(len(seen), jnp.int32))
