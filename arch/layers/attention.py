"""Attention of recurrent decoders: how well each position of a memory answers a query, and the mean of its values.

A score is a module with two parts, so that what does not depend on the query is computed once a sequence: `keys` from
the values, and `scores` of all queries. In a config it is named with its fields: `attention="layers.attention.Additive
(units=1000)"`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

# Shapes: b batch, t queries, s positions of the memory, q width of a query, c of a value, k of a key.


class Attention(nn.Module):
    """What all scores share: the softmax over the real positions, and the mean of the values.

    Attributes:
        query_width: q, which the decoder fills in.
    """

    query_width: int
    dtype: DTypeLike | None = None

    def keys(self, values: Float[Array, "b s c"]) -> Float[Array, "b s k"]:
        """Returns what the scores are computed from."""
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
        """Returns each query's context and its weights (float32); those of padding, where `mask` is false, are 0."""
        scores = self.scores(queries, keys).astype(jnp.float32)
        # A finite number: a memory without a real position gets weights 0, not NaN.
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


@jax.checkpoint  # of all steps of a decoder, [b, t, s, k] is more memory than computing it again takes time
def additive_scores(
    queries: Float[Array, "b t k"], keys: Float[Array, "b s k"], vector: Float[Array, " k"]
) -> Float[Array, "b t s"]:
    """Returns `v^T tanh(query + key)` of all pairs."""
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
    """`query^T value` (Luong et al. 2015, eq. 8), of equal widths.

    Raises:
        ValueError: the widths differ, as those of a decoder and a bidirectional encoder.
    """

    def keys(self, values):
        if values.shape[-1] != self.query_width:
            raise ValueError(f"Dot: values are {values.shape[-1]} wide and queries {self.query_width}: take General")
        return values

    def scores(self, queries, keys):
        return jnp.einsum("btk,bsk->bts", queries, keys)
