"""The loop around the step: one compilation each, no host reads between logs, every key read, workdir contents."""

import functools
import json
import math
import shutil

import jax
import jax._src.array
import numpy as np
import pytest

from configs import tabular
from core.errors import UserError
from reporting import report
from tests.training import small
from tests.training.recipes import record
from training import run as run_lib
from training.checkpoint import sealed
from training.config import default, leaves, validate
from training.display import Display
from training.evaluate import evaluate
from training.loop import Trainer
from training.main import train
from training.member import NO_BEST
from training.run import build_run
from training.workdir import Workdir, from_json, to_json


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


def short(**train_changes):
    config = small.get_config()
    config.train.steps = 24
    config.eval.every = 12
    config.log.every = 8
    config.checkpoint.every = 12
    config.train.update(train_changes)
    return config


def trainer(config, data_dir, workdir):
    return Trainer(build_run(config, data_dir), [Workdir(str(workdir))], workdir, Display(quiet=True))


@pytest.mark.slow
def test_step_and_evaluation_compile_once_each(data_dir, tmp_path, monkeypatch):
    traces = {"train_step": 0, "eval_step": 0}

    def counted(name, step, *args, **kwargs):
        traces[name] += 1
        return step(*args, **kwargs)

    for name in traces:
        monkeypatch.setattr(run_lib, name, functools.partial(counted, name, getattr(run_lib, name)))
    run = build_run(short(), data_dir)
    traces.update(train_step=0, eval_step=0)  # building the run checks shapes
    one = Trainer(run, [Workdir(str(tmp_path / "run"))], tmp_path / "run", Display(quiet=True))
    state = one.train()
    one.evaluate(state, ["validation", "test"])
    one.close()
    assert traces == {"train_step": 1, "eval_step": 1}


@pytest.mark.slow
def test_nothing_is_read_from_the_device_between_logs(data_dir, tmp_path, monkeypatch):
    config = short()
    config.eval.every, config.checkpoint.every, config.checkpoint.best = 0, 24, ""
    one = trainer(config, data_dir, tmp_path / "run")
    at, reads = [0], set()
    value = jax._src.array.ArrayImpl._value.fget
    monkeypatch.setattr(jax._src.array.ArrayImpl, "_value", property(lambda array: (reads.add(at[0]), value(array))[1]))
    monkeypatch.setattr(one.display, "advance", lambda step: at.__setitem__(0, step))
    one.train()
    one.close()
    assert reads - {0} == {8, 16, 24}  # log.every is 8; before step 1 is initialisation


@pytest.mark.parametrize("count", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (7, 8, 30)), 72])
def test_every_example_is_evaluated_once(count, data_dir, tmp_path):
    config = short()
    config.data.splits.test = f"test[:{count}]"
    one = trainer(config, data_dir, tmp_path)
    state = one.run.parallel.place(one.run.create_state())
    ((metrics, arrays),) = evaluate(one.run, one.eval_step(False), state.variables, one.run.splits["test"])
    labels = one.run.splits["test"].batch(np.arange(count))["label"]
    np.testing.assert_array_equal(arrays["label"], labels)
    assert metrics["accuracy"] == pytest.approx((arrays["prediction"] == labels).mean())
    assert metrics["loss"] == pytest.approx(arrays["loss"].mean(), rel=1e-5)


RECIPES = {
    "small": small.get_config(),
    "tabular-breast_cancer": tabular.get_config("breast_cancer"),
}


@pytest.mark.slow
def test_every_key_of_every_config_is_read(data_dir, tmp_path, monkeypatch):
    everywhere = set()
    for name, recipe in RECIPES.items():
        config = validate(recipe)
        config.unlock()
        config.train.update(batch_size=32, **({"steps": 4} if config.train.steps else {"epochs": 0.15}))
        config.optimizer.warmup_steps, config.eval.every = 0.0, 2.0
        seen = set()
        recorded = record(config, seen)
        with monkeypatch.context() as patch:
            patch.setattr(run_lib.config_lib, "validate", lambda _, given=recorded: given)
            run = build_run(recorded, data_dir)
        one = Trainer(run, [Workdir(str(tmp_path / name))], tmp_path / name, Display(quiet=True))
        with monkeypatch.context() as patch:
            patch.setattr(
                one.members[0].workdir, "begin", lambda *_: None
            )  # writes all keys out: no reading in the sense meant here
            patch.setattr(one.members[0].workdir, "log", lambda *_: None)
            one.train()
        seen |= {"parallel.hosts", "parallel.cpu_devices", "log.writers"}  # read by training.main and Workdir.begin
        seen |= {"train.batch_tokens"}  # read where train.batch_size is 0, see test_batches and test_buckets
        plain = dict(leaves(default()))
        unread = {key for key, value in leaves(config) if value != plain.get(key)} - seen
        assert not unread, f"{name} sets what nothing reads"
        everywhere |= seen
    missing = set(plain) - everywhere
    assert not missing, missing


