"""The procedural sets: what every example must satisfy, and ListOps against a plain recursive reading of its rules."""

import functools
import random

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import data
from configs import sequences as recipes
from core.errors import UserError
from core.vocabulary import Vocabulary
from data.batches import train_batches
from data.builders import listops, sequences
from tasks.regression import Regression
from tests.data.infos import class_names, shapes
from training import state as state_lib
from training.run import build_run
from training.step import train_step

pytestmark = pytest.mark.slow


@pytest.fixture
def load(config, data_dir):
    """Returns a loader: name -> (arrays of each split, info)."""

    def load(name):
        splits, info = data.load(config(name, validation="validation", test="test"), data_dir)
        return {split: values.arrays for split, values in splits.items()}, info

    return load


def rows(arrays, key):
    return {row.tobytes() for row in arrays[key]}


def assert_splits_differ(splits, key):
    assert not rows(splits["train"], key) & (rows(splits["validation"], key) | rows(splits["test"], key))
    assert not rows(splits["validation"], key) & rows(splits["test"], key)


def test_adding(load):
    splits, info = load("adding/20")
    assert info.sizes == {"train": 50_000, "validation": 1_000, "test": 1_000}
    assert shapes(info) == {"inputs": ((20, 2), "float32"), "target": ((), "float32")}
    assert_splits_differ(splits, "inputs")
    values, markers = np.moveaxis(splits["train"]["inputs"], -1, 0)
    assert values.min() >= 0 and values.max() < 1 and set(np.unique(markers)) == {0, 1}
    assert (markers.sum(1) == 2).all()
    np.testing.assert_allclose(splits["train"]["target"], values[markers == 1].reshape(-1, 2).sum(1), rtol=1e-6)
    np.testing.assert_allclose(markers.mean(0), np.full(20, 2 / 20), atol=5e-3)  # every position as often
    np.testing.assert_allclose(info.keys["target"].statistics["mean"], 1, atol=0.01)
    np.testing.assert_allclose(info.keys["target"].statistics["std"] ** 2, 1 / 6, atol=0.003)


def test_copy_memory(load):
    splits, info = load("copy_memory/20")
    assert info.sizes == {"train": 10_000, "validation": 1_000, "test": 1_000}
    assert {key: record.shape for key, record in info.keys.items()} == dict.fromkeys(
        ("tokens", "labels", "answer_mask"), (40,)
    )
    assert {info.keys[key].num_classes for key in ("tokens", "labels")} == {10}
    assert_splits_differ(splits, "tokens")
    tokens, labels, answer = (splits["train"][key] for key in ("tokens", "labels", "answer_mask"))
    assert tokens[:, :10].min() == 1 and tokens[:, :10].max() == 8
    assert (tokens[:, 10:29] == 0).all() and (tokens[:, 29:] == 9).all()
    assert (labels[:, :30] == 0).all() and (answer == (np.arange(40) >= 30)).all()
    np.testing.assert_array_equal(labels[:, 30:], tokens[:, :10])


@pytest.mark.parametrize(("name", "windows"), [("6a", [(10, 20), (50, 60)]), ("6b", [(10, 20), (33, 43), (66, 76)])])
def test_temporal_order(load, name, windows):
    splits, info = load(f"temporal_order/{name}")
    symbols = np.array(list(" EBabcdXY"))
    assert info.sizes["test"] == 2560 and len(class_names(info)) == 2 ** len(windows)
    test = splits["test"]
    assert set(test["tokens_lengths"]) == set(range(100, 111))
    np.testing.assert_array_equal(test["tokens_mask"].sum(1), test["tokens_lengths"])
    for tokens, length, label in zip(test["tokens"], test["tokens_lengths"], test["label"], strict=True):
        text = "".join(symbols[tokens[:length]])
        places = [i for i, symbol in enumerate(text) if symbol in "XY"]
        assert text[0] == "E" and text[-1] == "B" and not set(text[1:-1]) - set("abcdXY")
        assert len(places) == len(windows)
        assert all(low <= place <= high for place, (low, high) in zip(places, windows, strict=True))
        assert "".join(text[place] for place in places) == class_names(info)[label]
    np.testing.assert_allclose(np.bincount(test["label"]) / 2560, 1 / len(class_names(info)), atol=0.03)


