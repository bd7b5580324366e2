"""The step gives the same update on any layout of the same batch, and every draw of randomness its own key."""

import dataclasses
import functools
from types import MappingProxyType
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch.layers.norm import batch_norm, frozen_batch_norm, layer_norm
from arch.mlp import MLP
from arch.resnet import CifarResNet
from tasks.classification import Classification
from tasks.task import Score, Task
from training import state as state_lib
from training.parallel import Parallel
from training.step import eval_step, mean_metrics, train_step

BATCH, STEPS = 32, 20
OPTIMIZER = optax.sgd(0.05, momentum=0.9)
MODELS = {
    "dense": MLP(widths=(16,), num_classes=10, dropout=0.0),
    "batchnorm": CifarResNet(depth=8, num_classes=10),
}


@pytest.fixture(scope="module")
def batches():
    random = np.random.default_rng(0)
    images = random.normal(size=(STEPS, BATCH, 8, 8, 1)).astype(np.float32)
    labels = random.integers(0, 10, (STEPS, BATCH)).astype(np.int32)
    masks = np.zeros((STEPS, BATCH), np.float32)
    for step, mask in enumerate(masks):  # uneven: the first devices get whole parts, the last ones none
        mask[: BATCH // 2 + step % 13] = 1
    return [
        dict(zip(("image", "label", "mask"), part, strict=True)) for part in zip(images, labels, masks, strict=True)
    ]


@pytest.fixture(scope="module")
def on_one_device(batches):
    """Returns the final state of each model, by name."""
    return {name: run(model, batches) for name, model in MODELS.items()}


def run(model, batches, strategy=None, accumulate=1):
    """Returns the final state; strategy None is plain jit on one device."""
    parallel = Parallel(strategy or "pmap")
    step = functools.partial(
        train_step,
        model=model,
        task=Classification(),
        optimizer=OPTIMIZER,
        accumulate=accumulate,
        ema_decay=0.9,
        axis_name=parallel.axis_name if strategy else None,
    )
    state = state_lib.create(model, OPTIMIZER, (jnp.zeros((1, 8, 8, 1)),), jax.random.key(0), ema=True)
    if strategy is None:
        step = jax.jit(step, donate_argnums=0)
        for batch in batches:
            state, _ = step(state, batch)
        return state
    step, state = parallel.compile_train(step), parallel.place(state)
    for batch in parallel.batches(batches):
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
    return parallel.take(state)


@pytest.mark.parametrize(
    "layout",
    [(None, 4), ("pmap", 4), ("fsdp", 4), *(pytest.param((x, 1), marks=pytest.mark.slow) for x in ("pmap", "fsdp"))],
    ids=str,
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "batchnorm")) for name in MODELS]
)
def test_layouts_agree(name, layout, batches, on_one_device):
    expected, actual = on_one_device[name], run(MODELS[name], batches, *layout)
    moved = state_lib.create(MODELS[name], OPTIMIZER, (jnp.zeros((1, 8, 8, 1)),), jax.random.key(0)).params
    assert max(jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()), moved, expected.params))) > 1e-2
    for part in ("params", "mutable", "ema"):
        for a, b in zip(jax.tree.leaves(getattr(expected, part)), jax.tree.leaves(getattr(actual, part)), strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "saves"),
    [
        (MLP(widths=(256,) * 4), True),
        (MLP(widths=(256,) * 4, norm=layer_norm), True),
        (MLP(widths=(256,) * 4, norm=batch_norm), False),  # its statistics need all microbatches side by side
        (MLP(widths=(256,) * 4, norm=frozen_batch_norm), True),
    ],
    ids=["no norm", "layer norm", "batch norm", "frozen batch norm"],
)
def test_accumulation_saves_memory_unless_there_are_batch_statistics(model, saves):
    def work_space(accumulate, **options):
        step = functools.partial(
            train_step, model=model, task=Classification(), optimizer=optax.sgd(0.1), accumulate=accumulate, **options
        )
        compiled = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    images = jax.ShapeDtypeStruct((2048, 64), jnp.float32)
    labels, mask = jax.ShapeDtypeStruct((2048,), jnp.int32), jax.ShapeDtypeStruct((2048,), jnp.float32)
    batch = {"image": images, "label": labels, "mask": mask}
    state = jax.eval_shape(lambda: state_lib.create(model, optax.sgd(0.1), (images,), jax.random.key(0)))
    whole = work_space(1)
    assert (work_space(8) < 0.5 * whole) == saves
    assert work_space(8, sync_batchnorm=False) < 0.5 * whole


