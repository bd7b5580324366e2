"""Whatever does not fit is refused before any compilation: one line on stderr, exit code 2, nothing written."""

import json
from pathlib import Path

import jax
import pytest

from core.errors import UserError
from tests.training import commands, small
from training import parallel
from training.run import build_run
from training.workdir import Workdir

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model.name": "mlp.MPL"}, ["model.name", "MLP"]),
        ({"model.width": (3,)}, ["model.width", "widths"]),
        ({"model.name": "resnet.CifarResNet"}, ["model.widths", "CifarResNet"]),
        ({"task.name": "clasification.Classification"}, ["task.name", "classification.Classification"]),
        ({"task.inputs": ("images",)}, ["task.inputs", "'images'", "image"]),
        (
            {"task.name": "regression.Regression", "task.inputs": ("image",)},
            ["regression.Regression", "'target'", "label"],
        ),
        ({"data.name": "digit"}, ["digit", "digits"]),
        ({"data.splits.train": "trian"}, ["trian", "train"]),
        ({"data.splits.test": "test[500:]"}, ["test[500:]", "360"]),
        ({"data.name": "csv:/nowhere/table.csv", "data.target": "y"}, ["/nowhere/table.csv"]),
        ({"augment.ops": ("flop()",)}, ["augment.ops", "flop", "flip"]),
        ({"augment.ops": ("padded_crop(pading=2)",)}, ["augment.ops", "pading", "padding"]),
        ({"augment.ops": ("mixup()", "cutmix()")}, ["mixup", "cutmix"]),
        ({"augment.ops": ("spec_augment(bands=8)",)}, ["augment.ops", "spec_augment", "works on frames"]),
        ({"augment.ops": ("normalise(start=True)",)}, ["normalise", "config.init_from, which is empty"]),
        ({"augment.ops": ("scale_jitter(size=(4, 4))",)}, ["augment.ops", "image (4, 4, 1)", "mlp.MLP refuses"]),
        ({"optimizer.name": "adamm"}, ["optimizer.name", "adam"]),
        ({"optimizer.beta1": 0.9}, ["optimizer.beta1", "b1"]),
        ({"optimizer.name": "adamw", "optimizer.mask": 5}, ["optimizer.mask", "decay_mask sets it"]),
        ({"train.batch_size": 36}, ["train.batch_size 36", "32", "40", "8 devices"]),
        ({"train.batch_size": 32, "train.accumulate": 8}, ["batch_size 32", "64"]),
        ({"checkpoint.best": "validation_ema/acuracy"}, ["checkpoint.best", "acuracy", "accuracy"]),
        ({"optimizer.warmup_steps": 500}, ["warmup_steps", "500"]),
    ],
    ids=str,
)
def test_a_slip_in_the_config(changes, words, data_dir, monkeypatch):
    def no_compilation(*_, **__):
        raise AssertionError("something was compiled")

    config = small.get_config()
    config.unlock()
    for key, value in changes.items():
        *path, last = key.split(".")
        parent = config
        for part in path:
            parent = parent[part]
        parent[last] = value
    monkeypatch.setattr(jax.stages.Lowered, "compile", no_compilation)
    with pytest.raises(UserError) as refusal:
        build_run(config, data_dir)
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert "\n" not in str(refusal.value)


def test_a_model_that_refuses_the_shape(data_dir):
    config = small.get_config()
    del config.model["widths"], config.model["norm"], config.model["dropout"]
    config.model.name = "mlp.TabularResNet"
    config.model.norm = "nn.LayerNorm"
    with pytest.raises(UserError, match="refuses image"):
        build_run(config, data_dir)


COMMAND_LINES = [
    (["--config=configs/digit.py"], ["configs/digit.py", "configs/digits.py"]),
    (["--config=configs/images.py:cifar"], ["cifar", "cifar10"]),
    (["--config=configs/digits.py", "--config.train.stps=3"], ["train.stps", "train.steps"]),
    (["--config=configs/digits.py", "--config.train.batch_size=many"], ["batch_size"]),
    (["--config=configs/digits.py", "--confg.seed=1"], ["confg"]),
    (["--config=configs/digits.py", "extra"], ["extra"]),
    (["--config=configs/digits.py:foo"], ["takes no argument"]),
    (["--config=experiments/init_depth.py:cpu"], ["experiments.run"]),
    ([], ["config.json"]),
    (["--eval_only"], ["config.json"]),
]


@pytest.mark.parametrize("arguments, words", COMMAND_LINES, ids=lambda value: " ".join(value)[:60])
def test_a_slip_on_the_command_line(arguments, words, tmp_path):
    workdir = tmp_path / "run"
    code, out, err = commands.run(*arguments, f"--workdir={workdir}", f"--data_dir={tmp_path}")
    assert code == 2, err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not workdir.exists() and "devices" not in out


def test_hosts_that_are_not_there():
    with pytest.raises(UserError, match=r"config\.parallel\.hosts is 2"):
        parallel.connect(2)


def test_a_workdir_that_is_no_runs(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"no config\.json"):
        Workdir(str(tmp_path)).check(small.get_config())
    with pytest.raises(UserError, match="is a file"):
        Workdir(str(tmp_path / "thesis.tex" / "run")).check(small.get_config())


@pytest.mark.parametrize("folder", ["a[1]/run", "run*", "what?/run"])
def test_a_workdir_that_orbax_takes_for_a_pattern(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--workdir .* use a path without"):
        Workdir(str(tmp_path / folder)).check(small.get_config())
    (tmp_path / "b[2]").mkdir()
    monkeypatch.chdir(tmp_path / "b[2]")
    with pytest.raises(UserError, match=r"b\[2\]/run contains \[ \]"):
        Workdir("run").check(small.get_config())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that not even root can write")
def test_a_workdir_that_cannot_be_written():
    with pytest.raises(UserError, match=r"--workdir /proc/a/run: /proc is not writable"):
        Workdir("/proc/a/run").check(small.get_config())


def test_help_is_no_failure():
    code, out, _ = commands.run("--help", GLIBC_TUNABLES="")  # the command starts itself again
    assert code == 0 and "--workdir" in out and "--set" in out


def test_a_missing_workdir_flag():
    code, _, err = commands.run("--config=configs/digits.py")
    assert code == 2 and "--workdir" in err and err.count("\n") == 1


def test_a_run_killed_as_it_began_may_begin_again(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("config.json.part", "metrics.jsonl.part"):
        (tmp_path / "run" / name).write_text("{")
    Workdir(str(tmp_path / "run")).check(small.get_config())
    (tmp_path / "run" / "checkpoints" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"no config\.json"):
        Workdir(str(tmp_path / "run")).check(small.get_config())


@pytest.mark.parametrize("arguments", [[], ["--eval_only"], ["--config=tests/training/small.py"]])
def test_a_run_of_an_older_version(arguments, tmp_path):
    stored = small.get_config().to_dict()
    stored["data"]["text"] = ["source"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    code, _, err = commands.run(f"--workdir={tmp_path}", *arguments)
    assert code == 2 and err.count("\n") == 1 and f"{tmp_path} was written by an older version: train again" in err
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
