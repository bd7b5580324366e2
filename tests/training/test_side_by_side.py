"""Runs side by side are what they are one by one."""

import functools
import json
import re

import jax
import numpy as np
import pytest

from configs import text
from core.errors import Diverged, UserError
from data.batches import train_batches
from experiments.engine.bases import digits_mlp
from tests.training import recipes, small
from training import main
from training.checkpoint import read_arrays, steps_in
from training.config import validate
from training.display import Display
from training.loop import Trainer
from training.optimizer import schedule
from training.run import Run, build_run
from training.side_by_side import SideBySide, refusal
from training.step import train_step
from training.workdir import Workdir

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


def built(configs, data_dir):
    return build_run(configs[0], data_dir, configs[1:])


def trainer(run, folder, names=None):
    workdirs = [Workdir(str(folder / str(name))) for name in names or [config.seed for config in run.configs]]
    return Trainer(run, workdirs, folder / "together", Display(quiet=True))


def rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    timings = ("seconds", "examples_per_second", "data_wait")
    return [{key: x for key, x in json.loads(line).items() if key not in timings} for line in lines]


def one_by_one(run: Run, seeds=SEEDS):
    """Yields the final state of a run of each seed, on one device."""
    parts = {"model": run.model, "task": run.task, "optimizer": run.optimizer, "transform": run.transform}
    step = jax.jit(functools.partial(train_step, **parts, **run.step_options))
    for seed in seeds:
        state = run.create_state(seed)
        for batch in train_batches(run.splits["train"], seed=seed, batch_size=16, start=0, stop=STEPS):
            state, _ = step(state, batch)
        yield state


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.slow
def test_together_as_one_by_one(accumulate, data_dir, tmp_path):
    """With dropout, mixing, batch statistics and an average of the weights."""
    run = built(each(short(accumulate=accumulate)), data_dir)
    together = trainer(run, tmp_path).train()
    for place, one in enumerate(one_by_one(run)):
        assert int(one.step) == STEPS == int(together.step[place])
        kept = {name: getattr(one, name) for name in ("params", "mutable", "opt_state", "ema")}
        ours = {name: getattr(together, name) for name in kept}
        jax.tree.map(lambda a, b, i=place: np.testing.assert_allclose(a, b[i], rtol=1e-4, atol=1e-5), kept, ours)
    first, second = (jax.tree.leaves(together.params)[-1][i] for i in (0, 1))
    assert np.abs(np.asarray(first) - np.asarray(second)).max() > 1e-3


@pytest.mark.slow
def test_decompositions_are_not_batched(data_dir):
    """Several batched ones in one program wait for each other for ever on a CPU with few cores (jax 0.10)."""
    config = plain()
    config.model.kernel_init = "nn.initializers.orthogonal()"
    run = built(each(config), data_dir)
    program = str(jax.make_jaxpr(lambda: run.create_states(print))())
    shapes = re.findall(r"f32\[([\d,]+)\] \w+:f32\[[\d,]+\] = qr\[", program)
    assert shapes == ["64,4", "10,4"]


def test_each_seed_leaves_what_it_leaves_alone(data_dir, tmp_path):
    """Its best checkpoint, and that it stops when its patience has ended, included."""
    config = plain(steps=21)
    config.train.update(ema_decay=0.5, patience=2)
    config.log.update(every=3, gradients=4)
    config.eval.every, config.checkpoint.every = 3, 2
    config.checkpoint.best, config.optimizer.learning_rate = "validation/accuracy", 0.3
    configs = each(config)
    paths = [tmp_path / f"{seed}" for seed in SEEDS]
    finished = main.train_side_by_side(configs, paths, tmp_path / "together", data_dir)
    assert not (tmp_path / "together").exists()
    ends = []
    for config, ours, one in zip(configs, paths, finished, strict=True):
        alone = tmp_path / f"alone{config.seed}"
        expected = main.train(config, str(alone), data_dir)
        assert (ours / "config.json").read_text() == (alone / "config.json").read_text()
        assert (one.step, one.label) == (expected.step, expected.label)
        compare(one.results, expected.results)
        compare(rows(ours), rows(alone))
        last = steps_in(alone / "checkpoints")[-1]
        assert steps_in(ours / "checkpoints")[-1] == last
        ends.append(last)
        for name in (f"checkpoints/{last}", one.label):
            (state, meta), (state_alone, meta_alone) = (read_arrays(path / name) for path in (ours, alone))
            assert meta["members"].keys() == meta_alone["members"].keys()
            compare(state, state_alone)
        compare(main.evaluate_only(str(ours), data_dir), one.results)
    assert len(set(ends)) > 1  # they stop after different steps