class KeyProbe(nn.Module):
    """Keeps every dropout key that it was given, as a table [devices x microbatches, key words]."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        seen = self.variable("probe", "keys", lambda: jnp.zeros((8 * 2, 2), jnp.uint32))
        if train:
            key = jax.random.key_data(self.make_rng("dropout"))
            here = jax.lax.axis_index("devices") * 2 + self.variable("probe", "calls", lambda: jnp.zeros((), int)).value
            seen.value = seen.value.at[here].set(key)
            self.put_variable("probe", "calls", self.get_variable("probe", "calls") + 1)
        return nn.Dense(10, name="head")(images.reshape(images.shape[0], -1))


def test_no_two_draws_share_a_key(batches):
    model = KeyProbe()
    keys = []
    for step in range(3):
        state = state_lib.create(model, OPTIMIZER, (jnp.zeros((1, 8, 8, 1)),), jax.random.key(0))
        variables = {"probe": {"keys": jnp.zeros((16, 2), jnp.uint32), "calls": jnp.zeros((), int)}}
        state = state.replace(step=jnp.asarray(step, jnp.int32), mutable=variables)
        parallel = Parallel("pmap")
        function = functools.partial(
            train_step, model=model, task=Classification(), optimizer=OPTIMIZER, accumulate=2, axis_name="devices"
        )
        placed, batch = parallel.place(state), next(parallel.batches(batches[:1]))
        state, _ = parallel.compile_train(function)(placed, batch)
        keys.append(np.asarray(state.mutable["probe"]["keys"]).max(0))
    keys = np.concatenate(keys)
    assert len(keys) == 3 * 8 * 2
    assert len({tuple(key) for key in keys}) == len(keys)


def test_state_is_donated_and_a_second_step_does_not_compile(batches):
    traces = []

    class Counting(nn.Module):
        @nn.compact
        def __call__(self, images, *, train: bool):
            traces.append(train)
            return nn.Dense(10, name="head")(images.reshape(images.shape[0], -1))

    model, parallel = Counting(), Parallel("pmap")
    state = parallel.place(state_lib.create(model, OPTIMIZER, (jnp.zeros((1, 8, 8, 1)),), jax.random.key(0)))
    traces.clear()
    function = functools.partial(
        train_step, model=model, task=Classification(), optimizer=OPTIMIZER, axis_name="devices"
    )
    step = parallel.compile_train(function)
    for batch in parallel.batches(batches[:5]):
        before = state
        state, _ = step(state, batch)
        jax.block_until_ready(state)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))
    assert traces == [True]


def test_a_batch_of_padding_alone_changes_nothing(batches):
    model = MODELS["dense"]
    state = state_lib.create(model, optax.sgd(0.1), (jnp.zeros((1, 8, 8, 1)),), jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, batches[0] | {"mask": np.zeros(BATCH, np.float32)})
    after, _ = train_step(state, batch, model=model, task=Classification(), optimizer=optax.sgd(0.1))
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(after.params), strict=True):
        np.testing.assert_array_equal(a, b)


class Detector(nn.Module):
    """Two inputs of different lengths, and a tree of outputs."""

    @nn.compact
    def __call__(self, source, target, *, train: bool):
        summary = nn.Embed(11, 8)(source).mean(1, keepdims=True)
        hidden = nn.tanh(nn.Embed(11, 8)(target) + summary)
        return {"tokens": nn.Dense(11, name="head")(hidden), "boxes": nn.Dense(4)(hidden)}


@dataclasses.dataclass(frozen=True)
class TokensAndBoxes(Task):
    """Two loss terms with different denominators: tokens per real token, boxes per example."""

    inputs: tuple[str, ...] = ("source", "target")

    coefficients: ClassVar = MappingProxyType({"tokens": 1.0, "boxes": 5.0})

    def weights(self, batch):
        return {"tokens": jnp.sum(self._positions(batch)), "boxes": jnp.sum(jnp.asarray(batch["mask"]))}

    def score(self, outputs, batch):
        mask = self._positions(batch)
        nats = optax.softmax_cross_entropy_with_integer_labels(outputs["tokens"], jnp.asarray(batch["target"]))
        distance = jnp.abs(outputs["boxes"] - batch["boxes"]).sum(-1)
        correct = (outputs["tokens"].argmax(-1) == batch["target"]) * mask
        losses = {"tokens": (nats * mask).sum(), "boxes": (distance * mask).sum()}
        return Score(losses, {"accuracy": (correct.sum(), mask.sum())}, {"boxes": outputs["boxes"]})

    def _positions(self, batch):
        return jnp.asarray(batch["target_mask"] * batch["mask"][:, None])


@pytest.fixture(scope="module")
def detection():
    """Returns (state, batch, gradient, loss) of two loss terms, differentiated without the step."""
    random = np.random.default_rng(0)
    batch = {
        "source": random.integers(0, 11, (BATCH, 7)),
        "target": random.integers(0, 11, (BATCH, 5)),
        "boxes": random.random((BATCH, 5, 4)).astype(np.float32),
        "target_mask": (random.random((BATCH, 5)) < np.linspace(0.1, 1, BATCH)[:, None]).astype(np.float32),
        "mask": (np.arange(BATCH) < 21).astype(np.float32),
    }
    inputs = jnp.zeros((1, 7), int), jnp.zeros((1, 5), int)
    state = state_lib.create(Detector(), OPTIMIZER, inputs, jax.random.key(0))

    def loss(params):
        outputs = Detector().apply({"params": params}, batch["source"], batch["target"], train=True)
        mask = batch["target_mask"] * batch["mask"][:, None]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(outputs["tokens"]), batch["target"][..., None], -1)[..., 0]
        distance = jnp.abs(outputs["boxes"] - batch["boxes"]).sum(-1)
        return -(chosen * mask).sum() / mask.sum() + 5 * (distance * mask).sum() / 21

    value, gradient = jax.jit(jax.value_and_grad(loss))(state.params)
    return state, batch, gradient, float(value)


@pytest.mark.parametrize("layout", [(None, 1), (None, 4), ("pmap", 1), ("pmap", 4), ("fsdp", 4)], ids=str)
def test_several_loss_terms_have_their_own_denominators_on_any_layout(layout, detection):
    state, batch, gradient, value = detection
    strategy, accumulate = layout
    task, parallel = TokensAndBoxes(), Parallel(strategy or "pmap")
    axis_name = parallel.axis_name if strategy else None
    optimizer = optax.sgd(1.0)
    state = state.replace(opt_state=optimizer.init(state.params))
    step = functools.partial(
        train_step, model=Detector(), task=task, optimizer=optimizer, accumulate=accumulate, axis_name=axis_name
    )
    if strategy:
        (placed,) = parallel.batches([batch])
        after, metrics = parallel.compile_train(step)(parallel.place(state), placed)
        after, metrics = parallel.take(after), parallel.read(metrics)
    else:
        after, metrics = jax.jit(step)(state, batch)
    for before, new, expected in zip(*map(jax.tree.leaves, (state.params, after.params, gradient)), strict=True):
        np.testing.assert_allclose(np.asarray(before) - np.asarray(new), expected, atol=1e-6)
    assert float(metrics["boxes"][1]) == 21 and float(metrics["tokens"][1]) == float(metrics["accuracy"][1]) < 21 * 5
    np.testing.assert_allclose(mean_metrics(task, metrics)["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"][0], optax.tree.norm(gradient), rtol=1e-5)


def test_evaluation_gives_sums_and_arrays(detection):
    state, batch, _, value = detection
    evaluate = jax.jit(functools.partial(eval_step, model=Detector(), task=TokensAndBoxes()))
    sums, arrays = evaluate(state.variables, batch)
    np.testing.assert_allclose(mean_metrics(TokensAndBoxes(), sums)["loss"], value, rtol=1e-5)
    assert arrays["boxes"].shape == (BATCH, 5, 4) and arrays["mask"].shape == (BATCH,)


class Shared(nn.Module):
    """Keeps the mean of its last inputs, as a codebook does, and a counter."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = images.reshape(images.shape[0], -1)
        mean = self.variable("codebook", "mean", lambda: jnp.zeros(()))
        count = self.variable("codebook", "count", lambda: jnp.zeros((), jnp.int32))
        if train:
            mean.value, count.value = x.mean(), count.value + 1
        return nn.Dense(10, name="head")(x)


def test_any_shared_collection_is_averaged_over_devices(batches):
    parallel, model = Parallel("pmap"), Shared()
    state = state_lib.create(model, OPTIMIZER, (jnp.zeros((1, 8, 8, 1)),), jax.random.key(0))
    options = {"model": model, "task": Classification(), "optimizer": OPTIMIZER, "axis_name": "devices"}
    step = parallel.compile_train(functools.partial(train_step, **options))
    state, _ = step(parallel.place(state), next(parallel.batches(batches[:1])))
    codebook = jax.tree.map(np.asarray, state.mutable["codebook"])
    np.testing.assert_allclose(codebook["mean"], np.full(8, batches[0]["image"].mean()), rtol=1e-4)
    assert codebook["count"].tolist() == [1] * 8
