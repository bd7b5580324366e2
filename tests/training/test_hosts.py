"""Two real processes make the same run as two devices of one."""

import json
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from core.errors import Stopped, UserError
from tests.training import commands
from training import config, parallel
from training.checkpoint import read_arrays, read_meta, sealed, steps_in

pytestmark = pytest.mark.slow

TWO = "--config.parallel.hosts=2"
BUCKETS = ("--config=experiments/bahdanau_attention.py:cpu,fixed_vector-10", "--config.data.buckets=2")


# the second writes strings, too
@pytest.mark.parametrize(("recipe", "starts"), [(("--config=tests/training/small.py",), 2), (BUCKETS, 1)])
def test_two_hosts_train_save_and_resume_as_one(recipe, starts, tmp_path):
    shortened = ("--config.train.steps=24", "--config.eval.every=12", "--config.checkpoint.every=12")
    common = (*recipe, *shortened, f"--data_dir={tmp_path / 'tfds'}")
    one_process = ("--config.parallel.cpu_devices=2", f"--workdir={tmp_path / 'one'}")
    code, out, err = commands.run(*common, *one_process, NPROC="2")  # a thread a device, as users have it
    assert code == 0, err
    assert "2 x cpu" in out

    for _ in range(starts):  # the second time it only restores and evaluates
        hosts = commands.start_hosts(*common, TWO, f"--workdir={tmp_path / 'two'}")
        outputs = [host.communicate(timeout=200) for host in hosts]
        assert [host.returncode for host in hosts] == [0, 0], outputs
    assert "2 hosts" in outputs[0][0] and ("continuing from step 24" in outputs[0][0]) == (starts > 1)

    one, two = (read_arrays(tmp_path / name / "checkpoints" / "24")[0] for name in ("one", "two"))
    for part in ("params", "mutable", "ema"):
        for a, b in zip(jax.tree.leaves(one[part]), jax.tree.leaves(two[part]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    lines = [(tmp_path / name / "metrics.jsonl").read_text().count("\n") for name in ("one", "two")]
    assert lines[0] == lines[1]
    results = [json.loads((tmp_path / name / "results.json").read_text())["results"]["test"] for name in ("one", "two")]
    assert results[0] == pytest.approx(results[1], abs=1e-3)


def test_a_checkpoint_that_one_host_cannot_read_and_other_numbers_of_hosts(tmp_path):
    """Sharded states, of which each host reads its part."""
    short = (
        "--config.train.steps=16",
        "--config.train.ema_decay=0.0",
        "--config.eval.every=0",
        "--config.checkpoint.best=",
        "--config.log.writers=()",
    )
    common = ("--config=tests/training/small.py", "--config.checkpoint.every=4", "--config.parallel.strategy=fsdp")
    alike = ("--config.augment.ops=('normalise()',)", "--config.optimizer.name=sgd")  # on any number of devices
    common = (*common, *short, *alike, f"--workdir={tmp_path / 'run'}", f"--data_dir={tmp_path / 'tfds'}")
    folder = tmp_path / "run" / "checkpoints"

    def train(hosts):
        processes = commands.start_hosts(*common, TWO) if hosts == 2 else [commands.start(*common, NPROC="1")]
        outputs = [process.communicate(timeout=500) for process in processes]
        assert [process.returncode for process in processes] == [0] * hosts, outputs
        return outputs[0][0], read_arrays(folder / "16")[0]["params"]

    _, expected = train(1)
    for step in (12, 16):
        shutil.rmtree(folder / str(step))
    out, params = train(2)
    assert "continuing from step 8" in out
    found = [params]
    for file in (folder / "16" / "state" / "ocdbt.process_1" / "d").iterdir():
        file.unlink()  # the part of the second host
    out, params = train(2)
    assert "checkpoints/16 is damaged" in out and "continuing from checkpoints/12" in out
    found.append(params)
    meta = read_meta(folder / "16")
    sharded = "params/Dense_0/kernel"
    meta["sums"][sharded] ^= 1  # as if a number of an array had changed, of which each host reads a part
    (folder / "16" / "meta" / "metadata").write_text(json.dumps(sealed(meta)))
    out, params = train(2)
    assert f"checkpoints/16 is damaged ({sharded} does not match its checksum)" in out
    found.append(params)
    shutil.rmtree(folder / "16")
    out, params = train(1)
    assert "continuing from step 12" in out
    for others in (*found, params):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), others, expected)


def test_sigterm_of_one_host_stops_both_after_the_same_step(tmp_path):
    long = ("--config=tests/training/small.py", "--config.train.steps=1000000", "--config.eval.every=0")
    rare = ("--config.checkpoint.every=1000000", "--config.checkpoint.best=", "--config.log.every=5")
    hosts = commands.start_hosts(*long, *rare, TWO, f"--workdir={tmp_path / 'run'}", f"--data_dir={tmp_path / 'tfds'}")
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()) and hosts[0].poll() is None:
        time.sleep(0.1)
    hosts[1].send_signal(signal.SIGTERM)
    outputs = [host.communicate(timeout=100) for host in hosts]
    assert [host.returncode for host in hosts] == [Stopped.EXIT_CODE] * 2, outputs
    (step,) = steps_in(tmp_path / "run" / "checkpoints")
    assert f"SIGTERM: saved at step {step}" in outputs[0][0]


@pytest.mark.parametrize(
    ("wanted", "batch_size", "accumulate", "eval_batch_size", "devices"),
    [
        (1, 64, 1, 0, 1),
        (4, 64, 1, 0, 4),
        (0, 64, 1, 0, 4),  # of six cores
        (0, 96, 1, 0, 6),
        (0, 96, 4, 0, 3),  # a microbatch is of 24, a share of 8 at least
        (0, 96, 1, 100, 1),
        (0, 1, 1, 0, 1),
    ],
)
def test_a_cpu_is_as_many_devices_as_its_cores_and_the_batches_allow(
    wanted, batch_size, accumulate, eval_batch_size, devices, monkeypatch
):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(parallel, "cores", lambda: 6)
    set_to = {"jax_num_cpu_devices": 1}
    monkeypatch.setattr(jax.config, "update", set_to.__setitem__)
    run = config.default()
    run.parallel.cpu_devices = wanted
    run.train.update(batch_size=batch_size, accumulate=accumulate)
    run.eval.batch_size = eval_batch_size
    parallel.use_cpu(run)
    assert set_to == {"jax_num_cpu_devices": devices}


def test_keys_are_whole_on_each_of_two_devices(monkeypatch):
    two = parallel.Parallel("fsdp")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), (parallel.DEVICES,))
    monkeypatch.setitem(two.__dict__, "mesh", mesh)
    state = {"kernel": np.ones((3, 4), np.float32), "rng": jax.random.key(7)}
    placed = two.place(state)
    assert placed["kernel"].sharding.spec == jax.sharding.PartitionSpec(None, parallel.DEVICES)
    assert placed["rng"].is_fully_replicated
    again, _ = two.compile_train(lambda state, _: (state, ()))(placed, ())
    np.testing.assert_array_equal(jax.random.key_data(again["rng"]), jax.random.key_data(state["rng"]))


def test_too_late_for_another_number_of_devices(monkeypatch):
    jax.devices()
    monkeypatch.setenv("XLA_FLAGS", "")
    run = config.default()
    run.parallel.cpu_devices = 3
    with pytest.raises(UserError, match="jax has started without 3"):
        parallel.use_cpu(run)
