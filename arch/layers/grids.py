"""Positions of tokens that are the cells of a grid (patches of images, series and videos), and their resampling.

The cells stand in row-major order, behind tokens without a place, such as a class token. `Positions.grid` has the sizes
of the axes.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn.initializers import Initializer
from jaxtyping import Float

from arch.layers.positions import Positions

# b: batch, t: tokens, s: tokens that can be seen, n: heads, d: width of the model, c: channels


class GridPositions(Positions):
    """Base class of positions that are added to the tokens of a grid; other tokens have none."""

    @nn.compact
    def embed(self, x, positions):
        cells = self.table(x.shape[-1]).reshape(math.prod(self.grid), x.shape[-1])
        others = self.others(x.shape[1] - len(cells), x.shape[-1])
        return x + jnp.concatenate([others, cells]).astype(x.dtype)

    def table(self, width: int) -> Float[Array, "*grid d"]:
        """Returns the vector of each cell."""
        raise NotImplementedError

    def others(self, count: int, width: int) -> Float[Array, "t d"]:
        """Returns the vectors of the tokens before the cells."""
        return jnp.zeros((count, width))


class LearnedGrid(GridPositions):
    """A learned vector per token (ViT's "1-D": Dosovitskiy et al. 2020, arXiv 2010.11929, section 3.1)."""

    table_init: Initializer = nn.initializers.normal(0.02)

    def table(self, width):
        return self.param("embedding", self.table_init, (*self.grid, width))

    def others(self, count, width):
        return self.param("others", self.table_init, (count, width)) if count else super().others(count, width)


class LearnedAxes(GridPositions):
    """A learned vector per row and one per column, side by side (ViT's "2-D", arXiv 2010.11929, appendix D.4)."""

    table_init: Initializer = nn.initializers.normal(0.02)

    def table(self, width):
        share = _share(width, len(self.grid))
        tables = [
            self.param(f"axis{axis}", self.table_init, (size, share)) for axis, size in enumerate(self.grid, start=1)
        ]
        return jnp.concatenate([_along(x, axis, self.grid) for axis, x in enumerate(tables)], -1)


class SinusoidGrid(GridPositions):
    """Fixed sines and cosines of the cell's index on each axis, the last axis first ("sincos2d" of Simple ViT: Beyer et
    al. 2022, arXiv 2205.01580; MoCo v3).

    Attributes:
        base: the ratio of the longest and the shortest wavelength.
    """

    base: float = 10_000.0

    def table(self, width):
        pairs = _share(width, 2 * len(self.grid))
        frequencies = self.base ** -(np.arange(pairs) / max(pairs - 1, 1))
        parts = []
        for axis in reversed(range(len(self.grid))):
            angles = np.arange(self.grid[axis])[:, None] * frequencies
            parts += [_along(jnp.asarray(f(angles), jnp.float32), axis, self.grid) for f in (np.sin, np.cos)]
        return jnp.concatenate(parts, -1)


class RelativeGrid(Positions):
    """A learned bias of the scores per head and difference of two cells' places; each pair of kinds of tokens, with a
    cell or without, has one more (Swin: Liu et al. 2021, arXiv 2103.14030, eq. 4; BEiT: Bao et al. 2021, arXiv
    2106.08254).

    ViT's own "relative" multiplies the queries by a learned key per difference (appendix D.4).
    """

    @nn.compact
    def bias(self, queries, keys, heads):
        spans = [2 * size - 1 for size in self.grid]
        differences = self.param("differences", nn.initializers.normal(0.02), (*spans, heads))
        places = np.indices(self.grid).reshape(len(self.grid), -1)
        offset = places[:, :, None] - places[:, None, :] + np.array(self.grid)[:, None, None] - 1
        bias, others = jnp.moveaxis(differences[tuple(offset)], -1, 0), keys.shape[1] - math.prod(self.grid)
        if others:
            kinds = self.param("kinds", nn.initializers.normal(0.02), (3, heads))
            rows = [(heads, bias.shape[1], others), (heads, others, others), (heads, others, bias.shape[2])]
            to_other, both, to_cell = (jnp.broadcast_to(k[:, None, None], s) for k, s in zip(kinds, rows, strict=True))
            bias = jnp.block([[both, to_cell], [to_other, bias]])
        return bias[None]


def _share(width: int, parts: int) -> int:
    if width % parts:
        raise ValueError(f"a width of {width} cannot be split into {parts} equal parts, which its positions need")
    return width // parts


def _along(table: Float[Array, "size c"], axis: int, grid: tuple[int, ...]) -> Float[Array, "*grid c"]:
    """Returns the rows of a table repeated along all axes of the grid but one."""
    shape = [1] * len(grid) + [table.shape[-1]]
    shape[axis] = len(table)
    return jnp.broadcast_to(table.reshape(shape), (*grid, table.shape[-1]))


def zoom(table: Float[np.ndarray, "*old d"], grid: tuple[int, ...]) -> Float[np.ndarray, "*new d"]:
    """Linear interpolation whose corners stay in place: `scipy.ndimage.zoom` of order 1, as in the original code of ViT
    and in big_vision."""
    return _resampled(table, grid, _linear)


def bicubic(table: Float[np.ndarray, "*old d"], grid: tuple[int, ...]) -> Float[np.ndarray, "*new d"]:
    """Cubic interpolation of four cells per axis, as PyTorch's, and as in transformers."""
    return _resampled(table, grid, lambda old, new: _cubic(old, new, antialias=False))


def bicubic_antialias(table: Float[np.ndarray, "*old d"], grid: tuple[int, ...]) -> Float[np.ndarray, "*new d"]:
    """Cubic interpolation whose kernel widens when the grid shrinks, as in timm."""
    return _resampled(table, grid, lambda old, new: _cubic(old, new, antialias=True))


def _resampled(table, grid, weights) -> np.ndarray:
    """Returns the table of positions on another grid; `weights(old, new)` [new, old] act on each axis alone."""
    for axis, size in enumerate(grid):
        if table.shape[axis] != size:
            matrix = weights(table.shape[axis], size).astype(table.dtype)
            table = np.moveaxis(np.tensordot(matrix, table, (1, axis)), 0, axis)
    return table


def _linear(old: int, new: int) -> Float[np.ndarray, "new old"]:
    places = np.arange(new) * ((old - 1) / max(new - 1, 1))
    return np.maximum(1 - np.abs(places[:, None] - np.arange(old)), 0)


def _cubic(old: int, new: int, *, antialias: bool) -> Float[np.ndarray, "new old"]:
    """Weights of Keys' kernel, with PyTorch's parameters: -0.5 with antialiasing, where cells outside count nothing,
    and -0.75 without, where the border is repeated."""
    places, width = (np.arange(new) + 0.5) * (old / new) - 0.5, max(old / new, 1) if antialias else 1
    margin = 0 if antialias else 2
    cells = np.arange(-margin, old + margin)
    weights = _keys((places[:, None] - cells) / width, -0.5 if antialias else -0.75)
    result = np.zeros((new, old))
    np.add.at(result, (slice(None), np.clip(cells, 0, old - 1)), weights)
    return result / result.sum(1, keepdims=True)


def _keys(x: np.ndarray, a: float) -> np.ndarray:
    """The kernel of cubic convolution (Keys 1981, eq. 15 with a free parameter a)."""
    x = np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
