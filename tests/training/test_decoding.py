"""Greedy, beam search and sampling against enumeration and against the distributions that they draw from."""

import functools
import itertools
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from arch.layers.decoder import Cache, Decoder
from arch.rnn import RecurrentNetwork
from arch.seq2seq import Seq2Seq
from core.errors import UserError
from training.decoding import beam_search, greedy, sample

KEY = jax.random.key(0)
BATCH, VOCABULARY, LENGTH, END = 4, 3, 4, 2
FIRST = jnp.array([0, 1, 0, 1])


class Toy(nn.Module):
    """Decodes with a function (tokens [b], memory, state) -> (logits [b, k], state) from a given cache."""

    next_logits: Callable
    context: ClassVar[int | None] = None

    def start(self, first, memory, state, *, length):
        return first, Cache(memory, state)

    def decode(self, tokens, cache):
        logits, state = self.next_logits(tokens[:, 0], cache.memory, cache.state)
        return logits[:, None], cache.replace(state=state)


def toy(next_logits, memory=None, state=None, first=FIRST):
    """Returns (model, variables, conditions)."""
    return Toy(next_logits), {}, (first, memory, state)


def markov(seed: int, vocabulary: int = VOCABULARY, sharpness: float = 1.5):
    """The next token depends on the last one, and on the example."""
    tables = sharpness * jax.random.normal(jax.random.key(seed), (BATCH, vocabulary, vocabulary))
    return toy(lambda tokens, tables, state: (tables[jnp.arange(len(tokens)), tokens], state), memory=tables)


@functools.cache
def recurrent(seed: int):
    """The next token depends on all tokens before it, those of a prompt included."""
    model = RecurrentNetwork(num_classes=VOCABULARY, vocab_size=VOCABULARY, widths=(8,))
    prompt, lengths = jax.random.randint(KEY, (BATCH, 5), 0, VOCABULARY), jnp.array([5, 2, 3, 1])
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(seed), prompt)
    variables = jax.tree.map(lambda p: 4 * p, variables)
    _, cache = jax.jit(functools.partial(model.apply, length=LENGTH, method="start"))(variables, prompt, lengths)

    @jax.jit
    def next_logits(tokens, memory, state):
        logits, cache = model.apply(variables, tokens[:, None], Cache(memory, state), method="decode")
        return logits[:, 0], cache.state

    return toy(next_logits, state=cache.state)


def sequences(end: int | None, length: int = LENGTH) -> list[tuple[int, ...]]:
    """Returns every sequence that ends with its first `end`, or has `length` tokens without one."""
    found = set()
    for tokens in itertools.product(range(VOCABULARY), repeat=length):
        found.add(tokens[: tokens.index(end) + 1] if end in tokens else tokens)
    return sorted(found)


def log_probabilities(model, variables, conditions, candidates: list[tuple[int, ...]]) -> np.ndarray:
    """Returns the log-probability of each candidate [example, candidate], one step at a time."""
    first, memory, start = conditions
    totals = np.zeros((BATCH, len(candidates)))
    for column, tokens in enumerate(candidates):
        last, state = first, start
        for token in tokens:
            logits, state = model.next_logits(last, memory, state)
            totals[:, column] += np.asarray(jax.nn.log_softmax(logits))[:, token]
            last = jnp.full(BATCH, token)
    return totals


def texts(decoded) -> list[tuple[int, ...]]:
    return [tuple(row[:n].tolist()) for row, n in zip(*map(np.asarray, decoded[:2]), strict=True)]


def run(method, decoder, length=LENGTH, eos_id=None, **options):
    model, variables, conditions = decoder
    decode = functools.partial(method, model, length=length, eos_id=eos_id, **options)
    return jax.jit(decode)(variables, conditions)


@pytest.mark.slow
@pytest.mark.parametrize("make", [markov, recurrent])
@pytest.mark.parametrize("end", [END, None])
def test_a_wide_beam_finds_the_best_of_all_sequences(make, end):
    found = set()
    for seed in range(2):
        candidates = sequences(end)
        totals = log_probabilities(*make(seed), candidates)
        for alpha in (0.0, 0.6, 2.0):
            lengths = np.array([len(tokens) for tokens in candidates])
            penalised = totals / ((5 + lengths) / 6) ** alpha
            wide = {"beams": VOCABULARY ** (LENGTH - 1), "length_penalty": alpha}
            decoded = run(beam_search, make(seed), LENGTH, end, **wide)
            rows, columns = range(BATCH), [candidates.index(text) for text in texts(decoded)]
            np.testing.assert_allclose(penalised[rows, columns], penalised.max(1), rtol=1e-5)  # some are equally good
            np.testing.assert_allclose(decoded.score, totals[rows, columns], rtol=1e-4)
            assert not np.where(np.arange(LENGTH) < decoded.lengths[:, None], 0, decoded.tokens).any()
            found |= {len(tokens) for tokens in texts(decoded)}
    assert found == {LENGTH} if end is None else len(found) > 1


