import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from data.augment import ops as augment
from data.augment.transform import Transform

KEY = jax.random.key(3)
STATISTICS = {"image": {"mean": [0.5, 0.25, 0.0], "std": [0.5, 0.25, 0.0]}}


def batch_of():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3), dtype=np.uint8)
    return {
        "image": pixels,
        "features": np.ones((8, 2), np.float32),
        "target": np.full(8, 7.0, np.float32),
        "mask": np.ones(8, np.float32),
    }


def test_evaluation_scales_and_normalises_and_never_augments():
    batch = batch_of()
    transform = Transform((augment.cutout(),), STATISTICS)
    result = jax.jit(lambda batch: transform(None, batch))(batch)
    scaled = batch["image"].astype(np.float32) / 255
    expected = np.stack([(scaled[..., 0] - 0.5) / 0.5, (scaled[..., 1] - 0.25) / 0.25, scaled[..., 2]], -1)
    assert result["image"].dtype == jnp.float32
    np.testing.assert_allclose(result["image"], expected, atol=1e-6)
    for key in ("features", "target", "mask"):
        np.testing.assert_array_equal(result[key], batch[key])
    assert batch["image"].dtype == np.uint8


def test_training_augments_in_order_each_op_with_its_own_key():
    first, second = augment.padded_crop(2), augment.padded_crop(2)
    batch = batch_of()
    image = {"image": jnp.asarray(batch["image"], jnp.float32) / 255}
    expected = second(jax.random.fold_in(KEY, 1), first(jax.random.fold_in(KEY, 0), image))
    transform = Transform((first, second), STATISTICS)
    np.testing.assert_array_equal(transform.augmented(KEY, batch)["image"], expected["image"])
    normalised = np.array(transform(KEY, batch)["image"])
    np.testing.assert_allclose(normalised[..., 0], (expected["image"][..., 0] - 0.5) / 0.5, atol=1e-6)


def test_it_is_static_under_jit():
    transform = Transform((augment.flip(),), STATISTICS)
    step = jax.jit(lambda transform, rng, batch: transform(rng, batch), static_argnums=0)
    for seed in range(3):
        step(transform, jax.random.key(seed), batch_of())
    assert step._cache_size() == 1


def test_any_function_of_rng_and_batch_is_an_op():
    result = Transform((lambda rng, batch: batch | {"target": -batch["target"]},))(KEY, batch_of())
    np.testing.assert_array_equal(result["target"], -7.0)


def test_two_mixing_ops_are_refused():
    with pytest.raises(UserError, match="mixup and cutmix both mix"):
        Transform((augment.mixup(), augment.flip(), augment.cutmix()))


def test_an_op_without_its_key_is_named():
    batch = batch_of()
    del batch["image"]
    with pytest.raises(UserError, match="cutout works on image; this batch has features, mask, target"):
        jax.jit(Transform((augment.cutout(),)).__call__)(KEY, batch)


def test_statistics_that_do_not_fit_are_refused():
    batch = {"image": np.zeros((2, 4, 4, 1), np.uint8)}
    with pytest.raises(UserError, match="1 channels"):
        Transform((), STATISTICS)(None, batch)
