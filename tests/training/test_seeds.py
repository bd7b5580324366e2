"""Seeds trained together are what they are one by one."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from core.errors import UserError
from data.batches import train_batches
from experiments.engine.bases import digits_mlp
from tests.training import small
from training import main
from training.checkpoint import read_arrays
from training.config import validate
from training.display import Display
from training.optimizer import schedule
from training.run import Run, build_run
from training.seeds import Seeds, Trainer, refusal
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


def plain(steps=STEPS):
    """Returns a config that compiles in a moment."""
    config = digits_mlp(steps=steps, batch_size=16)
    config.model.widths = (4,)
    return config


def each(config):
    """Returns the config with each of SEEDS."""
    configs = [config.copy_and_resolve_references() for _ in SEEDS]
    for seed, one in zip(SEEDS, configs, strict=True):
        one.seed = seed
    return configs


def trainer(seeds, folder):
    folders = {place: folder / f"{config.seed}" for place, config in enumerate(seeds.configs)}
    return Trainer(seeds, folders, folder / "together", Display(quiet=True))


def rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    timings = ("seconds", "examples_per_second", "data_wait")
    return [{key: x for key, x in json.loads(line).items() if key not in timings} for line in lines]


def one_by_one(run: Run, seeds=SEEDS):
    """Yields the final state of a run of each seed, on one device."""
    config, model = run.config.copy_and_resolve_references(), run.model
    parts = {"model": model, "task": run.task, "optimizer": run.optimizer, "transform": run.transform}
    layout = {"accumulate": config.train.accumulate, "ema_decay": config.train.ema_decay}
    step = jax.jit(functools.partial(train_step, **parts, **layout))
    for config.seed in seeds:
        state = dataclasses.replace(run, config=config).create_state()
        for batch in train_batches(run.splits["train"], seed=config.seed, batch_size=16, start=0, stop=STEPS):
            state, _ = step(state, batch)
        yield state


@pytest.mark.parametrize("accumulate", [1, 2])
def test_together_as_one_by_one(accumulate, data_dir, tmp_path):
    """With dropout, mixing, batch statistics and an average of the weights."""
    seeds = Seeds.build(each(short(accumulate=accumulate)), data_dir)
    together = trainer(seeds, tmp_path).train()
    for place, one in enumerate(one_by_one(seeds.run)):
        assert int(one.step) == STEPS == int(together.step[place])
        kept = {name: getattr(one, name) for name in ("params", "mutable", "opt_state", "ema")}
        ours = {name: getattr(together, name) for name in kept}
        jax.tree.map(lambda a, b, i=place: np.testing.assert_allclose(a, b[i], rtol=1e-4, atol=1e-5), kept, ours)
    first, second = (jax.tree.leaves(together.params)[-1][i] for i in (0, 1))
    assert np.abs(np.asarray(first) - np.asarray(second)).max() > 1e-3


def test_each_seed_leaves_what_it_leaves_alone(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(main, "_report", lambda *_: None)
    config = plain(steps=7)
    config.train.ema_decay = 0.5
    config.log.update(every=3, gradients=4)
    config.eval.every, config.checkpoint.every = 5, 2
    seeds = Seeds.build(each(config), data_dir)
    together = trainer(seeds, tmp_path)
    together.finish(together.train())
    together.close()
    assert not (tmp_path / "together").exists()
    for config.seed in SEEDS[1:2]:
        ours, alone = tmp_path / f"{config.seed}", tmp_path / f"alone{config.seed}"
        main.train(config, str(alone), data_dir)
        assert (ours / "config.json").read_text() == (alone / "config.json").read_text()
        results = [json.loads((path / "results.json").read_text()) for path in (ours, alone)]
        results = [{key: record[key] for key in ("step", "results")} for record in results]
        assert results[0]["results"].keys() == results[1]["results"].keys() >= {"test", "test_ema"}
        compare(results[0], results[1])
        compare(rows(ours), rows(alone))
        assert main.evaluate_only(str(ours), data_dir) == results[0]["results"]  # as predict.py does, from checkpoints
        (state, meta), (expected, expected_meta) = (read_arrays(path / "checkpoints/7") for path in (ours, alone))
        assert {**meta, "checksums": {}} == {**expected_meta, "checksums": {}}
        compare(state, expected)


def compare(ours, alone):
    """Asserts that two trees are the same, numbers up to rounding."""
    assert jax.tree.structure(ours) == jax.tree.structure(alone)
    jax.tree.map(
        lambda a, b: a == b if isinstance(a, str) else np.testing.assert_allclose(a, b, 1e-3, 1e-5), ours, alone
    )


def test_one_seed_that_diverges_disturbs_no_other(data_dir, tmp_path, monkeypatch):
    config = plain()
    config.log.every, config.checkpoint.every = 2, 3
    seeds = Seeds.build(each(config), data_dir)
    whole = trainer(seeds, tmp_path / "whole")
    expected = whole.train()
    batches = list(seeds.batches())
    broken = [{key: x.copy() for key, x in batch.items()} for batch in batches]
    broken[2]["mask"][1] = np.nan
    monkeypatch.setattr(Seeds, "batches", lambda self, start: iter(broken[start:]))
    for _ in ("begins", "goes on"):
        one = trainer(seeds, tmp_path)
        state = one.train()
        assert one.diverged == {1: "step 3: loss is nan; the runs trained with it went on"}
    one.finish(state)
    for index in (0, 2):
        jax.tree.map(
            lambda a, b, i=index: np.testing.assert_allclose(a[i], b[i], rtol=1e-5, atol=1e-7),
            expected.params,
            state.params,
        )
    assert [row["step"] for row in rows(tmp_path / "7")] == [2] and not (tmp_path / "7/results.json").exists()
    assert [row["step"] for row in rows(tmp_path / "0")[:2]] == [2, 4] and (tmp_path / "0/results.json").exists()


def test_when_all_have_diverged_it_is_over(data_dir, tmp_path, monkeypatch):
    config = plain(steps=100)
    config.log.every = 5
    seeds = Seeds.build(each(config), data_dir)
    batch = next(seeds.batches())
    batch["mask"] *= np.nan
    monkeypatch.setattr(Seeds, "batches", lambda self, start: iter([batch] * 100))
    one = trainer(seeds, tmp_path)
    state = one.train()
    assert one.diverged.keys() == {0, 1, 2} and int(state.step[0]) < 20
    one.finish(state)
    assert not any(path.name == "results.json" for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "grid",
    [
        {"name": ["sgd"], "momentum": [0.9], "clip_norm": [0.5], "learning_rate": [0.1, 0.01, 0.5]},
        {"name": ["adam"], "learning_rate": [0.1, 0.01, 0.5], "b1": [0.9, 0.5, 0.8]},
        {"name": ["adamw"], "learning_rate": [0.1, 0.01, 0.1], "weight_decay": [0.1, 0.1, 0.01]},
        {"name": ["rmsprop"], "momentum": [0.9, 0.5, 0.8]},
        {"name": ["sgd"], "learning_rate": [0.5], "clip_norm": [0.5, 0.1, 0.3]},
        {"name": ["adafactor"], "learning_rate": [0.1, 0.01, 0.5]},  # whose updates do not follow the rate
    ],
)
def test_numbers_of_the_optimiser_together_as_one_by_one(grid, data_dir, tmp_path):
    configs = [plain() for _ in range(3)]
    for number, config in enumerate(configs):
        config.optimizer = {"schedule": "cosine", "warmup_steps": 1}
        config.optimizer.update({key: values[number % len(values)] for key, values in grid.items()})
    seeds = Seeds.build(configs, data_dir)
    folders = {place: tmp_path / f"{place}" for place in range(3)}
    trainer = Trainer(seeds, folders, tmp_path / "together", Display(quiet=True))
    together = trainer.train()
    for place, config in enumerate(configs):
        (alone,) = one_by_one(build_run(config, data_dir), (0,))
        compare(seeds.one(together, place).params, alone.params)
        last = rows(tmp_path / f"{place}")[-1]
        expected = schedule(validate(config).optimizer, STEPS)(STEPS - 1)
        np.testing.assert_allclose(last["learning_rate"], expected, rtol=1e-5)
    first, other = (jax.tree.leaves(seeds.one(together, place).params)[-1] for place in (0, 1))
    assert np.abs(np.asarray(first) - np.asarray(other)).max() > 1e-5


@pytest.mark.parametrize(
    ("optimizer", "other", "message"),
    [
        ({"name": "adagrad"}, {"initial_accumulator_value": 0.5}, "config.optimizer.initial_accumulator_value is"),
        ({"weight_decay": 0.1}, {"weight_decay": 0.0}, r"config.optimizer.weight_decay is 0.0: .* one by one"),
        ({"schedule": "cosine"}, {"schedule": "linear"}, "config.optimizer.schedule is 'cosine': .* one by one"),
        ({"name": "rprop"}, {"learning_rate": 0.2}, "optax.rprop takes no array for config.optimizer.learning_rate"),
        ({"name": "adabelief"}, {"nesterov": True}, "config.optimizer.nesterov is None: .* one by one"),
    ],
)
def test_numbers_that_no_array_can_be_are_refused(optimizer, other, message, data_dir):
    configs = [plain(), plain()]
    for config, more in zip(configs, ({}, other), strict=True):
        config.optimizer = {"learning_rate": 0.1} | optimizer | more
    assert not any(refusal(validate(config)) for config in configs)
    with pytest.raises(UserError, match=message):
        Seeds.build(configs, data_dir)


def test_runs_that_differ_in_more_are_refused(data_dir):
    other = plain()
    other.train.batch_size = 8
    with pytest.raises(UserError, match=r"differ in more than seed and optimiser: train.batch_size: 16 -> 8"):
        Seeds.build([plain(), other], data_dir)


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("data", "buckets", 2),
        ("checkpoint", "best", "-validation/loss"),
        ("parallel", "strategy", "fsdp"),
        ("parallel", "hosts", 2),
        ("parallel", "cpu_devices", 0),
    ],
)
def test_what_cannot_go_together_is_refused(group, key, value):
    config = short()
    config[group][key] = value
    with pytest.raises(UserError, match=f"config.{group}.{key} is .* one by one"):
        Seeds.build(each(config), None)


def test_a_start_from_other_weights_is_refused():
    config = short()
    assert not refusal(validate(config))
    config.init_from = "somewhere"
    assert "config.init_from is 'somewhere'" in refusal(validate(config))


def test_a_folder_of_another_config_is_refused(data_dir, tmp_path):
    trainer(Seeds.build(each(plain()), data_dir), tmp_path).train()
    config = plain()
    config.optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match=r"together is of another config .optimizer.learning_rate: 0.001 -> 0.5"):
        trainer(Seeds.build(each(config), data_dir), tmp_path).train()
