"""Geometry: what an op does to an image, it does to label maps, boxes and points, against references in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.info import Info, Key
from data.augment.op import example_keys, parse_op
from tests.data.infos import batch_of, pixels, spatial

RNG = jax.random.key(0)
HEIGHT, WIDTH, COUNT = 24, 32, 40
BOX = np.array([6, 10, 15, 21])  # rows 6 to 14, columns 10 to 20
EVERY = {
    "flip()": 0.01,
    "flip(vertical=True)": 0.01,
    "padded_crop(9)": 0.01,
    "rotation(60)": 1.1,
    "random_resized_crop(area=(0.2, 0.9))": 1.1,
    "random_resized_crop(area=(0.2, 0.9), size=(30, 20))": 1.1,
    "scale_jitter(0.5, 2)": 1.1,
    "scale_jitter(0.5, 2, size=(40, 24))": 1.1,
}  # call -> pixels by which the edges of boxes may differ from what the interpolated image shows


def applied(text, batch, info):
    keys = example_keys(RNG, 0, jnp.arange(len(batch["mask"])))
    return jax.tree.map(np.asarray, jax.jit(parse_op(text).bind(info))(keys, batch))


def moves_of(text, size=(HEIGHT, WIDTH)):
    """Returns the matrices [n, 2, 2] and offsets [n, 2] that the op draws for the same keys as `applied`."""
    op = parse_op(text)
    move = jax.vmap(lambda key: op.draw(key, size))(example_keys(RNG, 0, jnp.arange(COUNT)))
    return np.asarray(move.matrix, np.float64), np.asarray(move.offset, np.float64)


def rectangles():
    """Returns a description and a batch: a bright rectangle, its label map, its box, and its corners and centre."""
    info = spatial((HEIGHT, WIDTH, 1), 5)
    batch = batch_of(info, COUNT)
    batch["image"][:] = 0
    batch["image"][:, BOX[0] : BOX[2], BOX[1] : BOX[3]] = 1
    batch["label_map"] = batch["image"].astype(np.int32)
    sides = np.array([HEIGHT, WIDTH] * 2)
    batch["boxes"][:] = BOX / sides
    corners = [(y, x) for y in BOX[[0, 2]] for x in BOX[[1, 3]]] + [(BOX[[0, 2]].mean(), BOX[[1, 3]].mean())]
    batch["points"][:] = np.array(corners) / sides[:2]
    batch["boxes_mask"][:, 3:] = 0  # padding
    batch["image_region"][:] = BOX / sides  # all but the rectangle is padding
    return info, batch


@pytest.mark.parametrize(("text", "tolerance"), EVERY.items())
def test_boxes_points_and_label_maps_follow_the_image(text, tolerance):
    info, batch = rectangles()
    moved = applied(text, batch, info)
    height, width = moved["image"].shape[1:3]
    seen = 0
    keys = ("image", "label_map", "boxes", "boxes_mask", "points", "points_mask", "image_region")
    for image, labels, boxes, boxes_mask, points, points_mask, region in zip(*map(moved.get, keys), strict=True):
        shown = labels[..., 0] == 1
        agree = (image[..., 0] > 0.5) == shown
        assert agree.mean() > 0.93 and set(np.unique(labels)) <= {0, 1, 255}
        assert not boxes_mask[3:].any() and not boxes[3:].any() and (boxes[:3] == boxes[0]).all()
        assert (boxes >= 0).all() and (boxes <= 1).all()
        rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        if len(rows):
            seen += 1
            assert boxes_mask[:3].all() and (region == boxes[0]).all()
            edges = boxes[0] * np.array([height, width] * 2)
            expected = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
            np.testing.assert_allclose(edges, expected, atol=tolerance)
        for (y, x), real in zip(points, points_mask, strict=True):
            assert real in (0, 1) and 0 <= y <= 1 and 0 <= x <= 1
            assert real or (y, x) == (0, 0)
        if points_mask[4]:  # the centre of the rectangle shows the rectangle
            y, x = (points[4] * np.array([height, width]) - 1e-6).astype(int)
            assert shown[y, x]
    assert seen > COUNT / 2


@pytest.mark.parametrize("text", EVERY)
def test_pixels_are_those_of_the_inverse_map(text):
    """Each pixel of a label map, and of the image away from edges, is the one that the drawn map points to."""
    info, batch = rectangles()
    random = np.random.default_rng(0)
    ramp = (
        np.add.outer(np.arange(HEIGHT) / HEIGHT, np.arange(WIDTH) / WIDTH)[..., None] / 2
    )  # linear: no kernel blurs it
    batch["image"][:] = ramp
    batch["label_map"] = random.integers(0, 99, (COUNT, HEIGHT, WIDTH, 1)).astype(np.int32)
    moved, (matrices, offsets) = applied(text, batch, info), moves_of(text)
    height, width = moved["image"].shape[1:3]
    # a pixel of an image that shrinks is an average, whose centre is right to a fifth of a pixel (0.016 to 0.021)
    tolerance = 4e-3 if text.startswith(("random_resized", "scale")) else 1e-4
    for i in range(5):
        for row in range(0, height, 3):
            for column in range(0, width, 3):
                place = matrices[i] @ [(row + 0.5) / height, (column + 0.5) / width] + offsets[i]
                y, x = place * [HEIGHT, WIDTH]
                if min(abs(y - round(y)), abs(x - round(x))) < 1e-3:
                    continue  # at an edge between pixels, either one is right
                inside = 0 < y < HEIGHT and 0 < x < WIDTH
                expected = batch["label_map"][i, int(y), int(x), 0] if inside else 255
                assert moved["label_map"][i, row, column, 0] == expected
                if inside and 3 < y < HEIGHT - 3 and 3 < x < WIDTH - 3:
                    between = ((y - 0.5) / HEIGHT + (x - 0.5) / WIDTH) / 2
                    nearest = text.startswith(("flip", "padded"))
                    exact = ramp[int(y), int(x), 0] if nearest else between
                    np.testing.assert_allclose(moved["image"][i, row, column, 0], exact, atol=tolerance)
                elif not inside:
                    assert moved["image"][i, row, column, 0] == 0


def test_flip_mirrors_about_half():
    batch = batch_of(pixels((3, 4, 1)), 400)
    flipped = applied("flip()", batch, pixels((3, 4, 1)))["image"]
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, batch["image"], strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(flipped, batch["image"], strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 140 < sum(mirrored) < 260


def test_vertical_flips_are_independent_of_horizontal_ones():
    batch = batch_of(pixels((3, 4, 1)), 64)
    flipped = applied("flip(vertical=True)", batch, pixels((3, 4, 1)))["image"]
    ways = [(slice(None, None, y), slice(None, None, x)) for y in (1, -1) for x in (1, -1)]
    counts = [sum(np.array_equal(a, b[way]) for a, b in zip(flipped, batch["image"], strict=True)) for way in ways]
    assert sum(counts) == 64 and min(counts) > 6


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_padded_crop_is_a_window_of_the_padded_image(fill):
    info = pixels((5, 6, 2))
    batch = batch_of(info, 64)
    cropped = applied(f"padded_crop(1, fill={fill})", batch, info)["image"]
    padded = np.pad(batch["image"], ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    seen = set()
    for image, source in zip(cropped, padded, strict=True):
        found = [(y, x) for y in range(3) for x in range(3) if np.array_equal(image, source[y : y + 5, x : x + 6])]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) == 9


def test_a_resized_crop_has_an_area_and_a_ratio_within_its_bounds():
    matrices, offsets = moves_of("random_resized_crop(area=(0.2, 0.5), ratio=(0.8, 1.25))")
    extent = matrices[:, [0, 1], [0, 1]]
    assert not matrices[:, [0, 1], [1, 0]].any()
    area, ratio = extent.prod(1), extent[:, 1] * WIDTH / (extent[:, 0] * HEIGHT)
    assert 0.2 <= area.min() < 0.3 and 0.4 < area.max() <= 0.5 + 1e-6
    assert 0.8 - 1e-6 <= ratio.min() < 0.9 and 1.1 < ratio.max() <= 1.25 + 1e-6
    assert (offsets >= 0).all() and (offsets + extent <= 1 + 1e-6).all() and offsets.max() > 0.3


def test_scale_jitter_keeps_the_aspect_and_pads_below_and_to_the_right():
    matrices, offsets = moves_of("scale_jitter(0.5, 2.0, size=(48, 48))")
    zoom = np.array([48, 48]) / (matrices[:, [0, 1], [0, 1]] * [HEIGHT, WIDTH])  # output pixels per pixel
    np.testing.assert_allclose(zoom[:, 0], zoom[:, 1], rtol=1e-5)
    factor = zoom[:, 0] / (48 / WIDTH)  # the wider side decides which factor fits the image into the output
    assert 0.5 <= factor.min() < 0.7 and 1.8 < factor.max() <= 2
    small = factor < 1
    assert not offsets[small].any() and offsets[~small, 1].max() > 0.1
    cropped = offsets + matrices[:, [0, 1], [0, 1]]
    assert (cropped[factor > 4 / 3] <= 1 + 1e-6).all()  # no padding where the image is larger than the output


def test_a_rotation_turns_pixels_by_at_most_its_angle():
    matrices, offsets = moves_of("rotation(30)")
    sides = np.array([HEIGHT, WIDTH])
    turned = matrices * sides[:, None] / sides  # in pixels
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), np.broadcast_to(np.eye(2), (COUNT, 2, 2)), atol=1e-5)
    angles = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert -30 <= angles.min() < -20 and 20 < angles.max() <= 30
    np.testing.assert_allclose(matrices @ [0.5, 0.5] + offsets, np.full((COUNT, 2), 0.5), atol=1e-6)


def test_a_large_image_that_shrinks_is_averaged():
    """A checkerboard becomes grey; sampled pixels would stay black or white."""
    info = pixels((64, 64, 1))
    batch = batch_of(info, 4)
    batch["image"] = np.broadcast_to((np.indices((64, 64)).sum(0) % 2)[None, ..., None], (4, 64, 64, 1)).astype("f4")
    shrunk = applied("scale_jitter(1, 1, size=(8, 8))", batch, info)["image"]
    np.testing.assert_allclose(shrunk[:, 1:-1, 1:-1], 0.5, atol=0.02)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"boxes_mask": None}, ["'boxes' needs 'boxes_mask'"]),
        ({"points_mask": None}, ["'points' needs 'points_mask'"]),
        ({"boxes": Key((4,), "float32", "boxes")}, ["(n, 4)", "'boxes' (4,)"]),
        ({"label_map": Key((5, 6), "int32", "label_map")}, ["one size", "'label_map' (5, 6)"]),
        ({"image": None}, ["works on image", "label_map"]),
        ({"scan": Key((8, 24, 30, 1), "float32", "volume")}, ["one size", "'scan' (8, 24, 30, 1)"]),
        ({"depth": Key((24, 32), "float32")}, ["'depth'", "without role"]),
    ],
    ids=str,
)
def test_sets_that_cannot_be_moved_are_refused(changes, words):
    info = spatial((24, 32, 3))
    keys = {key: record for key, record in (info.keys | changes).items() if record}
    with pytest.raises(UserError) as refusal:
        parse_op("flip()").bind(type(info)("made up", {}, keys))
    assert all(word in str(refusal.value) for word in ["flip", *words]), refusal.value


@pytest.mark.parametrize(
    "text",
    [
        "padded_crop(padding=0)",
        "padded_crop(fill=2)",
        "rotation(degrees=190)",
        "random_resized_crop(area=(0.5, 0.1))",
        "random_resized_crop(size=(3,))",
        "scale_jitter(low=2, high=1)",
        "scale_jitter(fill=2)",
        "scale_jitter(size=(3,))",
    ],
)
def test_impossible_arguments_are_named(text):
    with pytest.raises(UserError, match=r"(padding|fill|degrees|area|size|high) must be"):
        parse_op(text)


@pytest.mark.parametrize("op", ["padded_crop", "rotation", "scale_jitter"])
def test_places_outside_have_the_value_and_the_class_of_the_recipe(op):
    made = parse_op(f"{op}(fill=0.5, ignore=11)")
    assert (made.fill, made.ignore) == (0.5, 11) and (parse_op(f"{op}()").fill, parse_op(f"{op}()").ignore) == (0, 255)


@pytest.mark.parametrize("text", EVERY)
def test_frames_and_layers_move_as_an_image_does(text):
    """Also those of a label map."""
    info, batch = spatial((HEIGHT, WIDTH, 1), 5), batch_of(spatial((HEIGHT, WIDTH, 1), 5), 4)
    alone = applied(text, batch, info)
    frames = {key: np.repeat(batch[key][:, None], 3, axis=1) for key in ("image", "label_map")}
    keys = {"video": ("image", "float32"), "volume": ("image", "float32"), "label_map": ("label_map", "int32")}
    records = {role: Key((3, HEIGHT, WIDTH, 1), kind, role) for role, (_, kind) in keys.items()}
    of_frames = Info("made up", info.sizes, records)
    moved = applied(text, {role: frames[key] for role, (key, _) in keys.items()} | {"mask": batch["mask"]}, of_frames)
    for role, (key, _) in keys.items():
        for frame in range(3):
            np.testing.assert_allclose(moved[role][:, frame], alone[key], atol=1e-6)
