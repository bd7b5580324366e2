"""Sequence to sequence with recurrent networks, with and without attention.

The variants of `Seq2Seq` are the networks of Sutskever et al. (2014, arXiv 1409.3215), Bahdanau et al. (2014, arXiv
1409.0473, "RNNsearch") and Luong et al. (2015, arXiv 1508.04025; also with the attentions `Dot` and `Additive`).
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.decoder import Cache
from arch.layers.recurrent import GRU, LSTM
from arch.layers.recurrent_attention import Additive, General
from arch.layers.recurrent_decoder import Bridge, RecurrentDecoder
from arch.layers.recurrent_stack import Recurrent, reverse
from arch.layers.recurrent_variants import VariantGRU

# Shapes: batch; source_length; length (of the target); classes (of the target's vocabulary); n, e and c: widths of
# outputs, embeddings and contexts.


def reverse_rows(x: Array, lengths: Int[Array, " batch"]) -> Array:
    """Reverses each [batch, length, features] sequence within its length."""
    return jnp.swapaxes(reverse(jnp.swapaxes(x, 0, 1), lengths), 0, 1)


class Seq2Seq(nn.Module):
    """Recurrent encoder and decoder; output i predicts token i + 1 of the target. It generates (`layers.decoder`).

    Each layer of the decoder starts from the last state of the same layer of the encoder, or from `tanh(W x)` of the
    backward layer's if the encoder is bidirectional (Bahdanau et al., A.2.2).

    Attributes:
        num_classes, vocab_size: the number of tokens of the target and of the source.
        widths: units of each layer of the encoder (per direction) and of the decoder.
        embedding_width: width of a token's embedding; None: the width of the first layer.
        reverse_source: the encoder reads the source from its end (Sutskever et al., sec. 3.3); attention weights keep
            the source's order.
        attention, query, input_feeding: as in `layers.recurrent_decoder.RecurrentDecoder`.
        deep_output: units of a maxout layer over output, last token and context before the head (Bahdanau et al.,
            A.2.2, who use the state before the step); 0: without this layer, where with attention the head reads
            attentional vectors (Luong et al., eq. 5).
        tied: the head's weights are the target's embedding.
        dropout: rate between layers and before the head.
        bos_id: the token that every target begins with.
    """

    num_classes: int = 10_000
    vocab_size: int = 10_000
    cell: Callable[..., nn.Module] = GRU
    widths: tuple[int, ...] = (256,)
    embedding_width: int | None = None
    bidirectional: bool = True
    reverse_source: bool = False
    attention: Callable[..., nn.Module] | None = Additive
    query: str = "previous"
    input_feeding: bool = False
    deep_output: int = 0
    tied: bool = False
    dropout: float = 0.0
    bos_id: int = 1
    dtype: DTypeLike | None = None

    context: ClassVar[int | None] = None
    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {
            "num_classes": 11,
            "vocab_size": 11,
            "widths": (24,),
            "embedding_width": 20,
            "deep_output": 24,
            "dropout": 0.2,
        },
        "Sutskever": {
            "num_classes": 80_000,
            "vocab_size": 160_000,
            "cell": LSTM,
            "widths": (1000,) * 4,
            "attention": None,
            "bidirectional": False,
            "reverse_source": True,
        },
        "RNNsearch": {
            "num_classes": 30_000,
            "vocab_size": 30_000,
            "cell": partial(VariantGRU, reset_after=False),
            "widths": (1000,),
            "embedding_width": 620,
            "deep_output": 500,
        },
        "Luong": {
            "num_classes": 50_000,
            "vocab_size": 50_000,
            "cell": LSTM,
            "widths": (1000,) * 4,
            "bidirectional": False,
            "attention": General,
            "query": "current",
            "input_feeding": True,
            "dropout": 0.2,
        },
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {"Sutskever": "384M"}  # sec. 3.4

    def setup(self):
        width = self.embedding_width or self.widths[0]
        self.source_embedding = nn.Embed(self.vocab_size, width, dtype=self.dtype)
        self.target_embedding = nn.Embed(self.num_classes, width, dtype=self.dtype)
        shared = {"cell": self.cell, "widths": self.widths, "dropout": self.dropout, "dtype": self.dtype}
        self.encoder = Recurrent(bidirectional=self.bidirectional, **shared)
        if self.bidirectional:
            self.bridge = Bridge(self.widths, self.dtype)
        self.decoder = RecurrentDecoder(
            attention=self.attention,
            query=self.query,
            combine=not self.deep_output,
            input_feeding=self.input_feeding,
            **shared,
        )
        if self.deep_output:
            self.maxout = nn.Dense(2 * self.deep_output, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout)
        if not self.tied:
            self.head = nn.Dense(self.num_classes)
        else:
            self.head_bias = self.param("head_bias", nn.initializers.zeros, (self.num_classes,))
            self.projects = (self.deep_output or self.widths[-1]) != width
            if self.projects:
                self.projection = nn.Dense(width, use_bias=False, dtype=self.dtype)

    def __call__(
        self,
        source: Int[Array, "batch source_length"],
        source_lengths: Int[Array, " batch"],
        target: Int[Array, "batch length"],
        *,
        train: bool,
    ) -> Float[Array, "batch length classes"]:
        """Returns float32 logits at every position of `target`. Padding of source and target changes nothing else."""
        return self.decode(target, self._encode(source, source_lengths, train), train=train)[0]

    def start(
        self, source: Int[Array, "batch source_length"], source_lengths: Int[Array, " batch"], *, length: int
    ) -> tuple[Int[Array, " batch"], Cache]:
        """Returns the begin token and the cache before it, which does not depend on `length`."""
        cache = self._encode(source, source_lengths, train=False)
        return jnp.full(len(source), self.bos_id, jnp.int32), cache

    def decode(
        self, tokens: Int[Array, "batch length"], cache: Cache, *, train: bool = False
    ) -> tuple[Float[Array, "batch length classes"], Cache]:
        """Returns the logits of the token after each of `tokens`, and the cache."""
        embedded = self.target_embedding(tokens)
        outputs, contexts, cache = self.decoder(embedded, cache, train=train)
        return self._logits(outputs, embedded, contexts, train), cache

    def _encode(self, source: Int[Array, "batch source_length"], lengths: Int[Array, " batch"], train: bool) -> Cache:
        x = self.source_embedding(source)
        x = reverse_rows(x, lengths) if self.reverse_source else x
        values, states = self.encoder(x, None, lengths, train=train)
        values = reverse_rows(values, lengths) if self.reverse_source else values
        states = self.bridge(states[1::2]) if self.bidirectional else states
        return self.decoder.cache(values, jnp.arange(source.shape[1]) < lengths[:, None], states)

    def _logits(
        self,
        outputs: Float[Array, "batch length n"],
        embedded: Float[Array, "batch length e"],
        contexts: Float[Array, "batch length c"] | None,
        train: bool,
    ) -> Float[Array, "batch length classes"]:
        x = outputs
        if self.deep_output:
            parts = [x, embedded] if contexts is None else [x, embedded, contexts]
            pairs = self.maxout(jnp.concatenate(parts, -1))
            x = pairs.reshape(*pairs.shape[:-1], self.deep_output, 2).max(-1)
        x = self.drop(x, deterministic=not train)
        if not self.tied:
            return self.head(x)
        x = self.projection(x) if self.projects else x
        return x.astype(jnp.float32) @ self.target_embedding.embedding.T + self.head_bias