@pytest.mark.parametrize("make", [markov, recurrent])
@pytest.mark.parametrize("end", [END, None])
def test_greedy_takes_the_most_probable_token_and_is_one_beam(make, end):
    for seed in range(2):
        decoded = run(greedy, make(seed), LENGTH, end)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5),
            decoded,
            run(beam_search, make(seed), LENGTH, end, beams=1, length_penalty=0.6),
        )
        model, _, (last, memory, state) = make(seed)
        total = np.zeros(BATCH)
        for t in range(LENGTH):
            logits, state = model.next_logits(last, memory, state)
            last, real = decoded.tokens[:, t], t < decoded.lengths
            np.testing.assert_array_equal(last, jnp.where(real, logits.argmax(1), 0))
            total += np.where(real, jax.nn.log_softmax(logits)[jnp.arange(BATCH), last], 0)
        np.testing.assert_allclose(decoded.score, total, rtol=1e-4)
        assert all(len(text) == LENGTH or text[-1] == end for text in texts(decoded))


def test_more_beams_escape_a_greedy_mistake():
    """Token 0 is likelier than 1 at first, but leads to a uniform choice; 1 leads to a certain end."""
    steps = jnp.log(jnp.array([[[0.55, 0.45, 1e-9]] * 3, [[1, 1, 1], [0.01, 0.01, 0.98], [1, 1, 1]]]))
    decoder = toy(
        lambda tokens, _, t: (steps[t, tokens], t + 1), state=jnp.zeros(BATCH, int), first=jnp.zeros(BATCH, int)
    )
    assert texts(run(greedy, decoder, 2, END))[0] == (0, 0)
    assert texts(run(beam_search, decoder, 2, END, beams=2))[0] == (1, 2)


def test_an_ended_sequence_is_beaten_by_a_longer_one_only_after_the_penalty():
    """End at once: probability 0.4; three tokens and the end: 0.6 * 0.6."""
    first = jnp.log(jnp.array([0.6, 1e-9, 0.4]))
    steps = jnp.stack([first, *jnp.log(jnp.array([[1, 1e-9, 1e-9], [1, 1e-9, 1e-9], [1e-9, 0.4, 0.6]]))])
    decoder = toy(lambda tokens, _, t: (steps[t], t + 1), state=jnp.zeros(BATCH, int))
    for alpha, expected in ((0.0, (2,)), (1.0, (0, 0, 0, 2))):
        decoded = run(beam_search, decoder, 4, END, beams=3, length_penalty=alpha)
        assert texts(decoded) == [expected] * BATCH
        np.testing.assert_allclose(decoded.score, np.log(0.36 if alpha else 0.4), rtol=1e-4)


def test_the_lowest_of_equally_good_tokens_is_taken():
    decoder = toy(lambda tokens, *_: (jnp.zeros((len(tokens), VOCABULARY)), None))
    for method in (greedy, functools.partial(beam_search, beams=3, length_penalty=0.0)):
        assert texts(run(method, decoder, 3)) == [(0, 0, 0)] * BATCH


def test_beams_share_the_memory_and_reorder_the_state():
    """Token 2 is best by far but only after 1; the state of each beam is the sum of its own tokens."""
    bonus = jnp.arange(BATCH) % 2 * 5.0

    def next_logits(tokens, bonus, total):
        shapes.append(bonus.shape)
        total = total + tokens
        return jnp.stack([0.1 * jnp.ones(len(tokens)), 0.0 * bonus, jnp.where(total == 1, bonus, -9.0)], 1), total

    shapes = []
    decoder = toy(next_logits, memory=bonus, state=jnp.zeros(BATCH, int), first=jnp.zeros(BATCH, int))
    assert texts(run(beam_search, decoder, 2, beams=3)) == [(0, 0), (1, 2)] * 2
    assert set(shapes) == {(BATCH,)}


def test_an_example_is_decoded_as_if_it_were_alone():
    model, variables, conditions = recurrent(1)
    together = texts(run(beam_search, recurrent(1), 6, END, beams=3))
    decode = jax.jit(functools.partial(beam_search, model, length=6, eos_id=END, beams=3))
    for row in range(BATCH):
        alone = jax.tree.map(lambda x, row=row: x[row : row + 1], conditions)
        assert texts(decode(variables, alone))[0] == together[row]


def test_the_loop_ends_with_the_sequences():
    def next_logits(tokens, *_):
        jax.debug.callback(calls.append, 1)
        return jnp.tile(jnp.array([0.0, 0.0, 20.0]), (len(tokens), 1)), None

    for method in (greedy, functools.partial(sample, rng=KEY), functools.partial(beam_search, beams=1)):
        calls = []
        decoded = run(method, toy(next_logits), 50, END)
        jax.effects_barrier()
        assert texts(decoded) == [(END,)] * BATCH and len(calls) == 1


@functools.cache
def translator():
    """Returns (model, variables, conditions) and the compiled pass that captures intermediates."""
    model = Seq2Seq(num_classes=7, vocab_size=7, widths=(8,))
    conditions = jax.random.randint(KEY, (BATCH, 5), 0, 7), jnp.array([5, 2, 3, 1])
    variables = jax.jit(functools.partial(model.init, train=False))(KEY, *conditions, conditions[0])
    read = jax.jit(functools.partial(model.apply, train=False, mutable=["intermediates"]))
    return (model, jax.tree.map(lambda p: 4 * p, variables), conditions), read


