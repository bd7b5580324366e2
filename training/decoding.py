"""Decoding: greedy, beam search and sampling with any model that extends sequences a token at a time.

Pure functions to be used under `jit`, over `extend(tokens [b], cache) -> (logits [b, k], cache)`. Every leaf of the
cache has a leading batch axis. A cache that is a dict with "attention" [b, s], the weights of the last step, has them
collected. Nothing is read back to the host; the loop ends when every sequence has.

A token is a number, and `end` one of them, or -1 if texts never end. The end is part of the sequence: `lengths` counts
it, and `score` has its probability.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from core.errors import UserError

# b: batch, k: tokens of the vocabulary, s: positions attended to, l: positions decoded, n: beams.

Extend = Callable[[Array, PyTree], tuple[Array, PyTree]]


class Decoded(NamedTuple):
    """Sequences: tokens, 0 behind the end; the lengths, end included; log-probabilities; attention, 0 behind the end,
    None without it.
    """

    tokens: Int[Array, "b l"]
    lengths: Int[Array, " b"]
    score: Float[Array, " b"]
    attention: Float[Array, "b l s"] | None


def greedy(extend: Extend, cache: PyTree, first: Int[Array, " b"], length: int, end: int) -> Decoded:
    """Returns the most probable next token, again and again, up to `length` of them; the lowest of equal ones.

    Args:
        first: the tokens before the first decoded ones.
    """

    def choose(logits: Float[Array, "b k"], t: Array) -> Int[Array, " b"]:
        return jnp.argmax(logits, -1)

    return _one_by_one(extend, cache, first, length, end, choose)


def sample(
    extend: Extend,
    cache: PyTree,
    first: Int[Array, " b"],
    length: int,
    end: int,
    rng: PRNGKeyArray,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Decoded:
    """Returns sequences drawn token by token; scores are the model's log-probabilities, whatever they are drawn with.

    Args:
        temperature: divides the logits.
        top_k: draws from the `top_k` most probable tokens only; 0: from all.
        top_p: from the smallest set of the most probable of these that has this share of their probability (nucleus
            sampling, Holtzman et al. 2020, arXiv 1904.09751, sec. 3.1).

    Raises:
        UserError: temperature not above 0, top_k below 0, top_p outside (0, 1].
    """
    if not (temperature > 0 and top_k >= 0 and 0 < top_p <= 1):
        raise UserError(
            f"temperature={temperature}, top_k={top_k}, top_p={top_p}: must be above 0, 0 or more, and in (0, 1]"
        )

    def choose(logits: Float[Array, "b k"], t: Array) -> Int[Array, " b"]:
        width = logits.shape[-1]
        values, tokens = lax.top_k(logits / temperature, min(top_k or width, width))
        probabilities = jax.nn.softmax(values)
        before = jnp.cumsum(probabilities, -1) - probabilities  # of the more probable ones
        values = jnp.where((before < top_p) | (jnp.arange(values.shape[-1]) == 0), values, -jnp.inf)
        choice = jax.random.categorical(jax.random.fold_in(rng, t), values)
        return jnp.take_along_axis(tokens, choice[:, None], -1)[:, 0]

    return _one_by_one(extend, cache, first, length, end, choose)


def _attention(cache: PyTree) -> Float[Array, "b s"] | None:
    return cache.get("attention") if isinstance(cache, Mapping) else None


def _empty(cache: PyTree, batch: int, length: int) -> Decoded:
    attention = _attention(cache)
    return Decoded(
        tokens=jnp.zeros((batch, length), jnp.int32),
        lengths=jnp.zeros(batch, jnp.int32),
        score=jnp.zeros(batch),
        attention=None if attention is None else jnp.zeros((batch, length, attention.shape[-1])),
    )


def _append(so_far: Decoded, t: Array, tokens: Array, score: Array, attention: Array | None, real: Array) -> Decoded:
    """Returns the sequences with a token each at position t, where `real`."""
    if attention is not None:
        attention = so_far.attention.at[:, t].set(jnp.where(real[:, None], attention, 0))
    return Decoded(
        tokens=so_far.tokens.at[:, t].set(jnp.where(real, tokens, 0)),
        lengths=so_far.lengths + real,
        score=so_far.score + jnp.where(real, score, 0),
        attention=attention,
    )


def _one_by_one(extend: Extend, cache: PyTree, first: Array, length: int, end: int, choose: Callable) -> Decoded:
    class Loop(NamedTuple):
        t: Array
        last: Int[Array, " b"]
        open: Bool[Array, " b"]
        cache: PyTree
        decoded: Decoded

    def body(loop: Loop) -> Loop:
        logits, cache = extend(loop.last, loop.cache)
        tokens = choose(logits, loop.t).astype(jnp.int32)
        score = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, None], -1)[:, 0]
        decoded = _append(loop.decoded, loop.t, tokens, score, _attention(cache), loop.open)
        return Loop(loop.t + 1, tokens, loop.open & (tokens != end), cache, decoded)

    batch = len(first)
    start = Loop(jnp.int32(0), first.astype(jnp.int32), jnp.ones(batch, bool), cache, _empty(cache, batch, length))
    return lax.while_loop(lambda loop: (loop.t < length) & loop.open.any(), body, start).decoded


def gnmt_penalty(length: Array | int, alpha: float) -> Array:
    """Returns what a log-probability is divided by (GNMT, Wu et al. 2016, arXiv 1609.08144, eq. 14)."""
    return ((5 + jnp.asarray(length, jnp.float32)) / 6) ** alpha


def beam_search(
    extend: Extend,
    cache: PyTree,
    first: Int[Array, " b"],
    length: int,
    end: int,
    beams: int = 4,
    length_penalty: float = 0.6,
) -> Decoded:
    """Returns the best sequence found by keeping the `beams` most probable beginnings.

    The best has the highest log-probability / ((5 + its length) / 6) ** length_penalty (GNMT, Wu et al. 2016, arXiv
    1609.08144, eq. 14); `score` is not divided. A sequence that has ended keeps its place among the `beams` (Sutskever
    et al. 2014, arXiv 1409.3215, sec. 3.2), so that one beam is greedy; what has not ended after `length` tokens
    competes as it is. Of equally good ones, the one that ended first, then that of the better beginning, then that of
    the lower token is taken.

    Raises:
        UserError: beams below 1, or length_penalty below 0.
    """
    if beams < 1 or length_penalty < 0:
        raise UserError(f"beams={beams}, length_penalty={length_penalty}: must be 1 or more, and 0 or more")
    return _BeamSearch(extend, len(first), beams, length, end, length_penalty).run(cache, first)


class _Beams(NamedTuple):
    """State of the search. Rows of `live` and `cache` are [b * beams]; a beam that is none has the score -inf."""

    t: Array
    cache: PyTree
    last: Array  # [b * beams]
    live: Decoded
    places: Array  # [b] of the beam, those of ended sequences not among them
    best: Decoded  # [b]
    best_penalised: Array  # [b]


@dataclasses.dataclass(frozen=True)
class _BeamSearch:
    extend: Extend
    batch: int
    beams: int
    length: int
    end: int
    alpha: float

    def run(self, cache: PyTree, first: Array) -> Decoded:
        cache, last = jax.tree.map(lambda leaf: jnp.repeat(leaf, self.beams, axis=0), (cache, first.astype(jnp.int32)))
        live = _empty(cache, self.batch * self.beams, self.length)
        only = jnp.tile(jnp.where(jnp.arange(self.beams) == 0, 0.0, -jnp.inf), self.batch)  # or all beams are the same
        start = _Beams(
            t=jnp.int32(0),
            cache=cache,
            last=last,
            live=live._replace(score=only),
            places=jnp.full(self.batch, self.beams),
            best=_empty(cache, self.batch, self.length),
            best_penalised=jnp.full(self.batch, -jnp.inf),
        )
        return lax.while_loop(self.goes_on, self.step, start).best

    def split(self, x: Array) -> Array:
        return x.reshape(self.batch, self.beams, *x.shape[1:])

    def goes_on(self, s: _Beams) -> Array:
        """Whether a live beam could still become the best: probabilities only fall, and the penalty is at most the
        last one's.
        """
        bound = self.split(s.live.score).max(1) / gnmt_penalty(self.length, self.alpha)
        return (s.t < self.length) & (bound > s.best_penalised).any()

    def step(self, s: _Beams) -> _Beams:
        logits, after = self.extend(s.last, s.cache)
        vocabulary = logits.shape[-1]
        candidates = s.live.score[:, None] + jax.nn.log_softmax(logits)
        score, index = lax.top_k(candidates.reshape(self.batch, -1), self.beams)
        parent = (jnp.arange(self.batch)[:, None] * self.beams + index // vocabulary).ravel()
        tokens = (index % vocabulary).astype(jnp.int32)

        # What the model leaves as it is, such as its memory, is the same for all beams of an example.
        cache = jax.tree.map(lambda old, new: new if new is old else new[parent], s.cache, after)
        live = jax.tree.map(lambda leaf: leaf[parent], s.live)
        live = _append(live, s.t, tokens.ravel(), score.ravel(), _attention(cache), jnp.ones(len(parent), bool))
        live = live._replace(score=score.ravel())

        score = jnp.where(jnp.arange(self.beams) < s.places[:, None], score, -jnp.inf)
        ends = ((tokens == self.end) | (s.t + 1 == self.length)) & (score > -jnp.inf)
        best, best_penalised = self.better(s, live, jnp.where(ends, score, -jnp.inf))
        live = live._replace(score=jnp.where(ends, -jnp.inf, score).ravel())
        return _Beams(s.t + 1, cache, tokens.ravel(), live, s.places - ends.sum(1), best, best_penalised)

    def better(self, s: _Beams, live: Decoded, ended: Float[Array, "b n"]) -> tuple[Decoded, Array]:
        """Returns the best of those so far and those with an `ended` score above -inf, and its penalised score."""
        penalised = ended.max(1) / gnmt_penalty(s.t + 1, self.alpha)
        row = jnp.arange(self.batch) * self.beams + ended.argmax(1)
        new = penalised > s.best_penalised

        def choose(old: Array, rows: Array) -> Array:
            return jnp.where(new.reshape(-1, *[1] * (old.ndim - 1)), rows[row], old)

        return jax.tree.map(choose, s.best, live), jnp.where(new, penalised, s.best_penalised)
