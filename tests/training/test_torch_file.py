"""config.init_from="torch:FILE" and the export to such a file: made-up files, without PyTorch."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file

from arch.pretrained.table import tables
from arch.resnet import ResNet
from core.errors import UserError
from inference.export import export
from inference.predict import load
from training import torch_file
from training.config import default
from training.main import train
from training.run import build_run

(TABLE,) = tables()["resnet.ResNet"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of random arrays for a narrow network with 5 classes."""
    model = ResNet(**ResNet.VARIANTS["test"] | {"num_classes": 5, "blocks": (1, 1)})
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    rng = np.random.default_rng(0)
    variables = {
        collection: {
            path: rng.uniform(0.1, 0.5, x.shape).astype(np.float32) for path, x in flatten_dict(tree, sep="/").items()
        }
        for collection, tree in shapes.items()
    }
    path = tmp_path_factory.mktemp("torch") / "resnet.safetensors"
    torch_file.save(TABLE.write(variables, model) | {"aux.weight": np.ones(2, np.float32)}, path)
    return path


def get_config(file, **model):
    """Returns the config of a short run on digits that starts from the file."""
    config = default()
    config.model = ConfigDict(
        {"name": "resnet.ResNet", "variant": "test", "num_classes": 10, "blocks": (1, 1), **model}
    )
    config.init_from = f"torch:{file}"
    config.augment.ops = ("normalise(mean=(0.5,), std=(0.25,))",)
    config.optimizer.learning_rate, config.train.steps, config.train.batch_size = 1e-4, 1, 8
    config.log.writers = ()
    return config


@pytest.mark.slow
def test_weights_and_statistics_are_loaded_and_the_rest_is_reported(file):
    run, lines = build_run(get_config(file), None), []
    state = run.create_states(lines.append)[0]
    arrays = load_file(file)
    kernel = state.params["stage2_block1"]["Conv_0"]["kernel"]
    assert np.array_equal(kernel[1, 2], arrays["layer2.0.conv1.weight"][:, :, 1, 2].T)
    variance = state.mutable["batch_stats"]["stage2_block1"]["shortcut_norm"]["var"]
    assert np.array_equal(variance, arrays["layer2.0.downsample.1.running_var"])
    text = "\n".join(lines)
    assert "aux.weight: no part of ResNet" in text and "2 not" in text
    assert "head/kernel: shape (8, 5) there, (8, 10) here" in text and "head/bias: shape" in text


@pytest.mark.slow
def test_a_run_is_fine_tuned_and_exported(file, tmp_path):
    workdir, to = tmp_path / "run", tmp_path / "new" / "tuned.safetensors"
    train(get_config(file), str(workdir), None)
    export(str(workdir), f"torch:{to}")
    written, start, trained = load_file(to), load_file(file), load(str(workdir)).variables
    assert written.keys() == start.keys() - {"aux.weight"}
    assert written["fc.weight"].shape == (10, 8)
    assert np.array_equal(written["fc.weight"], trained["params"]["head"]["kernel"].T)
    assert np.array_equal(written["bn1.running_mean"], trained["batch_stats"]["stem_norm"]["mean"])
    change = np.abs(written["layer2.0.conv2.weight"] - start["layer2.0.conv2.weight"]).max()
    assert 0 < change < 1e-3  # one step of Adam from the arrays of the file
    with pytest.raises(UserError, match="exists"):
        export(str(workdir), f"torch:{to}")
    with pytest.raises(UserError, match=r"ends with \.safetensors"):
        export(str(workdir), f"torch:{to}.pth")


@pytest.mark.slow
@pytest.mark.slow
def test_low_rank_adaptation_of_a_file(file):
    run = build_run(
        get_config(file, adapter="lora.LoRA(kernels='.*Conv_0/kernel', trained='head/.*')", num_classes=5), None
    )
    params = run.create_states(lambda line: None)[0].params
    assert np.array_equal(params["stem_conv"]["kernel"][0, 1], load_file(file)["conv1.weight"][:, :, 0, 1].T)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda config, path: setattr(config, "init_from", f"torch:{path}/none.pth"), ["none.pth", "does not exist"]),
        (lambda config, path: path.joinpath("bad.safetensors").write_text("no"), ["bad.safetensors", "cannot be read"]),
        (lambda config, path: save_file({"w": np.ones(1)}, path / "bad.safetensors"), ["no parameter", "bad.safe"]),
        (lambda config, path: setattr(config, "model", ConfigDict({"name": "mlp.MLP"})), ["mlp.MLP has no names"]),
    ],
)  # fmt: skip
def test_files_that_do_not_fit(tmp_path, break_it, words):
    config = get_config(tmp_path / "bad.safetensors")
    break_it(config, tmp_path)
    run = build_run(config, None)
    with pytest.raises(UserError) as refusal:
        run.create_states(lambda line: None)
    assert all(word in str(refusal.value) for word in words) and "\n" not in str(refusal.value), refusal.value


def test_a_pth_file_without_pytorch_is_converted_by_a_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "resnet18.pth").write_bytes(b"")
    with pytest.raises(UserError) as refusal:
        torch_file.arrays_of(tmp_path / "resnet18.pth")
    text = str(refusal.value)
    assert 'python -c "import torch' in text and str(tmp_path / "resnet18.safetensors") in text and "\n" not in text
