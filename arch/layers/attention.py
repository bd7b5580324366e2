"""Multi-head attention, to the same tokens or to a memory: one implementation for training, prefill and decoding."""

from collections.abc import Callable
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Int

from arch.layers.dense import Dense
from arch.layers.mixer import Cached, Context, KeyValues
from arch.layers.norm import Norm
from arch.layers.positions import Positions

# b: batch, t: tokens of the input, s: tokens that can be seen, m: positions of the memory, d: width of the model;
# n: heads of keys and values, r: queries per key (n r heads), h and v: widths of a key and of a value; out: d or
# `out_width`

Mask = Bool[Array, "#b #n t s"] | Bool[Array, "b 1 1 s"]


class _Heads(nn.Module):
    """The parts that self-attention and cross-attention share (Vaswani et al. 2017, arXiv 1706.03762, section 3.2).

    Attributes:
        heads: n r.
        kv_heads: n, heads of keys and values, each for several queries (Ainslie et al. 2023, arXiv 2305.13245); None:
            as many as `heads`; 1: multi-query attention.
        key_width, value_width: h and v; None: d / heads.
        out_width: of the result; None: d.
        bias, out_bias: whether the projections to queries, keys and values, and that of the result, have a bias.
        qk_norm: norm of each head's queries and keys (Dehghani et al. 2023, arXiv 2302.05442, section 2).
        dropout: rate of the attention weights.
        kernel_init, out_init: of the projections to queries, keys and values, and of that of the result.
        implementation: "einsum"; "xla" or "cudnn" of `jax.nn.dot_product_attention`, which einsum replaces where
            weights are dropped or captured, or h and v differ; "auto" is cudnn where it works (a GPU, 16-bit numbers,
            heads it knows, no bias), and einsum otherwise.
    """

    heads: int
    kv_heads: int | None = None
    key_width: int | None = None
    value_width: int | None = None
    out_width: int | None = None
    bias: bool = True
    out_bias: bool = True
    qk_norm: Norm | None = None
    dropout: float = 0.0
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    out_init: Initializer = nn.initializers.xavier_uniform()
    implementation: Literal["auto", "einsum", "xla", "cudnn"] = "auto"
    dtype: DTypeLike | None = None

    SOWN: ClassVar[str] = "attention"

    @nn.nowrap
    def widths(self, d: int) -> tuple[int, int, int]:
        """Returns n, h and v. Raises ValueError if the numbers of heads do not fit."""
        kv_heads, is_split = self.kv_heads or self.heads, None in (self.key_width, self.value_width)
        if self.heads % kv_heads or (is_split and d % self.heads):
            raise ValueError(f"{self.heads} heads must divide the width {d}, and be a multiple of {kv_heads} kv_heads")
        return kv_heads, self.key_width or d // self.heads, self.value_width or d // self.heads

    def project(self, x: Array, name: str, heads: int, width: int, train: bool) -> Float[Array, "b heads t width"]:
        """Returns queries, keys or values."""
        dense = Dense(heads * width, self.bias, self.dtype, kernel_init=self.kernel_init, name=name)
        y = rearrange(dense(x), "b t (heads width) -> b heads t width", heads=heads)
        if self.qk_norm and name != "value":
            y = self.qk_norm(train=train, dtype=self.dtype, name=f"{name}_norm")(y)
        return y

    def attend(
        self,
        queries: Float[Array, "b heads t h"],
        pairs: KeyValues,
        mask: Mask | None,
        bias: Float[Array, "#b heads t s"] | None,
        d: int,
        train: bool,
        is_causal: bool = False,
    ) -> Float[Array, "b t d"]:
        """Returns softmax(q k / sqrt(h) + bias) v, projected to d; sows the weights [b, t, heads, s] as `SOWN`.

        `is_causal` tells that `mask` is the plain causal one, of which cuDNN computes only the lower half.
        """
        if self._fused(queries, pairs, bias, train):
            q, k, v = (jnp.swapaxes(x, 1, 2) for x in (queries, pairs.keys, pairs.values))
            kind = "cudnn" if self.implementation == "auto" else self.implementation
            options, mask = {"is_causal": is_causal}, None if is_causal else mask
            if kind == "cudnn":
                (q, k, v), mask, options["key_value_seq_lengths"] = _for_cudnn(q, k, v, mask)
            result = jax.nn.dot_product_attention(q, k, v, bias, mask, implementation=kind, **options)
            result = result[:, : queries.shape[2]]
            result = rearrange(result, "b t heads v -> b t (heads v)")
        else:
            result = self._einsum(queries, pairs, mask, bias, train)
        return Dense(self.out_width or d, self.out_bias, self.dtype, kernel_init=self.out_init, name="out")(result)

    @nn.nowrap
    def _fused(self, queries: Array, pairs: KeyValues, bias: Array | None, train: bool) -> bool:
        needs_weights = (train and self.dropout) or self.is_mutable_collection("intermediates")
        width = queries.shape[-1]
        if self.implementation == "einsum" or needs_weights or pairs.values.shape[-1] != width:
            return False
        if self.implementation != "auto":
            return True
        known = bias is None and width % 8 == 0 and width <= 128
        return known and jax.default_backend() == "gpu" and queries.dtype.itemsize == 2 and queries.shape[2] > 1

    def _einsum(self, queries, pairs, mask, bias, train) -> Float[Array, "b t values"]:
        n = pairs.keys.shape[1]
        q = rearrange(queries * queries.shape[-1] ** -0.5, "b (n r) t h -> b n r t h", n=n)
        scores = jnp.einsum("bnrth,bnsh->bnrts", q, pairs.keys, preferred_element_type=jnp.float32)
        if bias is not None:
            scores += rearrange(bias, "b (n r) t s -> b n r t s", n=n)
        if mask is not None:
            scores = jnp.where(mask[:, :, None], scores, jnp.finfo(scores.dtype).min)
        weights = nn.softmax(scores)
        self.sow("intermediates", self.SOWN, rearrange(weights, "b n r t s -> b t (n r) s"))
        weights = nn.Dropout(self.dropout, deterministic=not train)(weights.astype(queries.dtype))
        return rearrange(jnp.einsum("bnrts,bnsv->bnrtv", weights, pairs.values), "b n r t v -> b t (n r v)")


