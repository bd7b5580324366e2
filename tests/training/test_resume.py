"""A run that is killed at any moment and started again ends as if nothing had happened, bit for bit."""

import json
import signal
import time

import jax
import numpy as np
import pytest

from core.errors import Stopped, UserError
from tests.training import commands, small
from training.checkpoint import read_arrays, steps_in
from training.main import train

pytestmark = pytest.mark.slow

STEPS = 500
TIMINGS = ("seconds", "examples_per_second", "data_wait")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, data_dir):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    code, _, err = commands.run(*command(workdir, data_dir))
    assert code == 0, err
    return workdir


def command(workdir, data_dir):
    return "--config=tests/training/small.py", f"--workdir={workdir}", f"--data_dir={data_dir}"


def interrupt(workdir, data_dir, moment, number):
    """Starts the run, sends signal `number` as soon as `moment()` is true, and returns (exit code, stdout)."""
    process = commands.start(*command(workdir, data_dir))
    deadline = time.monotonic() + 120
    while not moment() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.0005)
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    sent = time.monotonic()
    out, _ = process.communicate(timeout=60)
    return process.returncode, out, time.monotonic() - sent


def rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines() if (workdir / "metrics.jsonl").exists() else []
    return [{key: value for key, value in json.loads(line).items() if key not in TIMINGS} for line in lines]


def results(workdir):
    """Returns results.json without what differs between two equal runs."""
    record = json.loads((workdir / "results.json").read_text())
    return {key: record[key] for key in ("step", "results", "seed", "devices")}


def logged(workdir, step):
    def moment():
        try:
            return any(row["step"] >= step for row in rows(workdir))
        except json.JSONDecodeError:  # a line was just being written
            return False

    return moment


def saving(workdir, after):
    """A save under way whose predecessor is at least of step `after`."""

    def moment():
        folder = workdir / "checkpoints"
        return any("tmp" in path.name for path in folder.glob("*")) and max(steps_in(folder), default=0) >= after

    return moment


def test_killed_and_resumed_is_bit_identical(uninterrupted, data_dir, tmp_path):
    workdir = tmp_path / "killed"
    assert interrupt(workdir, data_dir, logged(workdir, 20), signal.SIGKILL)[0] == -signal.SIGKILL  # before any save
    assert interrupt(workdir, data_dir, saving(workdir, 210), signal.SIGKILL)[0] == -signal.SIGKILL  # evaluated twice
    code, out, seconds = interrupt(workdir, data_dir, logged(workdir, 320), signal.SIGTERM)
    assert code == Stopped.EXIT_CODE and "SIGTERM: saved at step" in out and seconds < 10
    code, out, err = commands.run(*command(workdir, data_dir))
    assert code == 0 and "continuing from step" in out, err

    assert rows(workdir) == rows(uninterrupted)
    assert results(workdir) == results(uninterrupted)
    for folder in ("checkpoints", "best"):
        step = steps_in(uninterrupted / folder)[-1]
        assert steps_in(workdir / folder)[-1] == step
        (a, meta_a), (b, meta_b) = (read_arrays(where / folder / str(step)) for where in (uninterrupted, workdir))
        assert meta_a == meta_b
        assert jax.tree.structure(a) == jax.tree.structure(b)
        for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_array_equal(left, right)


def test_the_finished_command_and_eval_only_repeat_the_numbers(uninterrupted, data_dir):
    before = results(uninterrupted)
    lines = rows(uninterrupted)
    code, _, err = commands.run(*command(uninterrupted, data_dir))
    assert code == 0, err
    assert results(uninterrupted) == before and rows(uninterrupted) == lines
    other = ("--config=tests/training/small.py", "--config.seed=7")
    code, _, err = commands.run(f"--workdir={uninterrupted}", f"--data_dir={data_dir}", "--eval_only", *other)
    assert code == 2 and "was started with another config" in err and "seed: 0 -> 7" in err
    code, out, err = commands.run(f"--workdir={uninterrupted}", f"--data_dir={data_dir}", "--eval_only")
    assert code == 0, err
    for metrics in before["results"].values():
        assert f"{metrics['accuracy']:.4f}" in out and f"{metrics['loss']:.4f}" in out


def test_another_config_is_refused_with_the_difference(uninterrupted, data_dir):
    before = (uninterrupted / "config.json").read_text()
    config = small.get_config()
    config.optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match=r"optimizer.learning_rate: 0.001 -> 0.5") as refusal:
        train(config, str(uninterrupted), str(data_dir))
    assert "\n" not in str(refusal.value)
    assert (uninterrupted / "config.json").read_text() == before


def test_a_damaged_checkpoint_is_passed_over(uninterrupted, data_dir, tmp_path):
    import shutil

    workdir = tmp_path / "damaged"
    shutil.copytree(uninterrupted, workdir)
    newest, previous = steps_in(workdir / "checkpoints")[-1], steps_in(workdir / "checkpoints")[-2]
    good = max(previous, *steps_in(workdir / "best"))
    biggest = max((workdir / "checkpoints" / str(newest)).rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(biggest.read_bytes())
    content[len(content) // 2] ^= 1  # one bit: Orbax alone would not notice
    biggest.write_bytes(content)
    code, out, err = commands.run(*command(workdir, data_dir))
    assert code == 0, err
    assert f"checkpoints/{newest} is damaged" in out and f"continuing from step {good}" in out
    assert (workdir / "checkpoints" / f"damaged-{newest}").is_dir()
    assert results(workdir) == results(uninterrupted)


def test_divergence_stops_and_names_the_step(data_dir, tmp_path):
    workdir = tmp_path / "diverged"
    overrides = (
        "--config.optimizer.name=sgd",
        "--config.optimizer.learning_rate=1e30",
        "--config.model.norm=layers.norm.identity",
    )
    code, _, err = commands.run(*command(workdir, data_dir), *overrides, "--config.optimizer.warmup_steps=60")
    assert code == 1
    assert "step " in err and ("loss is" in err or "grad_norm is" in err)
    step = int(err.split("step ")[1].split(":")[0])
    for saved in steps_in(workdir / "checkpoints"):
        assert saved < step
        assert all(
            np.isfinite(x).all()
            for x in jax.tree.leaves(read_arrays(workdir / "checkpoints" / str(saved))[0]["params"])
        )
