"""bfloat16 by one key: every kind of recipe computes in it, keeps float32 states, and reaches the same accuracy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch.mlp import MLP
from configs import gpt
from tasks.classification import Classification
from tests.arch.architectures import types_of_products
from tests.training import recipes, small
from training import main
from training import state as state_lib
from training.build import example_batch
from training.config import default
from training.run import build_run
from training.step import train_step

SEEDS = range(3)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "name"), recipes.TRAINED, ids=recipes.ids(recipes.TRAINED))
def test_every_kind_of_recipe_computes_in_bfloat16_and_keeps_a_float32_state(recipe, name, recipes_dir):
    config = recipes.small(recipe, name)
    config.train.dtype, config.train.ema_decay = "bfloat16", 0.9
    run = build_run(config, recipes_dir)
    parts = {"task": run.task, "transform": run.transform, "optimizer": run.optimizer, "accumulate": 2}
    step = functools.partial(train_step, model=run.model, ema_decay=0.9, **parts)
    state = jax.eval_shape(run.create_state)
    after, metrics = jax.eval_shape(step, state, example_batch(run.info, 8))
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    assert jnp.bfloat16 not in {x.dtype for x in jax.tree.leaves((state, metrics))}
    inputs = [jnp.zeros(x.shape, x.dtype) for x in run.inputs]
    products = types_of_products(functools.partial(run.model.apply, train=False), state.variables, *inputs)
    assert products.count(jnp.float32) <= 1, products  # the head, which is all of a linear network
    assert jnp.bfloat16 in products or len(products) == 1, products


@pytest.fixture
def digits():
    """Returns the parts of a step on bfloat16 with an average of the weights, a state and a batch."""
    model, optimizer = MLP(widths=(16,), dtype=jnp.bfloat16), optax.sgd(1.0)
    state = state_lib.create(model, optimizer, (jnp.zeros((1, 8, 8, 1)),), jax.random.key(0), ema=True)
    rng = np.random.default_rng(0)
    batch = {"image": rng.random((16, 8, 8, 1), np.float32), "label": rng.integers(0, 10, 16, np.int32)}
    batch["mask"] = np.ones(16, np.float32)
    parts = {"model": model, "task": Classification(), "optimizer": optimizer, "ema_decay": 0.999}
    return parts, state.replace(step=jnp.array(10**6)), batch


@pytest.mark.slow
def test_microbatches_add_up_in_float32(digits):
    parts, state, batch = digits
    one, four = (jax.jit(functools.partial(train_step, **parts, accumulate=n))(state, batch)[0] for n in (1, 4))
    for before, a, b in zip(*map(jax.tree.leaves, (state.params, one.params, four.params)), strict=True):
        np.testing.assert_allclose(b - before, a - before, rtol=0, atol=2**-5 * float(abs(a - before).max()))


def test_an_average_moves_by_less_than_bfloat16_resolves(digits):
    parts, state, batch = digits
    after, _ = jax.jit(functools.partial(train_step, **parts))(state, batch)
    for old, new, average in zip(*map(jax.tree.leaves, (state.params, after.params, after.ema["params"])), strict=True):
        expected = np.float64(old) + 1e-3 * (np.float64(new) - np.float64(old))
        np.testing.assert_allclose(average, expected, rtol=0, atol=1e-7)


def images(folder):
    config = small.get_config()
    config.checkpoint.best, config.optimizer.learning_rate, config.train.steps = "", 3e-3, 200
    return config, "accuracy"


def recurrent(folder):
    """The class is the symbol that occurs first among those above 3, in sequences of numbers."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 8, (1200, 12), np.int32)
    tokens[:, -1] = np.maximum(tokens[:, -1], 4)
    label = tokens[np.arange(1200), (tokens > 3).argmax(1)] - 4
    np.savez(folder / "data.npz", sequence=np.eye(8, dtype=np.float32)[tokens], label=label.astype(np.int64))
    config = default()
    config.data.name = f"npz:{folder}/data.npz"
    config.data.splits = {"train": "train[:80%]", "validation": "", "test": "train[80%:]"}
    config.augment.ops = ()
    config.task.inputs = ("sequence",)
    config.model.name = "rnn.RecurrentClassifier(widths=(32,))"
    config.optimizer.learning_rate, config.optimizer.clip_norm = 1e-2, 1.0
    config.train.steps, config.train.batch_size = 250, 32
    return config, "accuracy"


def attention(folder):
    """Lines that repeat a random word of two letters: "hchchchchchc"."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 2)) for _ in range(2000)]
    (folder / "text.txt").write_text("\n".join(6 * word for word in words))
    config = gpt.get_config("text")
    config.data.name = f"text:{folder}/text.txt"
    config.data.splits.validation, config.data.splits.test = "", "train[90%:]"
    config.data.preprocess = ("tokenize('text', characters(), special=False)", "windows('text', 24, offsets='random')")
    config.model.update(depth=1, width=48, heads=4, dropout=0.0, context=24)
    config.optimizer.learning_rate, config.checkpoint.best = 3e-3, ""
    config.train.update(epochs=0.0, steps=150, batch_size=16)
    return config, "accuracy"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [images, recurrent, attention])
def test_the_accuracy_is_that_of_float32_within_noise(kind, tmp_path):
    """The difference of the means is below three standard errors, of which two percentage points are allowed."""
    config, metric = kind(tmp_path)
    config.eval.every, config.log.writers = 0.0, ()
    config.checkpoint.every = config.log.every = 1000.0  # not before the last step
    scores = {}
    for dtype in ("float32", "bfloat16"):
        config.train.dtype = dtype
        configs = [config.copy_and_resolve_references() for _ in SEEDS]
        for seed, one in zip(SEEDS, configs, strict=True):
            one.seed = seed
        folders = [tmp_path / dtype / str(seed) for seed in SEEDS]
        finished = main.train_side_by_side(configs, folders, tmp_path / dtype / "joint", None)
        scores[dtype] = np.array([run.results["test"][metric] for run in finished])
    error = np.sqrt(sum(x.var(ddof=1) for x in scores.values()) / len(SEEDS))
    difference = abs(scores["float32"].mean() - scores["bfloat16"].mean())
    assert scores["float32"].mean() > 0.5, scores  # it learns
    assert difference < max(3 * error, 0.02), scores