def _for_cudnn(
    q: Float[Array, "b t heads h"], k: Float[Array, "b s n h"], v: Float[Array, "b s n h"], mask: Mask | None
) -> tuple[tuple[Array, Array, Array], Bool[Array, "#b #n even_t even_s"] | None, Int[Array, " b"] | None]:
    """Returns queries, keys and values of even length (even_t and even_s: t and s, plus 1 if odd), a mask with a row
    per query, and the keys' lengths if they grew.

    cuDNN has no gradient for odd lengths, and refuses a mask of one row for all queries.
    """
    (t, s), lengths = (q.shape[1], k.shape[1]), None
    if s % 2:
        lengths = jnp.full(len(k), s, jnp.int32)
    if mask is not None:
        mask = jnp.broadcast_to(mask, (*mask.shape[:2], t, s))
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, t % 2), (0, s % 2)), mode="edge")
    return tuple(jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v)), mask, lengths


class SelfAttention(_Heads):
    """Attention of tokens to tokens of the same sequence, with a cache of keys and values.

    Attributes:
        causal: a token sees itself and earlier ones.
        window: the number of latest tokens that a token sees, itself included; if not causal, as many following ones
            (local bands: Child et al. 2019, arXiv 1904.10509). None: all.
        positions: rotations of queries and keys, or a bias of the scores.
    """

    causal: bool = False
    window: int | None = None
    positions: Callable[..., Positions] = Positions

    SOWN: ClassVar[str] = "self_attention"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], context: Context, cache: KeyValues | None = None
    ) -> tuple[Float[Array, "b t out"], KeyValues | None]:
        if context.causal and not self.causal:
            raise ValueError("layers.attention.SelfAttention sees later tokens: to predict them, set causal=True")
        n, h, v = self.widths(x.shape[-1])
        positions = self.positions(dtype=self.dtype, name="positions")
        placed = _placed(x, context.places)
        queries = positions.rotate(self.project(placed, "query", self.heads, h, context.train), context.positions)
        keys = positions.rotate(self.project(placed, "key", n, h, context.train), context.positions)
        pairs, seen = KeyValues(keys, self.project(x, "value", n, v, context.train)), context.positions
        if cache is not None:
            pairs = cache = _appended(cache, pairs, context.positions)
            seen = jnp.arange(cache.keys.shape[2])[None]
        elif context.capacity is not None:
            cache = KeyValues(*(_enlarged(new, context.capacity) for new in pairs))
        mask = self._mask(context, seen)
        bias = positions.bias(context.positions, seen, self.heads)
        has_cache, others = cache is not None, (self.window, context.segments, context.mask)
        is_causal = self.causal and not has_cache and all(part is None for part in others)
        return self.attend(queries, pairs, mask, bias, x.shape[-1], context.train, is_causal), cache

    @nn.nowrap
    def _mask(self, context: Context, seen: Int[Array, "#b s"]) -> Mask | None:
        """Returns the pairs of query and key that may meet; a cache has keys only up to the query's position."""
        distance = context.positions[:, None, :, None] - seen[:, None, None, :]
        allowed = []
        if self.causal:
            allowed.append(distance >= 0)
        if self.window is not None:
            allowed.append(jnp.abs(distance) < self.window)
        if context.segments is not None:
            allowed.append(context.segments[:, None, :, None] == context.segments[:, None, None, :])
        if context.mask is not None:
            allowed.append(context.mask[:, None, None, :])
        result = None
        for part in allowed:
            result = part if result is None else result & part
        return result


def _placed(x: Float[Array, "b t d"], places: Float[Array, "#b t d"] | None) -> Float[Array, "b t d"]:
    return x if places is None else x + places.astype(x.dtype)


def _enlarged(new: Float[Array, "b n t h"], capacity: int) -> Float[Array, "b n s h"]:
    return jnp.pad(new, ((0, 0), (0, 0), (0, capacity - new.shape[2]), (0, 0)))


def _appended(cache: KeyValues, new: KeyValues, positions: Int[Array, "#b t"]) -> KeyValues:
    """Returns the cache with new keys and values at `positions` of each row."""
    rows = jnp.arange(len(new.keys))[:, None]
    pairs = zip(cache, new, strict=True)
    return KeyValues(*(old.at[rows, :, positions].set(jnp.swapaxes(x, 1, 2)) for old, x in pairs))


class CrossAttention(_Heads):
    """Attention of tokens to `context.memory`, whose keys and values are the cache."""

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], context: Context, cache: KeyValues | None = None) -> Cached:
        n, h, v = self.widths(x.shape[-1])
        queries = self.project(_placed(x, context.places), "query", self.heads, h, context.train)
        pairs = cache
        if pairs is None:
            keys = self.project(_placed(context.memory, context.memory_places), "key", n, h, context.train)
            pairs = KeyValues(keys, self.project(context.memory, "value", n, v, context.train))
            cache = None if context.capacity is None else pairs
        mask = None if context.memory_mask is None else context.memory_mask[:, None, None]
        return self.attend(queries, pairs, mask, None, x.shape[-1], context.train), cache
