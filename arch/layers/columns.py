"""Embeddings of the columns of a table: numbers, categories and encoded numbers become tokens."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

# b: batch, f: features, c: columns, d: width of a token


def symmetric(limit: float) -> Initializer:
    """Returns an initialiser that draws uniformly between -limit and limit."""
    draw = nn.initializers.uniform(2 * limit)
    return lambda key, shape, dtype=jnp.float32: draw(key, shape, dtype) - limit


class ColumnEmbedding(nn.Module):
    """One token per column: its features times weights, plus a bias, of the column's own.

    The feature tokenizer of Gorishniy et al. (2021, arXiv 2106.11959, section 3.3): a number has one feature, and a
    category is a one-hot vector, so that its token is a row of an embedding table. With piecewise-linear encodings of
    numbers (`features(bins=16)`) it is the linear embedding of Gorishniy et al. (2022, arXiv 2203.05556, section 3.4).

    Attributes:
        width: d.
        columns: the number of features of each column, in order; (): all columns have one.
        activation: of the tokens, such as `nn.relu`; None: without it.
    """

    width: int = 8
    columns: tuple[int, ...] = ()
    activation: Callable[[Array], Array] | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, features: Float[Array, "b f"]) -> Float[Array, "b c d"]:
        """Raises ValueError for another number of features than `columns` has."""
        sizes = np.array(self.columns or (1,) * features.shape[1])
        if sizes.sum() != features.shape[1]:
            raise ValueError(f"{features.shape[1]} features do not fit columns of {sizes.tolist()}")
        init = symmetric(self.width**-0.5)
        weights = self.param("weights", init, (features.shape[1], self.width))
        biases = self.param("biases", init, (len(sizes), self.width))
        x, weights, biases = nn.dtypes.promote_dtype(features, weights, biases, dtype=self.dtype)
        tokens = _products(x, weights, sizes) + biases
        return tokens if self.activation is None else self.activation(tokens)


def _products(x: Float[Array, "b f"], weights: Float[Array, "f d"], sizes: np.ndarray) -> Float[Array, "b c d"]:
    """Returns each column's features times its weights; columns with equally many features are computed at once."""
    starts, found = np.cumsum(sizes) - sizes, np.unique(sizes)
    parts, columns = [], []
    for size in found:
        (which,) = np.nonzero(sizes == size)
        at = starts[which, None] + np.arange(size)
        if len(found) == 1:  # nothing to gather
            part, kernel = x.reshape(len(x), *at.shape), weights.reshape(*at.shape, -1)
        else:
            part, kernel = x[:, at], weights[at]
        parts.append(part * kernel[:, 0] if size == 1 else jnp.einsum("bks,ksd->bkd", part, kernel))
        columns.append(which)
    return jnp.concatenate(parts, axis=1)[:, np.argsort(np.concatenate(columns))]
