"""Training in length buckets: a bounded number of compilations, exact resume, and evaluation as without buckets."""

import functools

import jax
import numpy as np
import pytest

import data
from core.info import Info, Key
from data.splits import ArraySplit, Ragged
from tasks.sequence import TokenClassification
from training import run as run_lib
from training.config import default
from training.display import Display
from training.evaluate import evaluate
from training.loop import Trainer
from training.run import build_run
from training.workdir import Workdir

pytestmark = pytest.mark.slow

COUNTS, WIDTH, BUCKETS = {"train": 150, "validation": 45, "test": 20}, 24, 4


def make_split(seed, count, most):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, most + 1, count).astype(np.int32)
    mask = np.arange(WIDTH) < lengths[:, None]
    tokens = (random.integers(1, 7, (count, WIDTH)) * mask).astype(np.int32)
    labels = (np.cumsum(tokens, axis=1) % 5 * mask).astype(np.int32)
    offsets = np.cumsum([0, *lengths])
    ragged = {key: Ragged(values[mask], offsets) for key, values in (("tokens", tokens), ("labels", labels))}
    return ArraySplit({"number": np.arange(count, dtype=np.int32), **ragged}, dict.fromkeys(ragged, WIDTH))


def load(config, data_dir, trained=None):
    """Returns a tagger's splits, of which the last has a sequence longer than any other."""
    most = {"train": 20, "validation": 20, "test": WIDTH}
    splits = {name: make_split(seed, COUNTS[name], most[name]) for seed, name in enumerate(COUNTS)}
    classes = {"labels": tuple("01234")}
    keys = {
        key: Key(values.shape[1:], values.dtype.name, classes=classes.get(key, ()))
        for key, values in splits["train"].arrays.items()
    }
    return splits, Info("running sum", COUNTS, keys)


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.setattr(data, "load", load)
    config = default()
    config.model.name = "rnn.RecurrentNetwork"
    config.model.vocab_size, config.model.widths, config.model.dropout = 7, (8,), 0.1
    config.task.name = "sequence.TokenClassification"
    config.task.inputs = ("tokens", "tokens_lengths")
    config.data.buckets = BUCKETS
    config.data.splits.validation = "validation"
    config.train.steps, config.train.batch_size = 40, 16
    config.eval.every, config.log.every, config.checkpoint.every = 20, 10, 17
    return config


class Lines(Display):
    def __init__(self):
        super().__init__(quiet=True)
        self.said = []

    def say(self, text):
        self.said.append(text)


def trainer(config, workdir):
    return Trainer(build_run(config, None), [Workdir(str(workdir))], workdir, Lines())


def test_as_many_compilations_as_buckets(recipe, tmp_path, monkeypatch):
    traces = {"train_step": 0, "eval_step": 0}

    def counted(name, step, *args, **kwargs):
        traces[name] += 1
        return step(*args, **kwargs)

    for name in traces:
        monkeypatch.setattr(run_lib, name, functools.partial(counted, name, getattr(run_lib, name)))
    run = build_run(recipe, None)
    traces.update(train_step=0, eval_step=0)  # building the run checks shapes
    one = Trainer(run, [Workdir(str(tmp_path))], tmp_path, Lines())
    state = one.train()
    assert traces == {"train_step": BUCKETS, "eval_step": BUCKETS}
    one.evaluate(state, ["train", "validation", "test"])
    one.close()
    assert traces == {"train_step": BUCKETS, "eval_step": BUCKETS + 1}  # one for what is longer than all training
    assert f"{BUCKETS} shapes to compile" in str(run.train_split)


def test_resumed_run_is_bit_identical(recipe, tmp_path, monkeypatch):
    recipe.data.buckets, recipe.eval.every, recipe.train.steps, recipe.checkpoint.every = 2, 0, 24, 9

    def finish(workdir):
        one = trainer(recipe, workdir)
        state = one.run.parallel.take(one.train())
        one.close()
        return state, "\n".join(map(str, one.display.said))

    class Killed(Exception):
        pass

    def advance(display, step):
        if step == 14:
            raise Killed

    whole, _ = finish(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Lines, "advance", advance)
        one = trainer(recipe, tmp_path / "killed")
        with pytest.raises(Killed):
            one.train()
        one.close()
    resumed, said = finish(tmp_path / "killed")
    assert "continuing from step 9" in said
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(resumed.params), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("strategy", ["pmap", "fsdp"])
def test_evaluation_is_the_same_as_without_buckets(recipe, strategy, monkeypatch):
    recipe.parallel.strategy = strategy

    def run_evaluation(buckets):
        recipe.data.buckets = buckets
        run = build_run(recipe, None)
        variables = run.parallel.place(run.create_state()).variables
        return evaluate(run, run.eval_step(), variables, run.splits["test"])[0]

    def with_arrays(task, outputs, batch):
        score = score_of(task, outputs, batch)
        return score._replace(arrays={**score.arrays, "number": batch["number"], "labels": batch["labels"]})

    score_of = TokenClassification.score
    monkeypatch.setattr(TokenClassification, "score", with_arrays)

    (metrics, arrays), (plain_metrics, plain_arrays) = run_evaluation(BUCKETS), run_evaluation(0)
    np.testing.assert_array_equal(arrays["number"], np.arange(COUNTS["test"]))
    np.testing.assert_array_equal(arrays["labels"], make_split(2, COUNTS["test"], WIDTH).arrays["labels"])
    assert metrics.keys() == plain_metrics.keys() and arrays.keys() == plain_arrays.keys()
    for name in metrics:
        assert metrics[name] == pytest.approx(plain_metrics[name], abs=1e-6, rel=1e-6)
    for name in arrays:
        np.testing.assert_allclose(arrays[name], plain_arrays[name], rtol=1e-5, atol=1e-6)


def test_batches_of_tokens_set_sizes_and_steps(recipe):
    recipe.train.batch_size, recipe.train.batch_tokens, recipe.train.accumulate = 0, 400, 1
    recipe.eval.every, recipe.train.steps, recipe.checkpoint.every = 0, 12, 5
    run = build_run(recipe, None)
    sizes = run.batch_size(run.train_split)
    assert len(set(sizes)) > 1 and all(size % jax.device_count() == 0 for size in sizes)
    assert run.batch_size(run.train_split, "eval") == sizes
    assert run.examples_per_step == pytest.approx(
        150 / sum(len(part) / size for part, size in zip(run.train_split.members, sizes, strict=True))
    )
    recipe.train.steps, recipe.train.epochs = 0, 2.0
    assert build_run(recipe, None).steps == round(2 * 150 / run.examples_per_step)
