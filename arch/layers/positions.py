"""How a network knows the order of its tokens: added to embeddings, in queries and keys, or in the scores of attention.

Every kind is one class, so that one field of a model takes any of them: `positions="layers.positions.Rotary"`.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float, Int

# b: batch, t: tokens, s: tokens that can be seen, n: heads, h: width of a head, d: width of the model


class Positions(nn.Module):
    """Base class, and no positions at all: every kind overrides one of the three methods.

    Attributes:
        length: number of positions that exist. Only learned positions depend on it.
        grid: sizes of the axes of the grid whose cells the tokens are; only those of `layers.grids` depend on it.
    """

    length: int | None = None
    grid: tuple[int, ...] | None = None
    dtype: DTypeLike | None = None

    def embed(self, x: Float[Array, "b t d"], positions: Int[Array, "#b t"]) -> Float[Array, "b t d"]:
        """Returns the embedded tokens with their positions added."""
        return x

    def rotate(self, x: Float[Array, "b n t h"], positions: Int[Array, "#b t"]) -> Float[Array, "b n t h"]:
        """Returns queries or keys that contain their positions."""
        return x

    def bias(
        self, queries: Int[Array, "#b t"], keys: Int[Array, "#b s"], heads: int
    ) -> Float[Array, "#b n t s"] | None:
        """Returns the bias of the scores, given the positions of queries and keys; None for 0."""
        return None


class Learned(Positions):
    """A learned vector per position (Gehring et al. 2017, arXiv 1705.03122, section 3.1).

    Attributes:
        table_init: of the table [length, d].
    """

    table_init: Initializer = nn.initializers.normal(0.02)

    @nn.compact
    def embed(self, x, positions):
        if self.length is None:
            raise ValueError("layers.positions.Learned needs a number of positions: set the model's context")
        table = self.param("embedding", self.table_init, (self.length, x.shape[-1]))
        return x + table.astype(x.dtype)[positions]


def common_positions(path: str, old: np.ndarray | Array, new: Array) -> Array | None:
    """Returns the learned positions `new` [length, d] with those of `old` [another length, d] as far as both exist;
    None for another parameter. It is the hook `adapt` of networks with learned positions."""
    owner = path.split("/")[-2:][0]
    if "position" not in owner or old.shape[1:] != new.shape[1:]:
        return None
    count = min(len(old), len(new))
    return jnp.concatenate([old[:count], new[count:]])


class Sinusoids(Positions):
    """Fixed sinusoids of geometrically growing wavelengths (Vaswani et al. 2017, arXiv 1706.03762, section 3.5).

    Attributes:
        base: the longest wavelength is 2 pi times this.
        interleaved: sin, cos, sin, cos as in the paper; otherwise all sines before all cosines, as in Marian and in
            tensor2tensor.
    """

    base: float = 10_000.0
    interleaved: bool = True

    def embed(self, x, positions):
        angles = _angles(positions, x.shape[-1], self.base)
        pair = [jnp.sin(angles), jnp.cos(angles)]
        values = (
            jnp.stack(pair, -1).reshape(*angles.shape[:-1], x.shape[-1])
            if self.interleaved
            else jnp.concatenate(pair, -1)
        )
        return x + values.astype(x.dtype)


def _angles(positions: Int[Array, "#b t"], width: int, base: float) -> Float[Array, "#b t pairs"]:
    """Returns position / base^(2i / width) for each pair i of features."""
    frequencies = base ** -(np.arange(0, width, 2) / width)
    return positions[..., None] * jnp.asarray(frequencies, jnp.float32)


class Rotary(Positions):
    """Rotations of pairs of features by angles that grow with the position (Su et al. 2021, arXiv 2104.09864).

    Attributes:
        base: the longest wavelength is 2 pi times this.
        width: the number of features that are rotated; None: all.
        interleaved: a pair is two neighbours, as in the paper; otherwise features i and i + width / 2 (Llama).
        scaling: (factor, low, high, original length) of Llama 3.1: wavelengths above the original length / low are
            stretched by the factor, those below original length / high stay, others are interpolated.
    """

    base: float = 10_000.0
    width: int | None = None
    interleaved: bool = False
    scaling: tuple[float, float, float, int] | None = None

    def rotate(self, x, positions):
        width = self.width or x.shape[-1]
        if width % 2:
            raise ValueError(f"Rotary rotates pairs of features: the width of a head, {width}, must be even")
        angles = positions[:, None, :, None] * jnp.asarray(self._frequencies(width), jnp.float32)
        sin, cos = jnp.sin(angles).astype(x.dtype), jnp.cos(angles).astype(x.dtype)
        rotated, rest = x[..., :width], x[..., width:]
        if self.interleaved:
            a, b = rotated[..., ::2], rotated[..., 1::2]
            turned = jnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(rotated.shape)
        else:
            a, b = jnp.split(rotated, 2, -1)
            turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
        return turned if width == x.shape[-1] else jnp.concatenate([turned, rest], -1)

    def _frequencies(self, width: int) -> np.ndarray:
        frequencies = self.base ** -(np.arange(0, width, 2) / width)
        if self.scaling is None:
            return frequencies
        factor, low, high, original = self.scaling
        turns = original * frequencies / (2 * math.pi)  # within the original length
        share = np.clip((turns - low) / (high - low), 0, 1)  # 1: unchanged
        return frequencies * (share + (1 - share) / factor)


class ALiBi(Positions):
    """Scores that fall linearly with the distance, at another slope per head (Press et al. 2021, arXiv 2108.12409)."""

    def bias(self, queries, keys, heads):
        distance = jnp.abs(queries[:, None, :, None] - keys[:, None, None, :])
        return -jnp.asarray(_slopes(heads), jnp.float32)[:, None, None] * distance


def _slopes(heads: int) -> np.ndarray:
    """Returns 2^(-8 i / heads) for i = 1, ..., heads; for other numbers than powers of 2 the authors' choice: those of
    the next lower power, and every second one of the next higher power."""
    lower = 2 ** int(math.log2(heads))
    slopes = 2.0 ** (-8 * np.arange(1, lower + 1) / lower)
    return np.concatenate([slopes, (2.0 ** (-8 * np.arange(1, 2 * lower + 1) / (2 * lower)))[::2][: heads - lower]])


class RelativeBias(Positions):
    """A learned bias per head and distance (T5: Raffel et al. 2019, arXiv 1910.10683, section 2.1). Half of the buckets
    are single distances, the others grow logarithmically. In T5 all layers share one table; here each has its own.

    Attributes:
        buckets: number of distances that differ, for both directions together.
        farthest: all larger distances share one bucket.
        causal: whether all buckets are for earlier tokens.
    """

    buckets: int = 32
    farthest: int = 128
    causal: bool = False

    @nn.compact
    def bias(self, queries, keys, heads):
        table = self.param("bias", nn.initializers.normal(0.02), (self.buckets, heads))
        return jnp.moveaxis(table[self._bucket(keys[:, None, :] - queries[:, :, None])], -1, 1)

    def _bucket(self, distance: Int[Array, "#b t s"]) -> Int[Array, "#b t s"]:
        buckets = self.buckets if self.causal else self.buckets // 2
        later = 0 if self.causal else buckets * (distance > 0)
        size = jnp.maximum(-distance, 0) if self.causal else jnp.abs(distance)
        exact = buckets // 2
        log = jnp.log(jnp.maximum(size, 1) / exact) / math.log(self.farthest / exact)
        large = jnp.minimum(exact + (log * (buckets - exact)).astype(jnp.int32), buckets - 1)
        return later + jnp.where(size < exact, size, large)
