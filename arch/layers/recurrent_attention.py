"""Attention of recurrent decoders: a score of each position of a memory for a query, and the weighted mean of values.

A score is a module with two parts: `keys`, computed from the values once per sequence, and `scores` for all queries. In
a config it is named with its fields: `attention="layers.recurrent_attention.Additive(units=1000)"`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

# Shapes: b batch, t queries, s positions of the memory; widths: q of a query, c of a value, k of a key.


class Attention(nn.Module):
    """Base class of scores, with the softmax over the real positions and the weighted mean of the values.

    Attributes:
        query_width: q; the decoder sets it.
    """

    query_width: int
    dtype: DTypeLike | None = None

    def keys(self, values: Float[Array, "b s c"]) -> Float[Array, "b s k"]:
        """Returns the keys, from which `scores` are computed."""
        raise NotImplementedError

    def scores(self, queries: Float[Array, "b t q"], keys: Float[Array, "b s k"]) -> Float[Array, "b t s"]:
        raise NotImplementedError

    def __call__(
        self,
        queries: Float[Array, "b t q"],
        keys: Float[Array, "b s k"],
        values: Float[Array, "b s c"],
        mask: Bool[Array, "b s"],
    ) -> tuple[Float[Array, "b t c"], Float[Array, "b t s"]]:
        """Returns each query's context and its weights (float32), which are 0 where `mask` is false (padding)."""
        scores = self.scores(queries, keys).astype(jnp.float32)
        # Finite, so that a memory without real positions gets weights 0, not NaN.
        weights = jax.nn.softmax(jnp.where(mask[:, None], scores, -1e30)) * mask[:, None]
        return jnp.einsum("bts,bsc->btc", weights.astype(values.dtype), values), weights


class Additive(Attention):
    """`v^T tanh(W query + U value + bias)` (Bahdanau et al. 2014, arXiv 1409.0473, A.1.2).

    Also "concat" of Luong et al. (2015, arXiv 1508.04025, eq. 8), whose matrix is W and U side by side.

    Attributes:
        units: width of the hidden layer; None: as wide as the query.
    """

    units: int | None = None

    def setup(self):
        units = self.units or self.query_width
        self.key = nn.Dense(units, dtype=self.dtype)
        self.query = nn.Dense(units, use_bias=False, dtype=self.dtype)
        self.vector = self.param("vector", nn.initializers.normal(units**-0.5), (units,))

    def keys(self, values):
        return self.key(values)

    def scores(self, queries, keys):
        return additive_scores(self.query(queries), keys, self.vector)


@jax.checkpoint  # [b, t, s, k] for all steps of a decoder costs more memory than recomputing it costs time
def additive_scores(
    queries: Float[Array, "b t k"], keys: Float[Array, "b s k"], vector: Float[Array, " k"]
) -> Float[Array, "b t s"]:
    """Returns `v^T tanh(query + key)` for all pairs."""
    hidden = jnp.tanh(queries[:, :, None] + keys[:, None])
    return hidden @ vector.astype(hidden.dtype)


class General(Attention):
    """`query^T W value` (Luong et al. 2015, eq. 8)."""

    def setup(self):
        self.key = nn.Dense(self.query_width, use_bias=False, dtype=self.dtype)

    def keys(self, values):
        return self.key(values)

    def scores(self, queries, keys):
        return jnp.einsum("btk,bsk->bts", queries, keys)


class Dot(Attention):
    """`query^T value` (Luong et al. 2015, eq. 8); both have the same width.

    Raises:
        ValueError: the widths differ, for example with a bidirectional encoder.
    """

    def keys(self, values):
        if values.shape[-1] != self.query_width:
            raise ValueError(f"Dot: values are {values.shape[-1]} wide and queries {self.query_width}: use General")
        return values

    def scores(self, queries, keys):
        return jnp.einsum("btk,bsk->bts", queries, keys)