@pytest.mark.slow
def test_batches_of_different_buckets_are_padded(recipes_dir, tmp_path):
    config = recipes.small(text, "clinc_oos_recurrent")
    config.model.dropout, config.checkpoint.best, config.optimizer.name = 0.0, "", "sgd"
    config.train.steps, config.data.buckets = 4, 2
    configs = each(config)
    run = built(configs, recipes_dir)
    streams = trainer(run, tmp_path)._streams(0)
    assert len({batch["text"].shape for stream in streams for batch in stream}) == 2
    together = trainer(run, tmp_path).train()
    for place, config in enumerate(configs):
        alone = build_run(config, recipes_dir)
        one = Trainer(
            alone, [Workdir(str(tmp_path / f"alone{place}"))], tmp_path / f"alone{place}", Display(quiet=True)
        )
        state = alone.parallel.take(one.train())
        compare(run.parallel.take_one(together, place).params, state.params)


def compare(ours, alone):
    """Asserts that two trees are the same, numbers up to rounding."""
    assert jax.tree.structure(ours) == jax.tree.structure(alone)
    jax.tree.map(
        lambda a, b: a == b if isinstance(a, str) else np.testing.assert_allclose(a, b, 1e-3, 1e-5), ours, alone
    )


def breaks(run, monkeypatch, place=slice(None), step=1):
    """Makes the masks of the runs at `place` NaN from a step on."""
    original, broken = SideBySide.batches, iter(range(1, 10**6))

    def batches(self, *streams):
        for batch in original(self, *streams):
            if len(streams) > 1 and next(broken) >= step:
                batch["mask"] = batch["mask"].at[place].set(np.nan)
            yield batch

    monkeypatch.setattr(SideBySide, "batches", batches)


@pytest.mark.slow
def test_one_seed_that_diverges_disturbs_no_other(data_dir, tmp_path, monkeypatch):
    config = plain()
    config.log.every, config.checkpoint.every = 2, 3
    run = built(each(config), data_dir)
    expected = trainer(run, tmp_path / "whole").train()
    breaks(run, monkeypatch, place=1, step=3)
    one = trainer(run, tmp_path)
    state = one.train()
    one.close()
    assert [member.diverged for member in one.members] == ["", "step 3: loss is nan", ""]
    again = trainer(run, tmp_path)  # from the checkpoint of the last step
    again.train()
    assert [member.diverged for member in again.members] == ["", "step 3: loss is nan", ""]
    finished = main._finish(again, state)
    again.close()
    for index in (0, 2):
        jax.tree.map(
            lambda a, b, i=index: np.testing.assert_allclose(a[i], b[i], rtol=1e-5, atol=1e-7),
            expected.params,
            state.params,
        )
    assert len(finished) == 2
    assert [row["step"] for row in rows(tmp_path / "7")] == [2] and not (tmp_path / "7/results.json").exists()
    assert [row["step"] for row in rows(tmp_path / "0")[:2]] == [2, 4] and (tmp_path / "0/results.json").exists()
    assert json.loads((tmp_path / "7/status.json").read_text())["state"] == "diverged"


def test_when_all_have_diverged_it_is_over(data_dir, tmp_path, monkeypatch):
    config = plain(steps=100)
    config.log.every = 5
    run = built(each(config), data_dir)
    breaks(run, monkeypatch)
    one = trainer(run, tmp_path)
    with pytest.raises(Diverged, match="step 1: loss is nan; stopped, no checkpoint was saved before"):
        one.train()
    one.close()
    assert not any(path.name == "results.json" for path in tmp_path.rglob("*"))


@pytest.mark.slow
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
    run = built(configs, data_dir)
    together = trainer(run, tmp_path, range(3)).train()
    for place, config in enumerate(configs):
        (alone,) = one_by_one(build_run(config, data_dir), (0,))
        compare(run.parallel.take_one(together, place).params, alone.params)
        last = rows(tmp_path / f"{place}")[-1]
        expected = schedule(validate(config).optimizer, STEPS)(STEPS - 1)
        np.testing.assert_allclose(last["learning_rate"], expected, rtol=1e-5)
    first, other = (jax.tree.leaves(run.parallel.take_one(together, place).params)[-1] for place in (0, 1))
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
        built(configs, data_dir)


def test_runs_that_differ_in_more_are_refused(data_dir):
    other = plain()
    other.train.batch_size = 8
    with pytest.raises(UserError, match=r"may differ in seed and optimizer only, not in train.batch_size: 16 -> 8"):
        built([plain(), other], data_dir)


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("parallel", "strategy", "fsdp"),
        ("parallel", "hosts", 2),
        ("parallel", "cpu_devices", 0),
    ],
)
def test_what_cannot_go_together_is_refused(group, key, value):
    config = short()
    config[group][key] = value
    with pytest.raises(UserError, match=f"config.{group}.{key} is .* one by one"):
        built(each(config), None)


def test_a_folder_of_another_config_is_refused(data_dir, tmp_path):
    trainer(built(each(plain()), data_dir), tmp_path).train()
    config = plain()
    config.optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match=r"another config .optimizer.learning_rate: 0.001 -> 0.5"):
        trainer(built(each(config), data_dir), tmp_path).train()
