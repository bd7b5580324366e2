"""DETR: the padding of a canvas, positions, initialisation, and the blocks whose outputs are scored."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch.detr import DETR, LearnedSides, NoPlaces, Sines
from arch.layers.norm import frozen_batch_norm, layer_norm
from arch.resnet import BasicBlock, ResNet
from tasks.detection import Detection, average_precision

pytestmark = pytest.mark.slow

WHOLE = [0.0, 0.0, 1.0, 1.0]

SMALL = DETR(**DETR.VARIANTS["test"] | {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0})


@functools.cache
def variables():
    return jax.jit(functools.partial(SMALL.init, train=False))(jax.random.key(0), jnp.zeros((1, 32, 40, 3)))


@jax.jit
def predictions(variables, images, region):
    return SMALL.apply(variables, images, region, train=False)


def test_an_image_alone_and_in_a_batch_on_the_same_canvas_has_the_same_boxes():
    """Pixels of the padding change nothing if the backbone's windows do not reach into it."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, 32, 40, 3)), jnp.float32)
    region = jnp.array([[0, 0, 24 / 32, 24 / 40], WHOLE])
    together = predictions(variables(), images, region)
    alone = predictions(variables(), images[:1], region[:1])
    unmasked = predictions(variables(), images[:1], jnp.array([WHOLE]))
    for key in together:
        np.testing.assert_allclose(together[key][:1], alone[key], atol=1e-4)
        assert np.abs(unmasked[key] - alone[key]).max() > 1e-3


def test_an_image_of_padding_alone_has_finite_boxes():
    """A crop may lose the image; its loss must not make the others' NaN."""
    region = jnp.array([[0.0, 0.0, 0.0, 0.0], WHOLE])
    found = predictions(variables(), jnp.ones((2, 32, 40, 3)), region)
    assert all(np.isfinite(x).all() for x in found.values()) and not found["boxes"][0].any()


def test_masked_cells_change_nothing():
    """The encoder and the decoder read real cells alone; positions are those within the real part."""
    features = jnp.asarray(np.random.default_rng(1).normal(size=(1, 4, 5, 12)), jnp.float32)
    mask = np.zeros((1, 4, 5), bool)
    mask[:, :3, :2] = True
    sines = Sines().apply({}, jnp.asarray(mask), 12)
    np.testing.assert_allclose(sines[:, :3, :2], Sines().apply({}, jnp.ones((1, 3, 2), bool), 12), atol=1e-6)
    angles = np.arange(1, 4) / (3 + 1e-6) * 2 * np.pi
    np.testing.assert_allclose(sines[0, :3, 0, 0], np.sin(angles), atol=1e-5)
    np.testing.assert_allclose(sines[0, :3, 0, 3], np.cos(angles / 10_000 ** (2 / 6)), atol=1e-5)  # y first
    np.testing.assert_allclose(sines[0, 0, :2, 6], np.sin(np.arange(1, 3) / (2 + 1e-6) * 2 * np.pi), atol=1e-5)
    assert features.shape[1:3] == mask.shape[1:]


def test_learned_places_differ_by_row_and_column_and_none_are_zero():
    mask = jnp.ones((1, 3, 4), bool)
    places, _ = LearnedSides(size=4).init_with_output(jax.random.key(0), mask, 8)
    assert np.all(places[0, 1:, :, :4] == places[0, :1, :, :4]) and np.all(places[0, :, 1:, 4:] == places[0, :, :1, 4:])
    assert len(np.unique(places[0].reshape(-1, 8), axis=0)) == 12
    assert not np.any(NoPlaces().apply({}, mask, 8))


def test_queries_and_keys_start_as_a_third_of_one_matrix():
    """PyTorch's nn.MultiheadAttention has one Xavier matrix [d, 3 d]."""
    model = DETR(**DETR.VARIANTS["test"] | {"width": 96})
    init = functools.partial(model.init, train=False)
    layer = jax.jit(init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]["encoder"]["block1"]["self_attention"]
    assert np.std(layer["layer"]["query"]["kernel"]) == np.clip(
        np.std(layer["layer"]["query"]["kernel"]), 0.070, 0.0743
    )
    assert np.std(layer["layer"]["out"]["kernel"]) > 0.099  # sqrt(2 / (96 + 96)) = 0.102


def test_auxiliary_outputs_are_those_of_all_blocks_in_training():
    images = jnp.ones((1, 32, 40, 3))
    apply = jax.jit(functools.partial(SMALL.apply, train=True, mutable=["batch_stats"]))
    (training, _), evaluation = (
        apply(variables(), images),
        predictions(variables(), images, jnp.array([WHOLE])),
    )
    assert training["boxes"].shape == (1, 2, 5, 4) and evaluation["boxes"].shape == (1, 1, 5, 4)
    single = SMALL.clone(auxiliary=False)
    shapes = jax.eval_shape(functools.partial(single.apply, train=True, mutable=["batch_stats"]), variables(), images)
    assert shapes[0]["boxes"].shape == (1, 1, 5, 4)


def test_frozen_norm_never_changes_and_has_no_gradient():
    norm = frozen_batch_norm(train=True)
    x = jnp.asarray(np.random.default_rng(2).normal(3, 2, (4, 5)), jnp.float32)
    start = norm.init(jax.random.key(0), x)
    y, new = norm.apply(start, x, mutable=["batch_stats"])
    np.testing.assert_allclose(y, x, atol=1e-4)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: bool((a == b).all()), dict(new), {"batch_stats": start["batch_stats"]})
    )
    gradient = jax.grad(lambda params: norm.apply({**start, "params": params}, x).sum())(start["params"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    assert type(norm).__name__ == "BatchNorm"  # the paths of a trained network's parameters


def test_four_images_are_overfitted():
    """Rectangles of two colours: every box is found, with hardly a pixel's error."""
    rng, edges = (
        np.random.default_rng(3),
        np.array([[4, 6, 16, 18], [14, 4, 28, 24], [2, 16, 14, 30], [12, 10, 30, 20]]),
    )
    images, boxes = rng.normal(0, 0.1, (4, 32, 32, 3)), np.zeros((4, 2, 4))
    for i in range(4):
        for j, (top, left, bottom, right) in enumerate(edges[[i, (i + 1) % 4]]):
            images[i, top:bottom, left:right, j] = 1
            boxes[i, j] = np.array([top, left, bottom, right]) / 32
    batch = {"objects/bbox": boxes.astype(np.float32), "objects/label": np.tile([0, 1], (4, 1)), "mask": np.ones(4)}
    images, task = jnp.asarray(images, jnp.float32), Detection(queries=5, classes=("a", "b"))
    backbone = functools.partial(ResNet, block=BasicBlock, blocks=(1,), width=16, norm=layer_norm)
    sizes = {"num_classes": 2, "backbone": backbone, "width": 32, "heads": 4, "mlp_width": 64, "order": "pre"}
    model = SMALL.clone(**sizes)
    steps, weights = 500, task.weights(batch)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    @jax.jit
    def fitted(params):
        def loss(params):
            score = task.score(model.apply({"params": params}, images, train=True), batch)
            return task.total({term: total / weights[term] for term, total in score.losses.items()})

        def step(_, carry):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return optax.apply_updates(params, updates), state

        params, _ = jax.lax.fori_loop(0, steps, step, (params, optimizer.init(params)))
        return task.score(model.apply({"params": params}, images, train=False), batch).arrays

    params = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)["params"]
    found = average_precision({key: np.asarray(x) for key, x in fitted(params).items()})
    assert found["ap50"] == pytest.approx(1) and found["ap"] > 0.9