@pytest.mark.parametrize("method", [greedy, beam_search, functools.partial(sample, rng=KEY, temperature=0.5)])
def test_captured_attention_belongs_to_the_sequence(method):
    """Captured while decoding, and again by reading the sequence."""
    (model, variables, conditions), read = translator()
    decoded = run(method, (model, variables, conditions), 6, 3, capture=("attention",))
    target = jnp.concatenate([jnp.ones((BATCH, 1), int), decoded.tokens[:, :-1]], 1)
    _, sown = read(variables, *conditions, target)
    expected = flatten_dict(sown["intermediates"], sep="/")
    assert decoded.captured.keys() == expected.keys() == {"decoder/attention"}
    real = jnp.arange(6) < decoded.lengths[:, None]
    weights = decoded.captured["decoder/attention"]
    np.testing.assert_allclose(weights, jnp.where(real[..., None], expected["decoder/attention"][0], 0), atol=1e-5)
    assert weights.shape == (BATCH, 6, 5) and len(set(decoded.lengths.tolist())) > 1


def test_nothing_is_captured_unless_asked_for():
    (model, variables, conditions), _ = translator()
    assert not jax.eval_shape(functools.partial(greedy, model, length=6), variables, conditions).captured


@pytest.mark.parametrize("method", [greedy, beam_search, functools.partial(sample, rng=KEY)])
def test_suppressed_tokens_are_never_decoded(method):
    decoded = run(method, recurrent(0), 6, suppress=(0, 2))
    assert texts(decoded) == [(1,) * 6] * BATCH
    np.testing.assert_allclose(decoded.score, 0, atol=1e-6)  # of a distribution over the token that is left


def drawn(logits, count: int = 4000, **options) -> np.ndarray:
    """Returns the relative frequency of each token."""
    decoder = toy(lambda tokens, *_: (jnp.tile(logits, (len(tokens), 1)), None), first=jnp.zeros(count, int))
    return np.bincount(run(sample, decoder, 1, rng=KEY, **options).tokens[:, 0], minlength=len(logits)) / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_are_as_frequent_as_probable(temperature):
    logits = jnp.array([0.3, -1.0, 1.2, 0.0, -2.0])
    expected = np.asarray(jax.nn.softmax(logits / temperature))
    frequencies = drawn(logits, temperature=temperature)
    chi_squared = 4000 * (np.square(frequencies - expected) / expected).sum()
    assert chi_squared < 18.5  # the 0.999 quantile at 4 degrees of freedom


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 9}, [0, 1, 2, 3]),
        ({"top_p": 0.39}, [1]),
        ({"top_p": 0.41}, [1, 3]),
        ({"top_p": 0.69}, [1, 3]),
        ({"top_p": 0.71}, [1, 2, 3]),
        ({"top_p": 1.0}, [0, 1, 2, 3]),
        ({"top_p": 0.55, "top_k": 2}, [1]),  # 0.4 / 0.7 of the two
        ({"top_p": 1e-6}, [1]),
        ({"suppress": (1,)}, [0, 2, 3]),
    ],
)
def test_only_the_most_probable_tokens_are_drawn(options, kept):
    """The nucleus is the smallest set that reaches p."""
    probabilities = np.array([0.1, 0.4, 0.2, 0.3])
    expected = np.where(np.isin(np.arange(4), kept), probabilities, 0)
    frequencies = drawn(jnp.log(jnp.asarray(probabilities, jnp.float32)), **options)
    np.testing.assert_array_equal(frequencies > 0, expected > 0)
    np.testing.assert_allclose(frequencies, expected / expected.sum(), atol=0.04)


def test_sampling_from_one_token_is_greedy():
    expected = run(greedy, recurrent(0), 6, END)
    for options in ({"top_k": 1}, {"top_p": 1e-6}):
        jax.tree.map(np.testing.assert_array_equal, expected, run(sample, recurrent(0), 6, END, rng=KEY, **options))


def test_scores_of_samples_are_the_models():
    decoded = run(sample, markov(0), LENGTH, END, rng=KEY, temperature=2.0, top_k=2)
    totals = log_probabilities(*markov(0), texts(decoded))
    np.testing.assert_allclose(decoded.score, np.diag(totals), rtol=1e-4)


@pytest.mark.parametrize(
    "method",
    [
        functools.partial(sample, rng=KEY, temperature=0.0),
        functools.partial(sample, rng=KEY, top_k=-1),
        functools.partial(sample, rng=KEY, top_p=0.0),
        functools.partial(sample, rng=KEY, top_p=1.1),
        functools.partial(beam_search, beams=0),
        functools.partial(beam_search, length_penalty=-0.5),
    ],
)
def test_impossible_options_are_refused(method):
    with pytest.raises(UserError, match="must be"):
        run(method, markov(0))


def test_only_models_that_generate_are_decoders():
    assert isinstance(Toy(None), Decoder) and isinstance(RecurrentNetwork(), Decoder)
    assert not isinstance(nn.Dense(3), Decoder)
