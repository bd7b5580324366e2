"""Checkpoints come and go whole, and SIGTERM ends the process even where Python does not get to run."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import pytest

from core.errors import Stopped, UserError
from core.info import Info, Key
from core.vocabulary import Vocabulary
from tests.training.commands import ROOT
from training import checkpoint
from training.checkpoint import Checkpoints, read_arrays, restore_first, sealed, steps_in
from training.run import Run

STATE = {"kernel": jnp.arange(6.0).reshape(2, 3), "rng": jax.random.key(3), "ema": None}


def test_the_latest_are_kept_and_read_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run", keep=2)
    assert checkpoints.restore(jax.eval_shape(lambda: STATE)) is None
    for step in (1, 2, 3):
        checkpoints.save(step, {**STATE, "kernel": STATE["kernel"] * step}, {"step": step, "value": 0.1})
    checkpoints.close()
    assert steps_in(tmp_path / "run") == [2, 3]
    state, meta = Checkpoints(tmp_path / "run").restore(jax.eval_shape(lambda: STATE))
    assert meta["step"] == 3 and meta["value"] == 0.1
    assert (state["kernel"] == 3 * STATE["kernel"]).all()
    assert (jax.random.key_data(state["rng"]) == jax.random.key_data(STATE["rng"])).all()
    assert (read_arrays(tmp_path / "run" / "2")[0]["kernel"] == 2 * STATE["kernel"]).all()


def test_a_changed_number_is_found_without_the_model(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(1, STATE, {}, wait=True)
    path = tmp_path / "run" / "1" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    meta["sums"]["kernel"] ^= 1
    path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match="meta does not match its checksum"):
        read_arrays(tmp_path / "run" / "1")
    path.write_text(json.dumps(sealed(meta)))
    with pytest.raises(UserError, match="kernel does not match its checksum"):
        read_arrays(tmp_path / "run" / "1")


def test_arrays_that_do_not_fit_the_memory(tmp_path, monkeypatch):
    Checkpoints(tmp_path).save(1, STATE, {}, wait=True)
    monkeypatch.setattr(checkpoint, "free_memory", lambda: 20.0)
    with pytest.raises(UserError, match=r"holds .* GB, but 2e-08 GB of memory are free"):
        read_arrays(tmp_path / "1")


def test_what_changes_after_the_call_is_not_saved(tmp_path, monkeypatch):
    checkpoints, passed = Checkpoints(tmp_path / "run"), []
    monkeypatch.setattr(checkpoints.manager, "save", lambda step, args: passed.append(args["meta"].item))
    meta = {"window": [{"loss": [1.0, 2.0]}]}
    checkpoints.save(1, STATE, meta)
    meta["window"].append({})
    meta["window"][0]["loss"][0] = 3.0
    assert passed[0]["window"] == [{"loss": [1.0, 2.0]}]


def test_a_meta_is_checked_before_the_arrays(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(1, STATE, {"classes": 3}, wait=True)
    other = {**STATE, "kernel": jnp.zeros((2, 4))}

    def check(meta):
        raise UserError(f"{meta['classes']} classes")

    with pytest.raises(UserError, match=r"^3 classes$"):
        restore_first([(checkpoints, 1)], jax.eval_shape(lambda: other), check=check)


def test_other_data_are_refused_with_the_difference():
    key = Key(
        (2,), "float32", classes=("a", "b"), vocabulary=Vocabulary(3, tokenizer="T"), statistics={"mean": 0.1 + 0.2}
    )
    info = Info("t", {"train": 9}, {"x": key})

    def changed(**changes):
        return dataclasses.replace(info, keys={"x": dataclasses.replace(key, **changes)})

    assert info.difference(changed(statistics={"mean": 0.3})) == []  # rounding
    others = {
        "sizes.train": dataclasses.replace(info, sizes={"train": 8}),
        "keys.x.classes": changed(classes=("a", "z")),
        "keys.x.statistics.mean": changed(statistics={"mean": 0.4}),
        "keys.x.vocabulary.tokenizer": changed(vocabulary=Vocabulary(3, tokenizer="U")),
    }
    for path, other in others.items():
        (difference,) = info.difference(other)
        assert difference.startswith(f"{path}: ")
        with pytest.raises(UserError, match=rf"the data have changed .*{path}"):
            Run.check_data(types.SimpleNamespace(info=other), {"info": info.to_json()})


def test_when_none_can_be_read(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(1, STATE, {}, wait=True)
    (tmp_path / "run" / "1" / "meta" / "metadata").write_text("{")
    with pytest.raises(UserError, match=r"run/1: .*"):
        checkpoints.restore(jax.eval_shape(lambda: STATE))
    assert steps_in(tmp_path / "run") == [1]  # nothing is moved when there is nothing to fall back to
    with pytest.raises(UserError, match="no checkpoint can be read"):
        read_arrays(tmp_path / "nowhere")


@pytest.mark.slow
def test_sigterm_ends_a_process_that_is_deep_in_native_code():
    script = """
import hashlib
from training import stop
stop.PATIENCE_SECONDS = 0.5
with stop.Stop():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # like a compilation: long, without the lock, deaf to Python
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == Stopped.EXIT_CODE and "SIGTERM" in err
