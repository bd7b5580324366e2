"""Seeds trained together are what they are one by one."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from data.batches import train_batches
from data.errors import UserError
from tests.training import small
from training.parallel import DEVICES
from training.run import Run
from training.seeds import Seeds
from training.step import train_step

SEEDS, STEPS = (0, 7, 1), 4


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


def short(**changes):
    config = small.get_config()
    config.train.update({"steps": STEPS, "batch_size": 16} | changes)
    config.checkpoint.best = ""
    config.optimizer.update(name="sgd", learning_rate=0.05, warmup_steps=1)  # Adam's first steps magnify rounding
    return config


def one_by_one(run: Run):
    """Yields the final state of a run of each seed, on one device."""
    config = run.config.copy_and_resolve_references()
    model = run.model.clone(axis_name=tuple(axis for axis in run.model.axis_name if axis != DEVICES) or None)
    parts = {"model": model, "task": run.task, "optimizer": run.optimizer, "transform": run.transform}
    layout = {"accumulate": config.train.accumulate, "ema_decay": config.train.ema_decay}
    step = jax.jit(functools.partial(train_step, **parts, **layout))
    for config.seed in SEEDS:
        state = dataclasses.replace(run, config=config).create_state()
        for batch in train_batches(run.splits["train"], seed=config.seed, batch_size=16, start=0, stop=STEPS):
            state, _ = step(state, batch)
        yield state


@pytest.mark.parametrize("accumulate", [1, 2])
def test_together_as_one_by_one(accumulate, data_dir):
    """With dropout, mixing, batch statistics and an average of the weights."""
    seeds = Seeds.build(short(accumulate=accumulate), SEEDS, data_dir)
    together, diverged = seeds.train()
    assert not diverged
    for place, one in enumerate(one_by_one(seeds.run)):
        assert int(one.step) == STEPS == int(together.step[place])
        kept = {name: getattr(one, name) for name in ("params", "mutable", "opt_state", "ema")}
        ours = {name: getattr(together, name) for name in kept}
        jax.tree.map(lambda a, b, i=place: np.testing.assert_allclose(a, b[i], rtol=1e-4, atol=1e-5), kept, ours)
    first, second = (jax.tree.leaves(together.params)[-1][i] for i in (0, 1))
    assert np.abs(np.asarray(first) - np.asarray(second)).max() > 1e-3


def test_each_seed_is_evaluated(data_dir):
    seeds = Seeds.build(short(), SEEDS, data_dir)
    results = seeds.evaluate(seeds.create_state())
    assert results.keys() == set(SEEDS)
    assert results[0].keys() == {"validation", "validation_ema", "test", "test_ema"}
    assert len({results[seed]["test"]["loss"] for seed in SEEDS}) == 3


def test_one_seed_that_diverges_disturbs_no_other(data_dir, monkeypatch):
    seeds = Seeds.build(short(), SEEDS, data_dir)
    expected, _ = seeds.train()
    batches = list(seeds.batches())
    broken = [{key: x.copy() for key, x in batch.items()} for batch in batches]
    broken[2]["mask"][1] = np.nan
    monkeypatch.setattr(Seeds, "batches", lambda self: iter(broken))
    state, diverged = seeds.train()
    assert diverged == {7: 3}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[2], b[2], rtol=1e-5, atol=1e-7), expected.params, state.params
    )


@pytest.mark.parametrize(
    ("group", "key", "value"), [("data", "buckets", 2), ("checkpoint", "best", "-validation/loss")]
)
def test_what_cannot_go_together_is_refused(group, key, value, data_dir, monkeypatch):
    config = short()
    config[group][key] = value
    monkeypatch.setattr("training.run.bucketed", lambda *_: None)
    with pytest.raises(UserError, match=f"config.{group}.{key} is .* one by one"):
        Seeds.build(config, SEEDS, data_dir)