def test_string_reversal(load):
    splits, info = load("string_reversal/20")
    assert info.keys["source"].vocabulary == info.keys["target"].vocabulary == Vocabulary(29, pad=0, bos=1, eos=2)
    assert_splits_differ(splits, "source")
    test = splits["test"]
    assert set(test["source_lengths"]) == set(range(10, 21))
    for i, length in enumerate(test["source_lengths"]):
        source, target = test["source"][i], test["target"][i]
        assert test["target_lengths"][i] == length + 2 == test["target_mask"][i].sum()
        assert source[:length].min() > sequences.EOS and not source[length:].any() and not target[length + 2 :].any()
        assert target[: length + 2].tolist() == [sequences.BOS, *source[:length][::-1], sequences.EOS]


def value_of(tokens):
    """Returns the value of a ListOps expression, read token by token."""
    open_lists = [(None, [])]
    for token in tokens:
        if token == "]":
            operator, values = open_lists.pop()
            results = {"[MIN": min, "[MAX": max, "[SM": lambda v: sum(v) % 10, "[MED": lambda v: int(np.median(v))}
            open_lists[-1][1].append(results[operator](values))
        elif token.startswith("["):
            open_lists.append((token, []))
        else:
            open_lists[-1][1].append(int(token))
    ((_, (value,)),) = open_lists
    return value


def test_listops(load):
    splits, info = load("listops/small")
    assert info.sizes == {"train": 10_000, "validation": 1_000, "test": 1_000}
    assert class_names(info) == tuple("0123456789")
    assert_splits_differ(splits, "tokens")
    assert len(rows(splits["train"], "tokens")) == 10_000
    train = splits["train"]
    assert train["tokens_lengths"].min() == 11 and train["tokens_lengths"].max() == 99
    seen = set()
    for tokens, length, label in list(zip(train["tokens"], train["tokens_lengths"], train["label"], strict=True))[
        :2000
    ]:
        text = [listops.VOCABULARY[token] for token in tokens[:length]]
        assert value_of(text) == label and not tokens[length:].any()
        seen.update(text)
    assert seen == set(listops.VOCABULARY[1:])


def drawn_recursively(numbers, depth, max_depth, max_args):
    """Returns the length and depth of one tree of the published generator."""
    if depth == max_depth or numbers.random() > 0.25:
        return 1, depth
    below = [drawn_recursively(numbers, depth + 1, max_depth, max_args) for _ in range(numbers.randint(2, max_args))]
    return 2 + sum(length for length, _ in below), max(depth for _, depth in below)


def test_listops_has_the_distribution_of_the_published_generator():
    parameters = listops.Parameters(name="", min_length=0, max_length=10**6, max_depth=5, max_args=6, sizes={})
    expressions, values = listops.draw_expressions(np.random.default_rng(0), 20_000, parameters)
    assert len(expressions) == len(values) == 20_000
    numbers = random.Random(0)
    expected = np.array([drawn_recursively(numbers, 1, 5, 6) for _ in range(20_000)])
    lengths = np.array([len(tokens) for tokens in expressions])
    nesting = np.where(
        np.concatenate(expressions) == listops.CLOSE, -1, np.concatenate(expressions) >= listops.OPERATOR
    )
    deepest = np.maximum.reduceat(1 + np.cumsum(nesting), np.r_[0, np.cumsum(lengths)[:-1]])
    depths = [np.bincount(each, minlength=6) / 20_000 for each in (deepest, expected[:, 1])]
    np.testing.assert_allclose(*depths, atol=0.015)
    np.testing.assert_allclose(lengths.mean(), expected[:, 0].mean(), rtol=0.05)
    np.testing.assert_allclose(*(np.quantile(each, (0.95, 0.99)) for each in (lengths, expected[:, 0])), rtol=0.1)
    assert deepest.max() == 5
    digits = np.concatenate(expressions)
    np.testing.assert_allclose(np.bincount(digits)[1:11] / (digits <= 10).sum(), np.full(10, 0.1), atol=5e-3)
    operators = np.bincount(digits)[11:15]
    np.testing.assert_allclose(operators / operators.sum(), np.full(4, 0.25), atol=0.02)


