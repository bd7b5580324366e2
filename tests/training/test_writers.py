"""Writers: found by name, refused by one line, and continued where a run continues."""

import importlib.util
import json
import struct

import pytest

from core.errors import UserError
from core.info import Info
from training import config as config_lib
from training import writers
from training.workdir import Workdir

LISTED = {"layer/a": [1.0, 2.0, 4.0]}


def begun(path, names, step=0, rows=0):
    config = config_lib.default()
    config.log.writers = names
    workdir = Workdir(str(path))
    workdir.begin(config, Info("made up", {}, {}), step, rows)
    return workdir


def test_metrics_go_to_metrics_jsonl_alone_without_writers(tmp_path):
    workdir = begun(tmp_path / "run", ())
    workdir.log(1, "train", {"loss": 2.0})
    workdir.close()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "info.json", "metrics.jsonl"}
    (row,) = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    assert row["seconds"] >= 0 and {"step": 1, "split": "train", "loss": 2.0}.items() <= row.items()


def test_a_new_writer_is_one_class(tmp_path, monkeypatch):
    calls = []

    class memory(writers.Writer):
        def __init__(self, prefix: str = ""):
            self.prefix = prefix

        def begin(self, workdir, config, step):
            calls.append((workdir.name, config.seed, step))

        def log(self, step, split, metrics):
            calls.append((self.prefix, step, split, metrics))

        def close(self):
            calls.append("closed")

    memory.__module__ = writers.__name__
    monkeypatch.setattr(writers, "memory", memory, raising=False)
    workdir = begun(tmp_path / "run", ("memory(prefix='a')",), step=3)
    workdir.log(4, "train", {"loss": 2.0})
    workdir.close()
    assert calls == [("run", 0, 3), ("a", 4, "train", {"loss": 2.0}), "closed"]


def test_seconds_continue_after_a_restart(tmp_path):
    workdir = begun(tmp_path / "run", ())
    workdir._began -= 100
    workdir.log(1, "train", {"loss": 2.0})
    workdir._began -= 50
    workdir.log(2, "train", {"loss": 2.0})
    workdir.close()
    assert 100 <= begun(tmp_path / "run", (), step=1, rows=1).seconds < 150


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("tensorbord", "config.log.writers 'tensorbord' does not exist: did you mean 'tensorboard'"),
        ("Writer", "'Writer' does not exist"),
        ("tensorboard(folder='x')", "unexpected keyword argument 'folder'"),
        ("1 + 1", "config.log.writers '1 \\+ 1' must be a name or a call"),
    ],
)
def test_what_is_not_a_writer_is_refused_before_anything_is_written(tmp_path, call, error):
    config = config_lib.default()
    config.log.writers = (call,)
    with pytest.raises(UserError, match=error):
        Workdir(str(tmp_path / "run")).check(config)
    assert not (tmp_path / "run").exists()


def test_a_missing_package_is_refused_with_its_installation(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else find(name))
    with pytest.raises(
        UserError, match=r"config.log.writers 'wandb': .* not installed: pip install 'onestep\[wandb\]'"
    ):
        writers.create(("wandb",))


def events(file):
    """Yields the events of a TensorBoard file: records of a length, its checksum, the data and their checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data = file.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


@pytest.mark.slow
def test_tensorboard_continues_after_the_step_that_was_kept(tmp_path):
    folder = tmp_path / "run/tensorboard"
    for first in (0, 1):
        workdir = begun(tmp_path / "run", ("tensorboard",), step=first, rows=first)
        for step in range(first + 1, 4):
            workdir.log(step, "train", {"loss": float(step), **LISTED})
        workdir.close()
        (file,) = folder.glob("events*")
        file.rename(folder / f"{first}")  # names of files hold the second, which may be the same here
    written = [event for path in sorted(folder.iterdir()) for event in events(path)]
    logged = [(event.step, value.tag) for event in written for value in event.summary.value]
    assert [step for step, tag in logged if tag == "train/loss"] == [1, 2, 3, 2, 3]
    assert [step for step, tag in logged if tag == "train/layer/a"] == [1, 2, 3, 2, 3]
    assert [event.step for event in written if event.session_log.status] == [1, 2]  # TensorBoard forgets later steps


@pytest.mark.slow
def test_wandb_continues_its_run_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    ids = []
    for first in (0, 1):
        workdir = begun(tmp_path / "run", ("wandb(project='tests')",), step=first, rows=first)
        (writer,) = workdir._writers
        ids.append((writer.run.id, writer.run.project, writer.run.config["train"]["batch_size"]))
        for step in range(first + 1, 3):
            workdir.log(step, "train", {"loss": float(step), **LISTED})
        assert writer.run.summary["train/loss"] == 2.0
        workdir.close()
    assert ids[0] == ids[1] and ids[0][1:] == ("tests", config_lib.default().train.batch_size)
    assert len(list((tmp_path / "run/wandb").glob(f"offline-run-*/run-{ids[0][0]}.wandb"))) == 2
    assert wandb.run is None and isinstance(writer.histogram([1.0]), wandb.Histogram)
