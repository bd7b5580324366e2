"""Truncated back-propagation: what a model carries from batch to batch goes with its rows, on any layout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch.layers.recurrent import GRU
from arch.rnn import RecurrentNetwork
from data.batches import continuous
from tasks.sequence import TokenClassification
from training import state as state_lib
from training.parallel import Parallel
from training.step import train_step

pytestmark = pytest.mark.slow

ROWS, STEPS, LENGTH, VOCABULARY = 16, 4, 5, 7
MODEL = RecurrentNetwork(cell=GRU, widths=(6,), vocab_size=VOCABULARY, num_classes=VOCABULARY, stateful=True)
OPTIMIZER = optax.sgd(0.5)
TASK = TokenClassification()


@pytest.fixture(scope="module")
def batches():
    text = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, STEPS * LENGTH + 1)).astype(np.int32)
    starts = range(0, STEPS * LENGTH, LENGTH)
    mask = np.ones(ROWS, np.float32)
    windows = [(text[:, start : start + LENGTH], text[:, start + 1 : start + LENGTH + 1]) for start in starts]
    return [{"tokens": tokens, "labels": labels, "mask": mask} for tokens, labels in windows]


def create():
    inputs = (jnp.zeros((1, LENGTH), jnp.int32),)
    return state_lib.create(MODEL, OPTIMIZER, inputs, jax.random.key(0), batch_size=ROWS, ema=True)


def run(batches, strategy, accumulate):
    parallel = Parallel(strategy)
    layout = {"accumulate": accumulate, "ema_decay": 0.9, "axis_name": parallel.axis_name}
    step = functools.partial(train_step, model=MODEL, task=TASK, optimizer=OPTIMIZER, **layout)
    step, state = parallel.compile_train(step), parallel.place(create())
    for batch in parallel.batches(batches):
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
    return parallel.take(state)


def by_hand(batches):
    """Returns parameters and last states of truncated back-propagation, row by row, so that nothing can leak."""
    params, memory = create().params, jnp.zeros((ROWS, 6))

    def loss(params, memory, batch):
        def row(tokens, h):
            variables = {"params": params, "carry": {"states": [{"h": h[None]}]}}
            logits, changed = MODEL.apply(variables, tokens[None], train=True, mutable=["carry"])
            return logits[0], changed["carry"]["states"][0]["h"][0]

        logits, memory = jax.vmap(row)(jnp.asarray(batch["tokens"]), memory)
        return TASK.score(logits, batch).losses["loss"] / TASK.weights(batch)["loss"], memory

    gradient = jax.jit(jax.grad(loss, has_aux=True))
    for batch in batches:
        grads, memory = gradient(params, memory, batch)
        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, grads)
    return params, memory


@pytest.mark.parametrize("layout", [("pmap", 1), ("pmap", 2), ("fsdp", 1), ("fsdp", 4)], ids=str)
def test_every_layout_is_truncated_back_propagation(layout, batches):
    params, memory = by_hand(batches)
    state = run(batches, *layout)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(a, np.asarray(b), atol=1e-5)
    np.testing.assert_allclose(memory, np.asarray(state.mutable["carry"]["states"][0]["h"]), atol=1e-5)
    assert np.abs(memory).min() > 0  # every row remembers something
    assert "carry" not in state.ema


def test_rows_keep_their_memory_when_placed_and_taken():
    state = create()
    memory = jnp.arange(ROWS * 6, dtype=jnp.float32).reshape(ROWS, 6)
    state = state.replace(mutable={"carry": {"states": [{"h": memory}]}})
    parallel = Parallel("pmap")
    placed = parallel.place(state)
    assert placed.mutable["carry"]["states"][0]["h"].shape == (8, ROWS // 8, 6)
    np.testing.assert_array_equal(parallel.take(placed).mutable["carry"]["states"][0]["h"], memory)


def test_continuous_order_goes_on_in_every_row():
    size, rows = 11, 3
    first, second = (continuous(5, step, rows, size) for step in (0, 1))
    np.testing.assert_array_equal((first + 1) % size, second)
    seen = np.concatenate([continuous(5, step, rows, size) for step in range(size)])
    np.testing.assert_array_equal(np.bincount(seen), [rows] * size)
    assert len(set(first)) == rows
    assert {tuple(continuous(seed, 0, rows, size)) for seed in range(9)} != {tuple(first)}


def test_rows_that_forget_start_from_zeros(batches):
    tokens = jnp.asarray(batches[0]["tokens"])
    params, memory = create().params, jnp.ones((ROWS, 6))
    variables = {"params": params, "carry": {"states": [{"h": memory}]}}

    def logits(forget, train=True):
        model = MODEL.clone(forget=forget)
        return model.apply(variables, tokens, train=train, mutable=["carry"], rngs={"dropout": jax.random.key(1)})[0]

    start = MODEL.clone(stateful=False).apply({"params": params}, tokens, train=True)
    goes_on, forgets, some = logits(0.0), logits(1.0), logits(0.5)
    np.testing.assert_allclose(forgets, start, atol=1e-6)
    rows = [np.abs(some - other).max((1, 2)) < 1e-6 for other in (start, goes_on)]
    assert np.all(rows[0] ^ rows[1]) and 0 < rows[0].sum() < ROWS  # each row either starts anew or goes on
    np.testing.assert_allclose(logits(1.0, train=False), goes_on, atol=1e-6)
