"""Corruption of tokens for masked language models."""

import dataclasses
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from core.info import Info
from core.vocabulary import Vocabulary, load_tokenizer
from data.augment.op import Batch, Keys, Number, Op, Rng

# b: batch, t: tokens of an example, p: places that are predicted

LEAST = 8  # places even of short texts, so that new inputs may have several masks
INNER = "##"  # begins pieces of WordPiece within a word
OUTER = ("Ġ", "▁")  # begin pieces of byte-level BPE and of SentencePiece at the start of a word


@dataclasses.dataclass(frozen=True)
class MaskTokens(Op):
    """Chooses tokens that the network predicts, and hides most of them (BERT: Devlin et al. 2019, arXiv 1810.04805,
    section 3.1, task 1). Evaluation draws by the index of the example alone.

    Adds `places` int32 [b, p], the positions of the chosen tokens in order, `labels` int32 [b, p], their tokens, and
    `labels_mask` float32 [b, p], 0 where an example has fewer than p. `key` then holds the corrupted tokens. p is the
    share `rate` of t, at least 8. Special tokens and padding are never chosen, and never replace a token. An example
    that already has mask tokens, such as a new input, keeps its tokens: these are its places.

    Args:
        key: of the tokens.
        rate: share of an example's real tokens that is chosen; at least one is.
        mask, random: shares of the chosen tokens that become the mask token, and a random token. The others stay.
        unit: "word": all pieces of a word are chosen together.

    Raises UserError for a vocabulary without a mask token.
    """

    key: str = "tokens"
    rate: Number = 0.15
    mask: Number = 0.8
    random: Number = 0.1
    unit: Literal["token", "word"] = "token"

    when: ClassVar[str] = "always"

    def __post_init__(self) -> None:
        self.check_range(rate=(0, 1), mask=(0, 1), random=(0, 1))
        if self.mask + self.random > 1:
            self.refuse(f"mask {self.mask} and random {self.random} are shares, and exceed 1 together")

    def bind(self, info: Info) -> "Op":
        bound = super().bind(info)
        bound.check_roles("tokens")
        record = info.keys.get(self.key)
        if record is None or record.role != "tokens":
            self.refuse(f"{self.key!r} of {info.name} is not tokens: set key to {' or '.join(bound.keys_of('tokens'))}")
        if record.vocabulary is None or record.vocabulary.mask is None:
            self.refuse(f"{self.key!r} of {info.name} has no mask token: tokenize with wordpiece(...) or unigram(...)")
        return bound

    def __call__(self, keys: Keys, batch: Batch) -> Batch:
        tokens = batch[self.key]
        lengths = batch.get(f"{self.key}_lengths", jnp.full(len(tokens), tokens.shape[1]))
        real = jnp.arange(tokens.shape[1]) < lengths[:, None]
        corrupted, places, mask = jax.vmap(self._corrupt)(keys, tokens, real)
        labels = jnp.take_along_axis(tokens.astype(jnp.int32), places, 1)
        return batch | {self.key: corrupted, "places": places, "labels": labels, "labels_mask": mask}

    def _corrupt(
        self, rng: Rng, tokens: Int[Array, "t"], real: Bool[Array, "t"]
    ) -> tuple[Int[Array, "t"], Int[Array, "p"], Float[Array, "p"]]:
        """Returns the corrupted tokens of one example, the places, and which of them exist."""
        vocabulary = self.info.keys[self.key].vocabulary
        order, action, other = jax.random.split(rng, 3)
        ordinary = _ordinary(vocabulary)
        given = real & (tokens == vocabulary.mask)
        size = min(len(tokens), max(LEAST, math.ceil(self.rate * len(tokens))))
        chosen = self._chosen(order, tokens, real & ~_is_special(vocabulary)[tokens], size)
        share = jax.random.uniform(action, tokens.shape)
        replaced = jnp.where(
            share < self.mask,
            vocabulary.mask,
            jnp.where(share < self.mask + self.random, jax.random.choice(other, ordinary, tokens.shape), tokens),
        )
        is_new = given.any()
        corrupted = jnp.where(chosen & ~is_new, replaced, tokens).astype(tokens.dtype)
        chosen = jnp.where(is_new, given, chosen)
        (places,) = jnp.nonzero(chosen, size=size, fill_value=0)
        return corrupted, places.astype(jnp.int32), (jnp.arange(size) < chosen.sum()).astype(jnp.float32)

    def _chosen(self, rng: Rng, tokens: Int[Array, "t"], free: Bool[Array, "t"], most: int) -> Bool[Array, "t"]:
        """Returns which tokens are chosen, at most `most`: the first ones in a random order of tokens or words."""
        count = jnp.clip(jnp.round(self.rate * free.sum()), 1, most)
        words = jnp.arange(len(tokens))
        if self.unit == "word":
            words = jnp.cumsum(_starts(self.info.keys[self.key].vocabulary)[tokens] | ~free)
        turn = jax.random.uniform(rng, (len(tokens) + 1,))[words]  # pieces of a word stand side by side in the order
        rank = jnp.argsort(jnp.argsort(jnp.where(free, turn, 2.0)))
        chosen = free & (rank < count)
        taken, sizes = (jax.ops.segment_sum(x.astype(jnp.int32), words, len(tokens) + 1) for x in (chosen, free))
        rounded = (taken > 0) & (2 * taken >= sizes)  # the last word may be cut: it is chosen by its larger part
        fits = jnp.sum(jnp.where(rounded, sizes, 0)) <= most
        return free & jnp.where(fits, rounded, taken == sizes)[words]


def _is_special(vocabulary: Vocabulary) -> Bool[Array, " tokens"]:
    special = np.zeros(vocabulary.size, bool)
    special[list(vocabulary.special)] = True
    return jnp.asarray(special)


def _ordinary(vocabulary: Vocabulary) -> Int[Array, " tokens"]:
    return jnp.asarray(np.setdiff1d(np.arange(vocabulary.size), vocabulary.special))


def _starts(vocabulary: Vocabulary) -> Bool[Array, " tokens"]:
    """Returns whether each token begins a word, by the marks that kinds of tokenizers put on pieces."""
    tokenizer = load_tokenizer(vocabulary.tokenizer) if vocabulary.tokenizer else None
    pieces = [tokenizer.id_to_token(index) or "" for index in range(vocabulary.size)] if tokenizer else []
    if any(piece.startswith(INNER) for piece in pieces):
        return jnp.asarray([not piece.startswith(INNER) for piece in pieces])
    if any(piece.startswith(OUTER) for piece in pieces):
        return jnp.asarray([piece.startswith(OUTER) for piece in pieces])
    return jnp.ones(vocabulary.size, bool)  # each token is a word
