"""Decoding with any model that satisfies `arch.layers.decoder.Decoder`: greedy, sampling and beam search.

Pure functions, to be called under `jit`. They share these arguments:

    model, variables: a Flax module that is a `Decoder`, and its variables.
    conditions: the arguments of `model.start`, trees of arrays [b, ...].
    length: the number of tokens to decode at most.
    eos_id: the token that ends a sequence; None: every sequence has `length` tokens.
    suppress: ids of tokens that are never decoded.
    capture: names of values [b, t, ...] that the model sows in "intermediates", such as "attention".

The end token is part of the sequence: `lengths` counts it, and `score` includes its probability. The loop ends when all
sequences have ended.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from arch.layers.decoder import Cache
from core.errors import UserError
from tasks.task import Task

# b: batch, k: size of the vocabulary, l: decoded positions, n: beams.


class Decoded(NamedTuple):
    """Decoded sequences.

    Attributes:
        tokens: ids, 0 after the end.
        lengths: the number of tokens, end included.
        score: log-probability of the sequence.
        captured: path of each captured value in the model, such as "decoder/attention" -> its values [b, l, ...], 0
            after the end.
    """

    tokens: Int[Array, "b l"]
    lengths: Int[Array, " b"]
    score: Float[Array, " b"]
    captured: dict[str, Float[Array, "b l ..."]]


# (tokens [b], state) -> (logits [b, k], state, captured values [b, ...])
Step = Callable[[Array, PyTree], tuple[Array, PyTree, dict[str, Array]]]
Choose = Callable[[Array, Array | int], Array]  # (logits [b, k], number of the token) -> tokens [b]


def generate(
    model: nn.Module,
    variables: PyTree,
    task: Task,
    batch: Mapping,
    capture: Sequence[str] = (),
    **choice: Any,
) -> Decoded:
    """Returns the model's output for each example of a batch, with the decoding settings of the task; `choice` has the
    arguments of `sample`, for a task without beams.
    """
    conditions = [batch[name] for name in task.conditions]
    arguments = {"length": task.max_length, "eos_id": task.vocabulary.eos, "capture": capture}
    if task.beams == 0:
        return sample(model, variables, conditions, **choice, **arguments)
    if task.beams == 1:
        return greedy(model, variables, conditions, **arguments)
    beams = {"beams": task.beams, "length_penalty": task.length_penalty}
    return beam_search(model, variables, conditions, **beams, **arguments)


def greedy(
    model: nn.Module,
    variables: PyTree,
    conditions: Sequence[PyTree],
    *,
    length: int,
    eos_id: int | None = None,
    suppress: Sequence[int] = (),
    capture: Sequence[str] = (),
) -> Decoded:
    """Returns the sequences of the most probable next tokens; of equally probable tokens, the lowest id."""

    def choose(logits: Float[Array, "b k"], t: Array) -> Int[Array, " b"]:
        return jnp.argmax(logits, -1)

    start = _start(model, variables, conditions, length, suppress, capture)
    return _decode_one_by_one(*start, length, eos_id, choose)


def sample(
    model: nn.Module,
    variables: PyTree,
    conditions: Sequence[PyTree],
    *,
    length: int,
    rng: PRNGKeyArray,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    eos_id: int | None = None,
    suppress: Sequence[int] = (),
    capture: Sequence[str] = (),
) -> Decoded:
    """Returns sequences drawn token by token; `score` is the model's log-probability, without temperature and cuts.

    Args:
        temperature: divides the logits.
        top_k: draws only from the `top_k` most probable tokens; 0: from all.
        top_p: draws only from the smallest set of the most probable of these whose share of the probability is `top_p`
            (nucleus sampling, Holtzman et al. 2020, arXiv 1904.09751, sec. 3.1).

    Raises UserError as `sampler`.
    """
    choose = sampler(rng, temperature, top_k, top_p)
    start = _start(model, variables, conditions, length, suppress, capture)
    return _decode_one_by_one(*start, length, eos_id, choose)


def sampler(rng: PRNGKeyArray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Choose:
    """Returns the function that draws the next tokens; its arguments are those of `sample`.

    Raises:
        UserError: temperature is not above 0, top_k is below 0, or top_p is outside (0, 1].
    """
    if not (temperature > 0 and top_k >= 0 and 0 < top_p <= 1):
        raise UserError(
            f"temperature={temperature}, top_k={top_k}, top_p={top_p}: must be above 0, 0 or more, and in (0, 1]"
        )

    def choose(logits: Float[Array, "b k"], t: Array) -> Int[Array, " b"]:
        if not top_k and top_p == 1:  # without a cut, nothing needs to be sorted
            return jax.random.categorical(jax.random.fold_in(rng, t), logits / temperature)
        width = logits.shape[-1]
        values, tokens = lax.top_k(logits / temperature, min(top_k or width, width))
        probabilities = jax.nn.softmax(values)
        before = jnp.cumsum(probabilities, -1) - probabilities  # the probability of all more probable tokens
        values = jnp.where((before < top_p) | (jnp.arange(values.shape[-1]) == 0), values, -jnp.inf)
        choice = jax.random.categorical(jax.random.fold_in(rng, t), values)
        return jnp.take_along_axis(tokens, choice[:, None], -1)[:, 0]

    return choose


def stream(
    model: nn.Module,
    variables: PyTree,
    prompt: Sequence[int],
    choose: Choose,
    *,
    length: int,
    eos_id: int | None = None,
    suppress: Sequence[int] = (),
) -> Iterator[int]:
    """Yields the tokens that continue one prompt, each as soon as it is chosen; not to be called under `jit`.

    A text that exceeds the model's context goes on from its last tokens, half a context at a time.
    """

    @functools.partial(jax.jit, static_argnames="room")
    def start(variables, tokens, room):
        lengths = jnp.full(1, tokens.shape[1], jnp.int32)
        return model.apply(variables, tokens, lengths, length=room, method="start")

    @functools.partial(jax.jit, donate_argnums=2)
    def extend(variables, token, cache, t):
        logits, cache = model.apply(variables, token[:, None], cache, method="decode")
        return choose(_without(logits[:, 0], suppress), t).astype(jnp.int32), cache

    ids, t = list(prompt), 0
    while t < length:
        read, left = _within(model.context, len(ids), length - t)
        ids = ids[-read:]
        token, cache = start(variables, jnp.array([ids], jnp.int32), left)
        for _ in range(left):
            token, cache = extend(variables, token, cache, t)
            ids.append(int(token[0]))
            yield ids[-1]
            t += 1
            if ids[-1] == eos_id:
                return


def state_shapes(model: nn.Module, variables: PyTree, read: int, length: int) -> PyTree:
    """Returns the shapes of the state with which `stream` begins for a prompt of `read` tokens."""
    read, length = _within(model.context, read, length)
    tokens, lengths = jax.ShapeDtypeStruct((1, read), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int32)
    return jax.eval_shape(functools.partial(model.apply, length=length, method="start"), variables, tokens, lengths)[1]


def _within(context: int | None, read: int, length: int) -> tuple[int, int]:
    """Returns how many of the last tokens are read, and how many follow, so that both fit the model's context."""
    if context is None or read + length - 1 <= context:
        return read, length
    read = min(read, max(context // 2, 1))
    return read, min(length, context - read + 1)


def beam_search(
    model: nn.Module,
    variables: PyTree,
    conditions: Sequence[PyTree],
    *,
    length: int,
    beams: int = 4,
    length_penalty: float = 0.6,
    eos_id: int | None = None,
    suppress: Sequence[int] = (),
    capture: Sequence[str] = (),
) -> Decoded:
    """Returns the best sequence found by keeping the `beams` most probable prefixes.

    The best sequence has the highest log-probability / ((5 + its length) / 6) ** length_penalty (GNMT, Wu et al. 2016,
    arXiv 1609.08144, eq. 14); `score` is not divided. A sequence that has ended keeps its place among the `beams`
    (Sutskever et al. 2014, arXiv 1409.3215, sec. 3.2), so that one beam is greedy decoding; sequences that have not
    ended after `length` tokens compete as they are. Of equally good sequences, the one that ended first wins, then that
    of the better prefix, then that of the lower token.

    Raises:
        UserError: beams is below 1, or length_penalty is below 0.
    """
    if beams < 1 or length_penalty < 0:
        raise UserError(f"beams={beams}, length_penalty={length_penalty}: must be 1 or more, and 0 or more")
    first, state, step = _start(model, variables, conditions, length, suppress, capture)
    return _BeamSearch(step, len(first), beams, length, eos_id, length_penalty).run(first, state)


def _start(
    model: nn.Module,
    variables: PyTree,
    conditions: Sequence[PyTree],
    length: int,
    suppress: Sequence[int],
    capture: Sequence[str],
) -> tuple[Int[Array, " b"], PyTree, Step]:
    """Returns the first tokens, the state before them, and the step of decoding, which closes over the memory."""
    first, start = model.apply(variables, *conditions, length=length, method="start")

    def step(tokens: Int[Array, " b"], state: PyTree) -> tuple[Float[Array, "b k"], PyTree, dict[str, Array]]:
        cache = Cache(start.memory, state)
        (logits, cache), sown = model.apply(
            variables, tokens[:, None], cache, method="decode", mutable=["intermediates"]
        )
        paths = flatten_dict(sown.get("intermediates", {}), sep="/")
        captured = {path: calls[-1][:, 0] for path, calls in paths.items() if path.split("/")[-1] in capture}
        return _without(logits[:, 0], suppress), cache.state, captured

    return first.astype(jnp.int32), start.state, step


def _without(logits: Float[Array, "b k"], suppress: Sequence[int]) -> Float[Array, "b k"]:
    return logits.at[:, np.array(suppress, int)].set(-jnp.inf)


def _empty(first: Int[Array, " b"], captured: dict[str, jax.ShapeDtypeStruct], length: int) -> Decoded:
    """Returns sequences of length 0 with room for `length` tokens."""
    batch = len(first)
    return Decoded(
        tokens=jnp.zeros((batch, length), jnp.int32),
        lengths=jnp.zeros(batch, jnp.int32),
        score=jnp.zeros(batch),
        captured={path: jnp.zeros((batch, length, *x.shape[1:]), x.dtype) for path, x in captured.items()},
    )


def _append(
    decoded: Decoded,
    t: Array,
    tokens: Int[Array, "*b"],
    score: Float[Array, "*b"],
    captured: dict[str, Array],
    real: Bool[Array, "*b"],
) -> Decoded:
    """Returns the sequences with one more token each, at position t, where `real`."""

    def put(buffer: Array, values: Array) -> Array:
        values = jnp.where(real.reshape(*real.shape, *[1] * (values.ndim - real.ndim)), values, 0)
        return lax.dynamic_update_index_in_dim(buffer, values, t, real.ndim)

    return Decoded(
        tokens=put(decoded.tokens, tokens),
        lengths=decoded.lengths + real,
        score=decoded.score + jnp.where(real, score, 0),
        captured=jax.tree.map(put, decoded.captured, captured),
    )


def _ends(tokens: Int[Array, "*b"], eos_id: int | None) -> Bool[Array, "*b"]:
    return jnp.zeros(tokens.shape, bool) if eos_id is None else tokens == eos_id


def _decode_one_by_one(
    first: Int[Array, " b"], state: PyTree, step: Step, length: int, eos_id: int | None, choose: Callable
) -> Decoded:
    class Loop(NamedTuple):
        t: Array
        last: Int[Array, " b"]
        open: Bool[Array, " b"]
        state: PyTree
        decoded: Decoded

    def body(loop: Loop) -> Loop:
        logits, state, captured = step(loop.last, loop.state)
        tokens = choose(logits, loop.t).astype(jnp.int32)
        score = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, None], -1)[:, 0]
        decoded = _append(loop.decoded, loop.t, tokens, score, captured, loop.open)
        return Loop(loop.t + 1, tokens, loop.open & ~_ends(tokens, eos_id), state, decoded)

    empty = _empty(first, jax.eval_shape(step, first, state)[-1], length)
    start = Loop(jnp.int32(0), first, jnp.ones(first.shape, bool), state, empty)
    return lax.while_loop(lambda loop: (loop.t < length) & loop.open.any(), body, start).decoded