@pytest.mark.slow
def test_what_a_run_leaves(data_dir, tmp_path):
    workdir = tmp_path / "run"
    command = "python train.py --config=small.py"
    finished = train(short(), str(workdir), data_dir, command)
    report.write(finished, command)
    names = {path.name for path in workdir.iterdir()}
    assert {
        "config.json",
        "info.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "best",
        "results.json",
        "report.html",
    } <= names
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == [8, 16, 24]
    assert {row["split"] for row in rows} == {"train", "validation", "validation_ema", "test", "test_ema"}
    assert all({"loss", "accuracy"} <= set(row) for row in rows)
    left = json.loads((workdir / "results.json").read_text())
    assert left["results"] == finished.results and left["command"] == command and left["seed"] == 0
    assert left["seconds"] > rows[-1]["seconds"] - 1 and left["step"] == finished.step and "jax" in left["versions"]
    status = json.loads((workdir / "status.json").read_text())
    assert status["state"] == "finished" and status["steps"] == 24
    page = (workdir / "report.html").read_text()
    assert "python train.py --config=small.py" in page and "Confusion matrix" in page and "augmented batch" in page


@pytest.mark.slow
def test_a_checkpoint_is_saved_after_the_best_one_that_it_refers_to(data_dir, tmp_path, monkeypatch):
    one = trainer(short(), data_dir, tmp_path / "run")
    best, calls = one.members[0].best_checkpoint, []
    for checkpoints, name in ((best, "best"), (one.checkpoints, "newest")):
        save = checkpoints.save

        def recorded(step, *args, save=save, name=name):
            calls.append((name, step))
            save(step, *args)

        monkeypatch.setattr(checkpoints, "save", recorded)
    wait = best.wait
    monkeypatch.setattr(best, "wait", lambda: (calls.append("wait"), wait()))
    one.train()
    one.close()
    assert calls[:3] == [("best", 12), "wait", ("newest", 12)]
    assert calls[-2:] == ["wait", ("newest", 24)]


@pytest.mark.slow
def test_a_best_checkpoint_that_is_lost(data_dir, tmp_path, capsys):
    one = trainer(short(), data_dir, tmp_path / "run")
    one.train()
    one.close()
    expected = one.members[0].best["step"]
    checkpoint = tmp_path / "run" / "best" / str(expected)
    older = json.loads((checkpoint / "meta" / "metadata").read_text())
    best = older["members"]["0"]["best"] = {"step": expected - 1, "value": 0.0, "worse": 0}
    again = trainer(short(), data_dir, tmp_path / "run")
    again.restore()
    assert again.members[0].best == one.members[0].best
    again.close()

    (checkpoint / "meta" / "metadata").write_text(json.dumps(sealed(older)))
    checkpoint.rename(checkpoint.with_name(str(expected - 1)))
    for held in (best, NO_BEST):
        again = Trainer(one.run, [Workdir(str(tmp_path / "run"))], tmp_path / "run", Display())
        again.restore()
        again.close()
        out = capsys.readouterr().out
        assert (
            again.members[0].best == held and f"best/{expected} is missing" in out and f"of step {held['step']}" in out
        )
        shutil.rmtree(tmp_path / "run" / "best")


@pytest.mark.parametrize(("metrics", "words"), [({"accuracy": math.nan}, "is NaN"), ({"loss": 1.0}, "does not exist")])
def test_a_watched_metric_without_a_value(metrics, words, data_dir, tmp_path, monkeypatch):
    one = trainer(short(), data_dir, tmp_path)
    monkeypatch.setattr(one, "evaluate", lambda *_: [({"validation_ema": metrics}, {})])
    with pytest.raises(UserError, match=f"'validation_ema/accuracy' {words} at step 12") as refusal:
        one._evaluate(one.restore()[0], 12)
    assert "\n" not in str(refusal.value) and one.members[0].best == NO_BEST


def test_numbers_that_are_not_finite_are_null_in_files():
    row = {"step": 3, "loss": math.nan, "norms": [1.0, math.inf]}
    text = to_json(row)
    assert json.loads(text) == {"step": 3, "loss": None, "norms": [1.0, None]}
    again = from_json(text)
    assert again["step"] == 3 and math.isnan(again["loss"]) and math.isnan(again["norms"][1])


@pytest.mark.slow
@pytest.mark.parametrize(("watched", "evaluated"), [("validation/accuracy", [5, 10, 12]), ("", [5, 10])])
def test_the_weights_of_the_last_step_may_be_the_best(watched, evaluated, data_dir, tmp_path):
    config = short(steps=12)
    config.eval.every, config.checkpoint.best = 5, watched
    one = trainer(config, data_dir, tmp_path / "run")
    one.train()
    one.close()
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "validation"] == evaluated


@pytest.mark.slow
def test_early_stopping_ends_the_run_and_stays_ended(data_dir, tmp_path):
    config = short(steps=400, patience=2)
    config.eval.every, config.optimizer.learning_rate = 4, 0.0  # nothing ever gets better
    config.model.norm = "layers.norm.identity"  # BatchNorm's averages would still move
    one = trainer(config, data_dir, tmp_path / "run")
    one.train()
    one.close()
    assert one.members[0].best["step"] == 4 and max(one.checkpoints.manager.all_steps()) == 12
    again = trainer(config, data_dir, tmp_path / "run")
    state = again.train()
    again.close()
    assert int(again.run.parallel.read(state.step)) == 12
