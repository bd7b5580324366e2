"""Greedy, beam search and sampling against enumeration and against the distributions they claim to draw from."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.rnn import RecurrentNetwork
from arch.seq2seq import Seq2Seq
from core.errors import UserError
from training.decoding import beam_search, greedy, sample

KEY = jax.random.key(0)
BATCH, VOCABULARY, LENGTH, END = 4, 3, 4, 2
FIRST = jnp.array([0, 1, 0, 1])


def markov(seed: int, vocabulary: int = VOCABULARY, sharpness: float = 1.5):
    """Returns (extend, cache): the next token depends on the last one, and on which example it is."""
    tables = sharpness * jax.random.normal(jax.random.key(seed), (BATCH, vocabulary, vocabulary))
    return lambda tokens, cache: (cache["table"][jnp.arange(len(tokens)), tokens], cache), {"table": tables}


def recurrent(seed: int):
    """Returns (extend, cache): the next token depends on all before it."""
    model = RecurrentNetwork(num_classes=VOCABULARY, vocab_size=VOCABULARY, widths=(8,))
    prompt, lengths = jax.random.randint(KEY, (BATCH, 5), 0, VOCABULARY), jnp.array([5, 2, 3, 1])
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(seed), prompt)
    variables = jax.tree.map(lambda p: 4 * p, variables)
    extend = jax.jit(functools.partial(model.apply, variables, method="extend"))
    return extend, model.apply(variables, prompt, lengths, method="begin")


def sequences(end: int, length: int = LENGTH) -> list[tuple[int, ...]]:
    """Returns every sequence that ends with its first `end`, or has `length` tokens without one."""
    found = set()
    for tokens in itertools.product(range(VOCABULARY), repeat=length):
        found.add(tokens[: tokens.index(end) + 1] if end in tokens else tokens)
    return sorted(found)


def log_probabilities(extend, cache, candidates: list[tuple[int, ...]]) -> np.ndarray:
    """Returns the log-probability of each candidate [example, candidate], one step at a time."""
    totals = np.zeros((BATCH, len(candidates)))
    for column, tokens in enumerate(candidates):
        last, state = FIRST, cache
        for token in tokens:
            logits, state = extend(last, state)
            totals[:, column] += np.asarray(jax.nn.log_softmax(logits))[:, token]
            last = jnp.full(BATCH, token)
    return totals


def texts(decoded) -> list[tuple[int, ...]]:
    return [tuple(row[:n].tolist()) for row, n in zip(*map(np.asarray, decoded[:2]), strict=True)]


def run(method, extend, cache, *args, **kwargs):
    return jax.jit(lambda cache: method(extend, cache, FIRST, *args, **kwargs))(cache)


@pytest.mark.parametrize("make", [markov, recurrent])
@pytest.mark.parametrize("end", [END, -1])
def test_a_wide_beam_finds_the_best_of_all_sequences(make, end):
    found = set()
    for seed in range(2):
        extend, cache = make(seed)
        candidates = sequences(end)
        totals = log_probabilities(extend, cache, candidates)
        for alpha in (0.0, 0.6, 2.0):
            lengths = np.array([len(tokens) for tokens in candidates])
            penalised = totals / ((5 + lengths) / 6) ** alpha
            decoded = run(
                beam_search, extend, cache, LENGTH, end, beams=VOCABULARY ** (LENGTH - 1), length_penalty=alpha
            )
            rows, columns = range(BATCH), [candidates.index(text) for text in texts(decoded)]
            np.testing.assert_allclose(penalised[rows, columns], penalised.max(1), rtol=1e-5)  # equal ones there are
            np.testing.assert_allclose(decoded.score, totals[rows, columns], rtol=1e-4)
            assert not np.where(np.arange(LENGTH) < decoded.lengths[:, None], 0, decoded.tokens).any()
            found |= {len(tokens) for tokens in texts(decoded)}
    assert found == ({LENGTH} if end == -1 else found) and (end == -1 or len(found) > 1)


@pytest.mark.parametrize("make", [markov, recurrent])
@pytest.mark.parametrize("end", [END, -1])
def test_greedy_takes_the_most_probable_token_and_is_one_beam(make, end):
    for seed in range(2):
        extend, cache = make(seed)
        decoded = run(greedy, extend, cache, LENGTH, end)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5),
            decoded,
            run(beam_search, extend, cache, LENGTH, end, beams=1, length_penalty=0.6),
        )
        last, state, total = FIRST, cache, np.zeros(BATCH)
        for t in range(LENGTH):
            logits, state = extend(last, state)
            last, real = decoded.tokens[:, t], t < decoded.lengths
            np.testing.assert_array_equal(last, jnp.where(real, logits.argmax(1), 0))
            total += np.where(real, jax.nn.log_softmax(logits)[jnp.arange(BATCH), last], 0)
        np.testing.assert_allclose(decoded.score, total, rtol=1e-4)
        assert all(len(text) == LENGTH or text[-1] == end for text in texts(decoded))


def test_more_beams_escape_a_greedy_mistake():
    """Token 0 is likelier than 1 at first, but leads to a uniform choice; 1 leads to a certain end."""
    steps = jnp.log(jnp.array([[[0.55, 0.45, 1e-9]] * 3, [[1, 1, 1], [0.01, 0.01, 0.98], [1, 1, 1]]]))

    def extend(tokens, cache):
        return steps[cache["t"], tokens], {"t": cache["t"] + 1}

    start, first = {"t": jnp.zeros(BATCH, jnp.int32)}, jnp.zeros(BATCH, jnp.int32)
    assert texts(greedy(extend, start, first, 2, END))[0] == (0, 0)
    assert texts(beam_search(extend, start, first, 2, END, beams=2))[0] == (1, 2)


def test_an_ended_sequence_is_beaten_by_a_longer_one_only_after_the_penalty():
    """End at once: probability 0.4; three tokens and the end: 0.6 * 0.6."""
    first = jnp.log(jnp.array([0.6, 1e-9, 0.4]))
    steps = jnp.stack([first, *jnp.log(jnp.array([[1, 1e-9, 1e-9], [1, 1e-9, 1e-9], [1e-9, 0.4, 0.6]]))])

    def extend(tokens, cache):
        return steps[cache["t"]], {"t": cache["t"] + 1}

    start = {"t": jnp.zeros(BATCH, jnp.int32)}
    for alpha, expected in ((0.0, (2,)), (1.0, (0, 0, 0, 2))):
        decoded = beam_search(extend, start, FIRST, 4, END, beams=3, length_penalty=alpha)
        assert texts(decoded) == [expected] * BATCH
        np.testing.assert_allclose(decoded.score, np.log(0.36 if alpha else 0.4), rtol=1e-4)


def test_of_equal_sequences_the_lowest_tokens_are_taken():
    def extend(tokens, cache):
        return jnp.zeros((len(tokens), VOCABULARY)), cache

    for method in (greedy, functools.partial(beam_search, beams=3, length_penalty=0.0)):
        assert texts(run(method, extend, {"x": jnp.zeros(BATCH)}, 3, -1)) == [(0, 0, 0)] * BATCH


def test_an_example_is_decoded_as_if_it_were_alone():
    extend, cache = recurrent(1)
    together = run(beam_search, extend, cache, 6, END, beams=3)
    for row in range(BATCH):
        one = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], cache)
        alone = beam_search(extend, one, FIRST[row : row + 1], 6, END, beams=3)
        assert texts(alone)[0] == texts(together)[row]


def test_the_loop_ends_with_the_sequences():
    def extend(tokens, cache):
        jax.debug.callback(calls.append, 1)
        return jnp.tile(jnp.array([0.0, 0.0, 20.0]), (len(tokens), 1)), cache

    for method in (greedy, functools.partial(sample, rng=KEY), beam_search):
        calls = []
        decoded = run(method, extend, {"x": jnp.zeros(BATCH)}, 50, END)
        jax.effects_barrier()
        assert texts(decoded) == [(END,)] * BATCH and len(calls) == 1


@pytest.mark.parametrize("method", [greedy, beam_search, functools.partial(sample, rng=KEY, temperature=0.5)])
def test_attention_is_that_of_the_sequence(method):
    """Collected while decoding, and again by going through the sequence."""
    model = Seq2Seq(num_classes=7, vocab_size=7, widths=(8,))
    source, lengths = jax.random.randint(KEY, (BATCH, 5), 0, 7), jnp.array([5, 2, 3, 1])
    variables = jax.jit(functools.partial(model.init, train=False))(KEY, source, lengths, source)
    variables = jax.tree.map(lambda p: 4 * p, variables)
    extend = jax.jit(functools.partial(model.apply, variables, method="extend"))
    cache = model.apply(variables, source, lengths, method="begin")
    decoded = run(method, extend, cache, 6, 3)
    last = FIRST
    for t in range(6):
        _, cache = extend(last, cache)
        expected = jnp.where((t < decoded.lengths)[:, None], cache["attention"], 0)
        np.testing.assert_allclose(decoded.attention[:, t], expected, atol=1e-5)
        last = decoded.tokens[:, t]
    assert decoded.attention.shape == (BATCH, 6, 5) and len(set(decoded.lengths.tolist())) > 1


def drawn(logits, count: int = 4000, **options) -> np.ndarray:
    """Returns how often each token is drawn."""

    def extend(tokens, cache):
        return jnp.tile(logits, (len(tokens), 1)), cache

    tokens = jax.jit(lambda: sample(extend, {}, jnp.zeros(count, jnp.int32), 1, -1, KEY, **options))().tokens
    return np.bincount(tokens[:, 0], minlength=len(logits)) / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_are_as_frequent_as_probable(temperature):
    logits = jnp.array([0.3, -1.0, 1.2, 0.0, -2.0])
    expected = np.asarray(jax.nn.softmax(logits / temperature))
    frequencies = drawn(logits, temperature=temperature)
    chi_squared = 4000 * (np.square(frequencies - expected) / expected).sum()
    assert chi_squared < 18.5  # of 4 degrees of freedom: one in a thousand


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
    ],
)
def test_only_the_most_probable_tokens_are_drawn(options, kept):
    """The nucleus is the smallest set that reaches p."""
    probabilities = np.array([0.1, 0.4, 0.2, 0.3])
    expected = np.where(np.isin(np.arange(4), kept), probabilities, 0)
    frequencies = drawn(jnp.log(jnp.asarray(probabilities, jnp.float32)), **options)
    np.testing.assert_array_equal(frequencies > 0, expected > 0)
    np.testing.assert_allclose(frequencies, expected / expected.sum(), atol=0.04)


def test_of_one_token_to_draw_from_sampling_is_greedy():
    extend, cache = recurrent(0)
    for options in ({"top_k": 1}, {"top_p": 1e-6}):
        a, b = (
            run(method, extend, cache, 6, END) for method in (greedy, functools.partial(sample, rng=KEY, **options))
        )
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_scores_of_samples_are_the_models():
    extend, cache = markov(0)
    decoded = run(sample, extend, cache, LENGTH, END, KEY, temperature=2.0, top_k=2)
    totals = log_probabilities(extend, cache, texts(decoded))
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
        method(*markov(0), FIRST, LENGTH, END)
