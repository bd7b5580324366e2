"""Gradient norms by layer and time step equal what differentiating by hand gives, and are drawn."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch.layers.norm import batch_norm
from arch.layers.recurrent import Elman
from arch.mlp import MLP
from arch.rnn import RecurrentClassifier
from data.augment.transform import Transform
from tasks.classification import Classification
from tests.training import commands
from training import state as state_lib
from training.diagnostics import gradient_norms
from training.parallel import DEVICES, Parallel

pytestmark = pytest.mark.slow

LENGTH, UNITS = 6, 4
MODEL = RecurrentClassifier(cell=Elman, widths=(UNITS, UNITS), num_classes=3)
TASK = Classification(inputs=("inputs",))


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    mask = np.ones(16, np.float32)
    mask[13:] = 0
    inputs = random.normal(size=(16, LENGTH, 2)).astype(np.float32)
    return {"inputs": inputs, "label": random.integers(0, 3, 16).astype(np.int32), "mask": mask}


def norms(batch, strategy):
    parallel = Parallel(strategy)
    state = state_lib.create(MODEL, optax.sgd(0.1), (jnp.zeros((1, LENGTH, 2)),), jax.random.key(0))
    function = functools.partial(gradient_norms, model=MODEL, task=TASK, transform=Transform())
    compiled = parallel.compile_eval(functools.partial(function, axis_name=parallel.axis_name))
    (placed,) = parallel.batches([batch])
    return state.params, parallel.read(compiled(parallel.place(state), placed))


@pytest.mark.parametrize("strategy", ["pmap", "fsdp"])
def test_norms_are_those_of_the_mean_loss(strategy, batch):
    params, actual = norms(batch, strategy)

    def loss(params, x):  # Elman's two layers written out
        stack = params["stack"]
        for name in ("layer1_forward", "layer2_forward"):
            layer, h, outputs = stack[name], jnp.zeros((16, UNITS)), []
            for t in range(LENGTH):
                h = jnp.tanh(x[:, t] @ layer["input_kernel"] + h @ layer["recurrent_kernel"] + layer["bias"])
                outputs.append(h)
            x = jnp.stack(outputs, axis=1)
        logits = x[:, -1] @ params["head"]["kernel"] + params["head"]["bias"]
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(batch["label"]))
        return jnp.sum(nats * batch["mask"]) / jnp.sum(batch["mask"])

    grads, d_x = jax.grad(loss, argnums=(0, 1))(params, jnp.asarray(batch["inputs"]))
    layers = {"layer/stack/layer1_forward": grads["stack"]["layer1_forward"], "layer/head": grads["head"]}
    for name, leaves in layers.items():
        np.testing.assert_allclose(actual[name], optax.tree.norm(leaves), rtol=1e-4)
    np.testing.assert_allclose(actual["time/stack/layer1"], np.sqrt(np.square(d_x).sum((0, 2))), rtol=1e-4)
    assert actual["time/stack/layer2"].shape == (LENGTH,)


def test_synchronised_batch_norm_gives_the_norms_of_one_device(batch):
    inputs = {"image": batch["inputs"][..., None], **{key: batch[key] for key in ("label", "mask")}}
    model = MLP(num_classes=3, widths=(4,), norm=batch_norm)
    shapes = (jax.ShapeDtypeStruct((1, LENGTH, 2, 1), jnp.float32),)
    state = state_lib.create(model, optax.sgd(0.1), shapes, jax.random.key(0))
    task = Classification(inputs=("image",))
    function = functools.partial(gradient_norms, model=model, task=task, transform=Transform())
    expected, parallel = jax.jit(function)(state, inputs), Parallel()
    (placed,) = parallel.batches([inputs])

    def on_all_devices(**options):
        step = parallel.compile_eval(functools.partial(function, axis_name=DEVICES, **options))
        return parallel.read(step(parallel.place(state), placed))

    actual = on_all_devices()
    assert set(actual) == set(expected) and min(expected.values()) > 0
    for name, value in actual.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4)
    apart = on_all_devices(sync_batchnorm=False)
    assert abs(apart["layer/head"] / expected["layer/head"] - 1) > 1e-3


def test_a_tap_costs_no_variable_and_changes_no_output(batch):
    inputs = jnp.asarray(batch["inputs"])
    variables = MODEL.init(jax.random.key(0), inputs, train=False)
    assert set(variables) == {"params"}
    once, twice = (
        MODEL.apply(variables, inputs, train=False, mutable=mutable) for mutable in (["batch_stats"], ["perturbations"])
    )
    np.testing.assert_array_equal(once[0], twice[0])


def test_any_network_logs_and_draws_its_layers(tmp_path):
    overrides = [
        "--config.train.epochs=0.0",
        "--config.train.steps=5",
        "--config.optimizer.warmup_steps=0",
        "--config.log.gradients=2",
        "--config.checkpoint.every=5",
    ]
    code, _, err = commands.run("--config=configs/digits.py", f"--workdir={tmp_path / 'run'}", *overrides)
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [row for row in rows if row["split"] == "gradients"]
    assert [row["step"] for row in logged] == [1, 3, 5]
    assert all(value > 0 for row in logged for name, value in row.items() if name.startswith("layer/"))
    assert "Gradient norm by layer" in (tmp_path / "run" / "report.html").read_text()
