import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from data.augment import ops as augment

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
EVERY = {
    "flip": augment.flip(),
    "padded_crop": augment.padded_crop(2),
    "cutout": augment.cutout(4),
    "color_jitter": augment.color_jitter(),
    "mixup": augment.mixup(1.0),
    "cutmix": augment.cutmix(),
    "rand_augment": augment.rand_augment(),
}


def batch_of(size=16, shape=(10, 12, 3), padding=0, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.uniform(0.1, 0.9, (size, *shape)), jnp.float32),
        "label": jnp.arange(size, dtype=jnp.int32),
        "mask": jnp.asarray(np.arange(size) < size - padding, jnp.float32),
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("op", EVERY.values(), ids=EVERY)
def test_every_op_is_pure_and_differs_by_example_and_key(op, channels):
    batch = batch_of(shape=(10, 12, channels))
    batch["image"] = jnp.repeat(batch["image"][:1], 16, 0)  # equal images: only the draws tell the results apart
    if op.mixes:
        batch["image"] += 0.005 * jnp.arange(16.0)[:, None, None, None]
    before = np.array(batch["image"])
    compiled = jax.jit(op)
    once, again, other = compiled(KEY, batch), compiled(KEY, batch), compiled(jax.random.key(1), batch)
    image = np.array(once["image"])
    assert image.shape == before.shape and image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1 + 1e-6
    np.testing.assert_array_equal(image, again["image"])
    assert np.abs(image - np.array(other["image"])).max() > 1e-3
    assert len({each.tobytes() for each in image}) >= 2
    np.testing.assert_array_equal(before, batch["image"])
    np.testing.assert_array_equal(batch["mask"], once["mask"])


def test_flip_mirrors_about_half():
    batch = batch_of(400, (3, 4, 1))
    flipped = np.array(augment.flip()(KEY, batch)["image"])
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, np.array(batch["image"]), strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(flipped, np.array(batch["image"]), strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 140 < sum(mirrored) < 260


def test_padded_crop_is_a_window_of_the_padded_image():
    batch = batch_of(64, (5, 6, 2))
    cropped = np.array(augment.padded_crop(1)(KEY, batch)["image"])
    padded = np.pad(np.array(batch["image"]), ((0, 0), (1, 1), (1, 1), (0, 0)))
    seen = set()
    for image, source in zip(cropped, padded, strict=True):
        found = [(y, x) for y in range(3) for x in range(3) if np.array_equal(image, source[y : y + 5, x : x + 6])]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) == 9


def test_cutout_hides_one_square_of_that_size():
    batch = batch_of(200, (10, 12, 3))
    hidden = np.array(augment.cutout(4, fill=0.0)(KEY, batch)["image"]) == 0
    assert (hidden.all(-1) == hidden.any(-1)).all()
    rows, columns = hidden.any((2, 3)).sum(1), hidden.any((1, 3)).sum(1)
    np.testing.assert_array_equal(hidden[..., 0].sum((1, 2)), rows * columns)
    assert rows.max() == columns.max() == 4 and rows.min() == columns.min() == 2


