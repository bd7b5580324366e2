"""The transform of a batch: images as floats, ops in order, normalisation, one key per example."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.info import Info, Key
from data.augment.op import Op, example_keys, parse_op
from data.augment.transform import Transform
from tests.data.infos import pixels

RNG = jax.random.key(3)
STATISTICS = {"mean": [0.5, 0.25, 0.0], "std": [0.5, 0.25, 0.0]}
INFO = Info(
    "made up",
    {},
    {
        "image": Key((6, 6, 3), "uint8", "image", statistics=STATISTICS),
        "features": Key((2,), "float32", "features"),
        "target": Key((), "float32", "target", statistics={"mean": 7.0, "std": 1.0}),
    },
)


def batch_of(size=8):
    image = np.random.default_rng(0).integers(0, 256, (size, 6, 6, 3), dtype=np.uint8)
    others = {"features": np.ones((size, 2), np.float32), "target": np.full(size, 7.0, np.float32)}
    return {"image": image, **others, "mask": np.ones(size, np.float32), "index": np.arange(size, dtype=np.int32)}


@dataclasses.dataclass(frozen=True)
class Noise(Op):
    """Adds a key with a random number per example, in evaluation too."""

    when: ClassVar = "always"

    def __call__(self, keys, batch):
        return batch | {"noise": jax.vmap(jax.random.uniform)(keys)}


def test_evaluation_scales_and_normalises_and_does_not_augment():
    batch, transform = batch_of(), Transform.create(("cutout()", "normalise()"), INFO)
    result = jax.jit(lambda batch: transform(None, batch))(batch)
    scaled = batch["image"].astype(np.float32) / 255
    expected = np.stack([(scaled[..., 0] - 0.5) / 0.5, (scaled[..., 1] - 0.25) / 0.25, scaled[..., 2]], -1)
    assert result["image"].dtype == jnp.float32
    np.testing.assert_allclose(result["image"], expected, atol=1e-6)
    for key in ("features", "target", "mask", "index"):
        np.testing.assert_array_equal(result[key], batch[key])
    assert batch["image"].dtype == np.uint8


def test_without_ops_images_are_floats_from_0_to_1():
    batch = batch_of()
    image = Transform.create((), INFO)(RNG, batch)["image"]
    np.testing.assert_allclose(image, batch["image"] / 255, atol=1e-6)


def test_training_runs_ops_in_order_with_keys_of_their_own():
    texts, batch = ("padded_crop(2)", "padded_crop(2)", "normalise()"), batch_of()
    image = {"image": jnp.asarray(batch["image"], jnp.float32) / 255}
    crop = parse_op(texts[0]).bind(pixels((6, 6, 3)))
    keys = [
        jnp.stack([jax.random.fold_in(jax.random.fold_in(RNG, position), i) for i in range(8)]) for position in (0, 1)
    ]
    expected = crop(keys[1], crop(keys[0], image))["image"]
    assert np.abs(crop(keys[0], crop(keys[0], image))["image"] - expected).max() > 0.1
    transform = Transform.create(texts, INFO)
    np.testing.assert_array_equal(transform.augmented(RNG, batch)["image"], expected)
    normalised = np.array(transform(RNG, batch)["image"])
    np.testing.assert_allclose(normalised[..., 0], (expected[..., 0] - 0.5) / 0.5, atol=1e-6)


def test_draws_of_evaluation_depend_on_the_index_alone():
    transform = Transform((Noise(),))
    whole = np.array(transform(None, batch_of(8))["noise"])
    assert len(set(whole)) == 8
    order = np.array([5, 2, 7])
    part = {key: x[order] for key, x in batch_of(8).items()}
    np.testing.assert_array_equal(transform(None, part)["noise"], whole[order])
    assert (np.array(transform(RNG, batch_of(8))["noise"]) != whole).all()


def test_keys_differ_by_op_and_example():
    keys = [jax.random.key_data(example_keys(RNG, op, jnp.arange(50))) for op in range(3)]
    assert len({tuple(key) for key in np.concatenate(keys).tolist()}) == 150


def test_it_is_static_under_jit():
    transform = Transform.create(("flip()", "normalise()"), INFO)
    step = jax.jit(lambda transform, rng, batch: transform(rng, batch), static_argnums=0)
    for seed in range(3):
        step(transform, jax.random.key(seed), batch_of())
    assert step._cache_size() == 1


def test_two_mixing_ops_are_refused():
    info = dataclasses.replace(INFO, keys=INFO.keys | {"label": Key((), "int32", "label")})
    with pytest.raises(UserError, match=r"config\.augment\.ops: mixup and cutmix both mix"):
        Transform.create(("mixup()", "flip()", "cutmix()"), info)


def test_an_op_without_its_key_is_named():
    table = Info("table", {}, {key: INFO.keys[key] for key in ("features", "target")})
    with pytest.raises(
        UserError, match=r"config\.augment\.ops: cutout: works on image; table has features \(features\)"
    ):
        Transform.create(("cutout()",), table)
    assert Transform.create(("normalise()",), table)(None, batch_of())["target"][0] == 7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("normalise(keys=('imag',))", ["'imag'", "did you mean 'image'"]),
        ("normalise(keys=('features',))", ["'features' of made up has no statistics"]),
        ("normalise(mean=(0.1, 0.2), std=(1.0, 1.0))", ["mean has 2 numbers", "(6, 6, 3)"]),
        ("normalise(mean=(0.1,))", ["both mean and std"]),
    ],
)
def test_normalisation_that_does_not_fit_is_refused(text, words):
    with pytest.raises(UserError) as refusal:
        Transform.create((text,), INFO)
    assert all(word in str(refusal.value) for word in ["normalise", *words]), refusal.value


def test_given_statistics_and_named_keys():
    batch = batch_of()
    result = Transform.create(("normalise(keys=('features', 'target'), mean=(3,), std=(2,))",), INFO)(None, batch)
    np.testing.assert_allclose(result["features"], (batch["features"] - 3) / 2)
    np.testing.assert_allclose(result["target"], np.full(8, 2.0))
    np.testing.assert_allclose(result["image"], batch["image"] / 255, atol=1e-6)
    of_set = Transform.create(("normalise(keys=('target',))",), INFO)(None, batch)
    np.testing.assert_array_equal(of_set["target"], np.zeros(8))
