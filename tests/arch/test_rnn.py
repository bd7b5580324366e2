"""Recurrent networks: pooling, tokens, carried states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.recurrent import GRU
from arch.rnn import RecurrentClassifier, RecurrentNetwork

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (3, 6, 4))
TOKENS = jax.random.randint(KEY, (3, 6), 0, 7)
LENGTHS = jnp.array([3, 6, 2])


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_does_not_change_a_class(pooling, bidirectional):
    model = RecurrentClassifier(cell=GRU, widths=(5,), pooling=pooling, bidirectional=bidirectional)
    variables = model.init(KEY, X, train=False)
    padded = model.apply(variables, X, LENGTHS, train=False)
    alone = [model.apply(variables, X[i : i + 1, :n], train=False)[0] for i, n in enumerate(LENGTHS)]
    np.testing.assert_allclose(padded, np.stack(alone), rtol=1e-5, atol=1e-5)


def test_a_prediction_does_not_see_the_future_unless_bidirectional():
    changed = TOKENS.at[:, 4].add(1) % 7
    for bidirectional in (False, True):
        model = RecurrentNetwork(widths=(5,), vocab_size=7, num_classes=7, bidirectional=bidirectional)
        variables = model.init(KEY, TOKENS, train=False)
        a, b = (model.apply(variables, tokens, train=False)[:, :4] for tokens in (TOKENS, changed))
        assert (np.abs(a - b).max() > 1e-6) == bidirectional


def test_a_stateful_network_carries_on_where_the_collection_is_mutable():
    model = RecurrentNetwork(widths=(5, 5), vocab_size=7, stateful=True)
    variables = model.init(KEY, TOKENS[:, :2], train=False)
    assert not any(leaf.any() for leaf in jax.tree.leaves(variables["carry"]))
    whole = model.apply(variables, TOKENS, train=False)
    stream, parts = variables, []
    for tokens in jnp.split(TOKENS, 3, axis=1):
        y, carry = model.apply(stream, tokens, train=True, mutable=["carry"])
        stream = {**stream, **carry}
        parts.append(y)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), whole, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(model.apply(stream, TOKENS, train=False), whole)  # evaluation starts from zeros


def test_back_propagation_stops_at_the_batch():
    model = RecurrentNetwork(widths=(5,), vocab_size=7, stateful=True)
    variables = model.init(KEY, TOKENS, train=False)

    def loss(carry):
        return model.apply({**variables, "carry": carry}, TOKENS, train=True, mutable=["carry"])[0].sum()

    assert not any(leaf.any() for leaf in jax.tree.leaves(jax.grad(loss)(variables["carry"])))


@pytest.mark.parametrize(
    ("fields", "inputs", "words"),
    [
        ({}, TOKENS, "int32.*vocab_size is None"),
        ({"vocab_size": 7}, X, "float32.*vocab_size is 7"),
        ({"vocab_size": 7, "stateful": True, "bidirectional": True}, TOKENS, "stateful and bidirectional"),
    ],
)
def test_contradictions_are_refused(fields, inputs, words):
    with pytest.raises(ValueError, match=words):
        RecurrentNetwork(widths=(5,), **fields).init(KEY, inputs, train=False)


def test_other_sequences_cannot_be_continued():
    model = RecurrentNetwork(widths=(5,), vocab_size=7, stateful=True)
    variables = model.init(KEY, TOKENS, train=False)
    with pytest.raises(ValueError, match="2 sequences cannot continue 3"):
        model.apply(variables, TOKENS[:2], train=True, mutable=["carry"])


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="must be 'last' or 'mean'"):
        RecurrentClassifier(widths=(5,), pooling="max").init(KEY, X, train=False)


def test_a_prompt_of_any_length_is_continued_as_the_whole_text_is_read():
    fields = {"cell": GRU, "residual": True, "embedding_width": 3}
    model = RecurrentNetwork(num_classes=7, vocab_size=7, widths=(5, 5), dropout=0.5, **fields)
    variables = model.init(KEY, TOKENS, train=False)
    whole = model.apply(variables, TOKENS, train=False)
    tokens, cache = model.apply(variables, TOKENS, LENGTHS, length=3, method="start")
    position = LENGTHS - 1
    for _ in range(3):  # each text from its own last token on
        logits, cache = model.apply(variables, tokens[:, None], cache, method="decode")
        for row in np.flatnonzero(position < 6):
            np.testing.assert_allclose(logits[row, 0], whole[row, position[row]], rtol=1e-5, atol=1e-5)
        position += 1
        tokens = jnp.take_along_axis(TOKENS, jnp.minimum(position, 5)[:, None], 1)[:, 0]


@pytest.mark.parametrize(("fields", "inputs"), [({}, X), ({"vocab_size": 7, "bidirectional": True}, TOKENS)])
def test_only_networks_of_tokens_that_read_forwards_generate(fields, inputs):
    model = RecurrentNetwork(widths=(5,), **fields)
    variables = model.init(KEY, inputs, train=False)
    with pytest.raises(ValueError, match="can generate"):
        model.apply(variables, TOKENS, LENGTHS, length=3, method="start")
