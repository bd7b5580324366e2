"""Augmentation of pixels, and of pairs of images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.info import Info, Key
from data.augment import images
from data.augment.op import example_keys, operations, parse_op
from tests.data.infos import batch_of, pixels

RNG = jax.random.key(0)


def applied(text, batch, info=None):
    """Returns the batch after the op of a call, as numpy arrays."""
    info = info or pixels(batch["image"].shape[1:])
    op = parse_op(text).bind(info)
    keys = example_keys(RNG, 0, jnp.arange(len(batch["mask"])))
    return jax.tree.map(np.asarray, jax.jit(op)(keys, batch))


def images_of(size=16, shape=(10, 12, 3), padding=0):
    batch = batch_of(pixels(shape), size, padding)
    return batch | {"label": np.arange(size, dtype=np.int32)}


def test_cutout_hides_one_square_of_that_size():
    hidden = applied("cutout(4, fill=0.0)", images_of(200))["image"] == 0
    assert (hidden.all(-1) == hidden.any(-1)).all()
    rows, columns = hidden.any((2, 3)).sum(1), hidden.any((1, 3)).sum(1)
    np.testing.assert_array_equal(hidden[..., 0].sum((1, 2)), rows * columns)
    assert rows.max() == columns.max() == 4 and rows.min() == columns.min() == 2


def test_random_erasing_fills_one_rectangle_of_some_images_with_noise():
    batch = images_of(400, (16, 16, 3)) | {"image": np.full((400, 16, 16, 3), 2.0, np.float32)}  # no noise is 2
    hidden = applied("random_erasing(0.25, area=(0.1, 0.2), ratio=0.5)", batch)["image"] != 2
    assert (hidden.all(-1) == hidden.any(-1)).all()
    rows, columns, area = hidden.any((2, 3)).sum(1), hidden.any((1, 3)).sum(1), hidden[..., 0].sum((1, 2))
    np.testing.assert_array_equal(area, rows * columns)
    assert 60 < (area > 0).sum() < 140 and area.max() <= 0.25 * 256  # sides are whole pixels
    whole = (rows > 2) & (columns > 2)
    assert (np.maximum(rows, columns)[whole] <= 11).all()


def test_mixup_or_cutmix_is_one_of_both():
    batch = images_of(200, (6, 6, 3)) | {
        "image": np.arange(200.0, dtype=np.float32)[:, None, None, None] * np.ones((6, 6, 3), np.float32)
    }
    result = applied("mixup_or_cutmix()", batch)
    shown, other, weight = result["image"], result["mixed_label"].astype(float), result["mix_weight"]
    np.testing.assert_allclose(shown.mean((1, 2, 3)), weight * np.arange(200) + (1 - weight) * other, rtol=1e-3)
    blended = np.isclose(shown.std((1, 2, 3)), 0, atol=1e-4) & (weight < 0.999) & (weight > 0.001)
    pasted = shown.std((1, 2, 3)) > 1e-2
    assert blended.sum() > 60 and pasted.sum() > 60 and not (blended & pasted).any()


def test_central_crop_keeps_the_pixels_of_the_centre_in_evaluation_too():
    batch = images_of(3, (10, 12, 3))
    cut = applied("central_crop((6, 5))", batch)["image"]
    np.testing.assert_array_equal(cut, batch["image"][:, 2:8, 3:8])
    assert parse_op("central_crop((6, 5))").when == "always"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("central_crop((11, 5))", r"central_crop: size \(11, 5\) is larger than the image"),
        ("padded_crop(padding=11)", r"padded_crop: padding 11 is larger than the image, \(10, 12\)"),
    ],
)
def test_crops_larger_than_the_image_are_refused(text, words):
    with pytest.raises(UserError, match=words):
        applied(text, images_of(3, (10, 12, 3)))


def test_color_jitter_of_nothing_changes_nothing():
    batch = images_of()
    result = applied("color_jitter(0, 0, 0, 0)", batch)
    np.testing.assert_allclose(result["image"], batch["image"], atol=1e-6)


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_color_needs_three_channels(name):
    strengths = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, name: 0.5}
    text = f"color_jitter({', '.join(f'{key}={value}' for key, value in strengths.items())})"
    grey, color = images_of(shape=(4, 4, 1)), images_of(shape=(4, 4, 3))
    np.testing.assert_allclose(applied(text, grey)["image"], grey["image"], atol=1e-6)
    assert np.abs(applied(text, color)["image"] - color["image"]).max() > 0.05


@pytest.mark.parametrize("text", ["mixup(1.0)", "cutmix()"])
@pytest.mark.parametrize("padding", [0, 5, 15, 16])
def test_mixing_pairs_answers_with_what_is_seen_and_never_with_padding(text, padding):
    batch = images_of(16, (8, 8, 16), padding)
    batch["image"] = np.broadcast_to(np.eye(16, dtype=np.float32)[:, None, None, :], (16, 8, 8, 16))
    mixed = applied(text, batch)
    real = 16 - padding
    partner, weight = mixed["mixed_label"], mixed["mix_weight"]
    assert sorted(partner[:real]) == list(range(real))
    if real > 1:
        assert (partner[:real] != np.arange(real)).all()
    np.testing.assert_array_equal(partner[real:], np.arange(real, 16))
    expected = weight[:, None] * np.eye(16)[np.arange(16)] + (1 - weight)[:, None] * np.eye(16)[partner]
    np.testing.assert_allclose(mixed["image"].mean((1, 2)), expected, atol=1e-5)
    np.testing.assert_allclose(mixed["image"][real:], batch["image"][real:], atol=1e-6)


def test_mixup_blends_features_and_target_alike():
    info = Info("table", {}, {"features": Key((2,), "float32", "features"), "target": Key((), "float32", "target")})
    value = np.arange(8.0, dtype=np.float32)
    batch = {"features": np.stack([value, 2 * value], 1), "target": 3 * value, "mask": np.ones(8, np.float32)}
    mixed = applied("mixup(1.0)", batch, info)
    assert set(mixed) == set(batch)
    np.testing.assert_allclose(mixed["features"][:, 1], 2 * mixed["features"][:, 0], rtol=1e-5)
    np.testing.assert_allclose(mixed["target"], 3 * mixed["features"][:, 0], rtol=1e-5)
    assert np.abs(mixed["target"] - batch["target"]).max() > 0.1


def test_mixup_weights_follow_beta():
    weight = applied("mixup(0.2)", images_of(4000, (1, 1, 1)))["mix_weight"]
    assert abs(weight.mean() - 0.5) < 0.03
    assert abs(weight.var() - 1 / (4 * (2 * 0.2 + 1))) < 0.01


def test_rand_augment_of_magnitude_zero_only_redistributes_contrast():
    """At magnitude 0 all but auto-contrast and equalize are the identity."""
    batch = images_of(400, (8, 8, 3))
    changed = np.abs(applied("rand_augment(1, 0)", batch)["image"] - batch["image"]).max((1, 2, 3)) > 0.004
    assert 20 < changed.sum() < 110  # 2 of 14 operations: 57 expected


def test_rand_augment_fills_what_comes_from_outside():
    batch = images_of(200, (8, 8, 1))
    batch["image"] = np.full_like(batch["image"], 0.4)
    result = applied("rand_augment(1, 10, fill=1.0)", batch)["image"]
    filled = (result == 1.0).any((1, 2, 3)) & (np.abs(result - 0.4) < 1e-6).any((1, 2, 3))
    assert 40 < filled.sum() < 110  # 5 geometric operations of 14: 71 expected


def test_equalize_is_pils():
    from PIL import Image, ImageOps

    pixels = np.random.default_rng(0).integers(30, 120, (9, 11), dtype=np.uint8)
    expected = np.array(ImageOps.equalize(Image.fromarray(pixels)))
    ours = images._equalize(jnp.asarray(pixels[..., None] / 255, jnp.float32), strength=1.0, signed=jnp.ones(()))
    np.testing.assert_allclose(np.array(ours)[..., 0] * 255, expected, atol=1e-3)


@pytest.mark.parametrize(
    "text",
    ["cutout(size=0)", "color_jitter(hue=0.7)", "mixup(alpha=0)", "rand_augment(magnitude=11)", "rand_augment(0)"],
)
def test_impossible_arguments_are_named(text):
    with pytest.raises(UserError, match=r"(size|hue|alpha|magnitude|num_ops) must be"):
        parse_op(text)


def test_mixing_needs_an_answer():
    info = Info("table", {}, {"features": Key((2,), "float32", "features")})
    with pytest.raises(UserError, match="mixup: mixes label or target; table has features"):
        parse_op("mixup()").bind(info)


SPATIAL = {
    "label_map": Key((10, 12), "int32", "label_map"),
    "depth": Key((10, 12, 1), "float32"),
    "boxes": Key((3, 4), "float32", "boxes"),
    "points": Key((5, 2), "float32", "points"),
    "clip": Key((4, 10, 12, 3), "float32", "video"),
}


@pytest.mark.parametrize("key", SPATIAL)
def test_an_op_refuses_a_spatial_key_that_it_would_leave_in_place(key):
    info = pixels(**{key: SPATIAL[key]})
    refusing = set()
    for name, op in operations().items():
        try:
            op(**{"bands": 8} if "bands" in {field.name for field in dataclasses.fields(op)} else {}).bind(info)
        except UserError as refusal:
            refusing |= {name} if f"not {key!r}" in str(refusal) else set()
    assert {"cutout", "rand_augment", "mixup", "cutmix"} <= refusing
    assert not {"color_jitter", "normalise"} & refusing
    assert ("flip" in refusing) == (key == "depth")