def test_full_listops_is_declared_with_the_published_parameters():
    full = listops.ListOps.builder_configs["full"]
    assert (full.min_length, full.max_length, full.max_depth, full.max_args) == (500, 2000, 10, 10)
    assert full.sizes == {"train": 96_000, "validation": 2_000, "test": 2_000}
    expressions, values = listops.draw_expressions(np.random.default_rng(0), 2_000, full)
    assert len(expressions) > 5
    for tokens, value in zip(expressions, values, strict=True):
        assert 500 < len(tokens) < 2000
        assert value_of([listops.VOCABULARY[token] for token in tokens]) == value


@pytest.mark.parametrize("builder", [sequences.CopyMemory, sequences.StringReversal, listops.ListOps])
def test_the_same_examples_every_time(builder, tmp_path):
    one, two = (builder(data_dir=tmp_path / name)._draw(np.random.default_rng(0), 50) for name in "ab")
    other = builder(data_dir=tmp_path)._draw(np.random.default_rng(1), 50)
    for key in one:
        assert all(np.array_equal(a, b) for a, b in zip(one[key], two[key], strict=True))
    first = next(iter(one))
    assert any(not np.array_equal(a, b) for a, b in zip(one[first], other[first], strict=True))


@pytest.mark.parametrize(
    ("name", "hint"), [("adding/199", "100"), ("temporal_order/6", "6b"), ("digits/small", "none")]
)
def test_an_unknown_config_is_refused(config, data_dir, name, hint):
    with pytest.raises(UserError, match=f"no config.*{hint}"):
        data.load(config(name), data_dir)


@pytest.mark.parametrize(
    ("name", "smaller", "width"),
    [
        ("adding", "adding/20", 1),
        ("copy_memory", "copy_memory/20", 10),
        ("temporal_order", "temporal_order/6a", 4),
        ("listops", "listops/small", 10),
    ],
)
def test_every_recipe_fits_its_data_model_and_task(name, smaller, width, data_dir):
    recipe = recipes.get_config(name)
    assert recipe.data.name.partition("/")[0] == smaller.partition("/")[0]
    recipe.data.name = smaller
    run = build_run(recipe, data_dir)
    assert run.model.num_classes == width
    assert run.model.vocab_size is None or all(
        split.arrays["tokens"].max() == run.model.vocab_size - 1 for split in run.splits.values()
    )


def test_an_unknown_recipe_is_refused():
    with pytest.raises(UserError, match="did you mean 'adding'"):
        recipes.get_config("addition")


class LSTM(nn.Module):
    @nn.compact
    def __call__(self, inputs, *, train: bool):
        return nn.Dense(1)(nn.RNN(nn.OptimizedLSTMCell(32))(inputs)[:, -1])


def test_an_lstm_learns_to_add(config, data_dir):
    """The mean squared error falls far below the 1/6 of a constant answer."""
    splits, info = data.load(config("adding/20"), data_dir)
    task = Regression(inputs=("inputs",)).bind(info)
    model, optimizer = LSTM(), optax.adam(5e-3)
    state = state_lib.create(model, optimizer, (jnp.zeros((1, 20, 2)),), jax.random.key(0))
    step = jax.jit(functools.partial(train_step, model=model, task=task, optimizer=optimizer), donate_argnums=0)
    errors = []
    for batch in train_batches(splits["train"], seed=0, batch_size=64, start=0, stop=600):
        state, metrics = step(state, batch)
        errors.append(metrics["loss"][0] / metrics["loss"][1])
    errors = task.std**2 * np.array(jax.device_get(errors))
    assert errors[:20].mean() > 0.1 and errors[-50:].mean() < 0.01