def gnmt_penalty(length: Array | int, alpha: float) -> Array:
    """Returns the divisor of a log-probability (GNMT, Wu et al. 2016, arXiv 1609.08144, eq. 14)."""
    return ((5 + jnp.asarray(length, jnp.float32)) / 6) ** alpha


class _Beams(NamedTuple):
    """State of the search. An empty place among the beams has the score -inf."""

    t: Array
    state: PyTree  # [b, n, ...]
    last: Int[Array, "b n"]
    live: Decoded  # [b, n]
    places: Int[Array, " b"]  # the number of beams that ended sequences leave
    best: Decoded  # [b]
    best_penalised: Float[Array, " b"]


@dataclasses.dataclass(frozen=True)
class _BeamSearch:
    step: Step
    batch: int
    beams: int
    length: int
    eos_id: int | None
    alpha: float

    def run(self, first: Int[Array, " b"], state: PyTree) -> Decoded:
        best = _empty(first, jax.eval_shape(self.step, first, state)[-1], self.length)
        last, states, live = jax.tree.map(lambda x: jnp.repeat(x[:, None], self.beams, axis=1), (first, state, best))
        only_one = jnp.where(jnp.arange(self.beams) == 0, 0.0, -jnp.inf)  # the beams are equal at first
        start = _Beams(
            t=jnp.int32(0),
            state=states,
            last=last,
            live=live._replace(score=jnp.tile(only_one, (self.batch, 1))),
            places=jnp.full(self.batch, self.beams),
            best=best,
            best_penalised=jnp.full(self.batch, -jnp.inf),
        )
        return lax.while_loop(self.goes_on, self.extend, start).best

    def goes_on(self, s: _Beams) -> Array:
        """Whether a live beam could still become the best: scores only fall, and the penalty only grows."""
        bound = s.live.score.max(1) / gnmt_penalty(self.length, self.alpha)
        return (s.t < self.length) & (bound > s.best_penalised).any()

    def extend(self, s: _Beams) -> _Beams:
        # The memory is not mapped over the beams: it is held and read once per example.
        logits, state, captured = jax.vmap(self.step, in_axes=1, out_axes=1)(s.last, s.state)
        vocabulary = logits.shape[-1]
        candidates = s.live.score[..., None] + jax.nn.log_softmax(logits)
        score, index = lax.top_k(candidates.reshape(self.batch, -1), self.beams)
        rows, parent, tokens = jnp.arange(self.batch)[:, None], index // vocabulary, index % vocabulary
        state, captured, live = jax.tree.map(lambda x: x[rows, parent], (state, captured, s.live))
        live = _append(live, s.t, tokens, score, captured, jnp.ones(tokens.shape, bool))._replace(score=score)

        score = jnp.where(jnp.arange(self.beams) < s.places[:, None], score, -jnp.inf)
        ends = (_ends(tokens, self.eos_id) | (s.t + 1 == self.length)) & (score > -jnp.inf)
        best, best_penalised = self.better(s, live, jnp.where(ends, score, -jnp.inf))
        live = live._replace(score=jnp.where(ends, -jnp.inf, score))
        return _Beams(s.t + 1, state, tokens, live, s.places - ends.sum(1), best, best_penalised)

    def better(self, s: _Beams, live: Decoded, ended: Float[Array, "b n"]) -> tuple[Decoded, Array]:
        """Returns the best of those so far and those with an `ended` score above -inf, and its penalised score."""
        penalised = ended.max(1) / gnmt_penalty(s.t + 1, self.alpha)
        new, rows = penalised > s.best_penalised, jnp.arange(self.batch)

        def choose(old: Array, beams: Array) -> Array:
            return jnp.where(new.reshape(-1, *[1] * (old.ndim - 1)), beams[rows, ended.argmax(1)], old)

        return jax.tree.map(choose, s.best, live), jnp.where(new, penalised, s.best_penalised)
