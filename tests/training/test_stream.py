"""Tokens that a language model writes one by one: those of `sample`, and beyond the context."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.gpt import GPT
from arch.layers.positions import Rotary
from core.errors import UserError
from training import memory
from training.decoding import greedy, sample, sampler, state_shapes, stream

PROMPT = [3, 1, 4, 1, 5]


@functools.cache
def model_and_variables():
    model = GPT(**GPT.VARIANTS["test"])
    tokens = jnp.array([PROMPT])
    variables = model.init(jax.random.key(0), tokens, train=False)
    return model, jax.tree.map(lambda p: p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape), variables)


@pytest.mark.slow
def test_the_tokens_are_those_of_sample():
    model, variables = model_and_variables()
    key, conditions = jax.random.key(7), [jnp.array([PROMPT]), jnp.array([len(PROMPT)])]
    expected = sample(model, variables, conditions, length=9, rng=key, top_k=5, suppress=(2,)).tokens[0]
    assert list(stream(model, variables, PROMPT, sampler(key, top_k=5), length=9, suppress=(2,))) == expected.tolist()


@pytest.mark.slow
@pytest.mark.slow
def test_an_end_token_ends_the_text():
    model, variables = model_and_variables()
    tokens = list(stream(model, variables, PROMPT, sampler(jax.random.key(1)), length=9))
    end = tokens[4]
    ended = list(stream(model, variables, PROMPT, sampler(jax.random.key(1)), length=9, eos_id=end))
    assert ended == tokens[: tokens.index(end) + 1]


@pytest.mark.slow
@pytest.mark.parametrize("prompt", [PROMPT, PROMPT * 6], ids=["short", "beyond the context"])
def test_beyond_the_context_the_last_tokens_go_on(prompt):
    """Each stretch is what the model writes after the last half of its context."""
    model, variables = model_and_variables()
    written = list(stream(model, variables, prompt, sampler(jax.random.key(0), top_k=1), length=30))
    assert len(written) == 30
    ids, half = prompt + written, model.context // 2
    start, done = (prompt[-half:], 0)
    while done < 30:
        room = min(30 - done, model.context - len(start) + 1)
        conditions = [jnp.array([start]), jnp.array([len(start)])]
        expected = greedy(model, variables, conditions, length=room).tokens[0]
        np.testing.assert_array_equal(written[done : done + room], expected)
        done += room
        start = ids[: len(prompt) + done][-half:]


def test_a_text_whose_state_does_not_fit_the_memory(monkeypatch):
    """The state is that of the first stretch; its keys and values are what grows with the text."""
    model, variables = model_and_variables()
    shapes = state_shapes(model, variables, len(PROMPT), 6)
    lengths = jnp.full(1, len(PROMPT))
    _, begun = model.apply(variables, jnp.array([PROMPT]), lengths, length=6, method="start")
    assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == jax.tree.map(lambda x: (x.shape, x.dtype), begun)
    assert jax.tree.leaves(state_shapes(model, variables, 99, 99)) == jax.tree.leaves(
        state_shapes(model, variables, model.context // 2, 99)
    )
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((variables, begun)))
    monkeypatch.setattr(memory, "limit_of_device", lambda: (float(size), "cpu"))
    memory.check_cache(variables, shapes, "lower --length")
    longer = state_shapes(model.clone(context=4096, positions=Rotary), variables, len(PROMPT), 600)
    with pytest.raises(UserError, match=r"a prediction needs .*cache .*cpu has .*: lower --length"):
        memory.check_cache(variables, longer, "lower --length")