def test_color_jitter_of_nothing_changes_nothing():
    batch = batch_of()
    result = augment.color_jitter(0.0, 0.0, 0.0, 0.0)(KEY, batch)
    np.testing.assert_allclose(result["image"], batch["image"], atol=1e-6)


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_color_needs_three_channels(name):
    op = augment.color_jitter(**{"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, name: 0.5})
    grey, color = batch_of(shape=(4, 4, 1)), batch_of(shape=(4, 4, 3))
    np.testing.assert_allclose(op(KEY, grey)["image"], grey["image"], atol=1e-6)
    assert np.abs(op(KEY, color)["image"] - color["image"]).max() > 0.05


@pytest.mark.parametrize("op", [augment.mixup(1.0), augment.cutmix()], ids=["mixup", "cutmix"])
@pytest.mark.parametrize("padding", [0, 5, 15, 16])
def test_mixing_pairs_answers_with_what_is_seen_and_never_with_padding(op, padding):
    batch = batch_of(16, padding=padding)
    batch["image"] = jnp.broadcast_to(jax.nn.one_hot(batch["label"], 16)[:, None, None, :], (16, 8, 8, 16))
    mixed = jax.jit(op)(KEY, batch)
    real = 16 - padding
    partner, weight = np.array(mixed["mixed_label"]), np.array(mixed["mix_weight"])
    assert sorted(partner[:real]) == list(range(real))
    if real > 1:
        assert (partner[:real] != np.arange(real)).all()
    np.testing.assert_array_equal(partner[real:], np.arange(real, 16))
    expected = weight[:, None] * np.eye(16)[np.arange(16)] + (1 - weight)[:, None] * np.eye(16)[partner]
    np.testing.assert_allclose(np.array(mixed["image"]).mean((1, 2)), expected, atol=1e-5)
    np.testing.assert_allclose(mixed["image"][real:], batch["image"][real:], atol=1e-6)


def test_mixup_blends_features_and_target_alike():
    value = jnp.arange(8.0)
    batch = {"features": jnp.stack([value, 2 * value], 1), "target": 3 * value, "mask": jnp.ones(8)}
    mixed = jax.jit(augment.mixup(1.0))(KEY, batch)
    assert set(mixed) == set(batch)
    np.testing.assert_allclose(mixed["features"][:, 1], 2 * mixed["features"][:, 0], rtol=1e-5)
    np.testing.assert_allclose(mixed["target"], 3 * mixed["features"][:, 0], rtol=1e-5)
    assert np.abs(np.array(mixed["target"] - batch["target"])).max() > 0.1


def test_mixup_weights_follow_beta():
    weight = np.array(jax.jit(augment.mixup(0.2))(KEY, batch_of(4000, (1, 1, 1)))["mix_weight"])
    assert abs(weight.mean() - 0.5) < 0.03
    assert abs(weight.var() - 1 / (4 * (2 * 0.2 + 1))) < 0.01


def test_rand_augment_of_magnitude_zero_only_redistributes_contrast():
    """At magnitude 0 all but auto-contrast and equalize are the identity."""
    batch = batch_of(400, (8, 8, 3))
    result = np.array(jax.jit(augment.rand_augment(1, 0))(KEY, batch)["image"])
    changed = np.abs(result - np.array(batch["image"])).max((1, 2, 3)) > 0.004
    assert 20 < changed.sum() < 110  # 2 of 14 operations: 57 expected


def test_rand_augment_fills_what_comes_from_outside():
    batch = batch_of(200, (8, 8, 1))
    batch["image"] = 0.4 + 0 * batch["image"]
    result = np.array(jax.jit(augment.rand_augment(1, 10, fill=1.0))(KEY, batch)["image"])
    filled = (result == 1.0).any((1, 2, 3)) & (np.abs(result - 0.4) < 1e-6).any((1, 2, 3))
    assert 40 < filled.sum() < 110  # 5 geometric operations of 14: 71 expected


def test_equalize_is_pils():
    from PIL import Image, ImageOps

    pixels = np.random.default_rng(0).integers(30, 120, (9, 11), dtype=np.uint8)
    expected = np.array(ImageOps.equalize(Image.fromarray(pixels)))
    ours = augment._equalize(jnp.asarray(pixels[..., None] / 255, jnp.float32), strength=1.0, signed=jnp.ones(()))
    np.testing.assert_allclose(np.array(ours)[..., 0] * 255, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: augment.padded_crop(0), "padding"),
        (lambda: augment.cutout(size=0), "size"),
        (lambda: augment.color_jitter(hue=0.7), "hue"),
        (lambda: augment.mixup(alpha=0), "alpha"),
        (lambda: augment.rand_augment(magnitude=11), "magnitude"),
        (lambda: augment.rand_augment(num_ops=0), "num_ops"),
    ],
)
def test_impossible_arguments_are_named(make, named):
    with pytest.raises(UserError, match=rf"{named} must be"):
        make()


def test_mixing_needs_an_answer():
    with pytest.raises(UserError, match="mixes label or target"):
        augment.mixup()(KEY, {"features": jnp.ones((2, 3))})


@pytest.mark.parametrize("name", sorted(EVERY.keys() - {"color_jitter"}))
@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("objects/bbox", (3, 4)),
        ("boxes", (3, 4)),
        ("keypoints", (5, 2)),
        ("depth", (10, 12, 1)),
        ("label_map", (10, 12)),
    ],
)
def test_an_op_refuses_a_spatial_target_that_it_would_leave_in_place(name, key, shape):
    batch = batch_of(2) | {key: jnp.zeros((2, *shape), jnp.int32)}
    with pytest.raises(UserError, match=rf"^augment: {name} .*{key}"):
        jax.eval_shape(EVERY[name], KEY, batch)
    assert EVERY["color_jitter"].moves is False
