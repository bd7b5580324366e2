"""The drawn set for segmentation and detection: label maps and boxes against the pixels."""

import numpy as np
import pytest

import data
from data.builders import shapes
from data.builders.shapes import SIDE, boxes, draw, label_map
from tests.data.infos import shapes as shapes_of

COLOURS = np.array(shapes.COLOURS, float)


@pytest.fixture(scope="module")
def drawn():
    random = np.random.default_rng(0)
    return [draw(random) for _ in range(100)]


def test_label_map_and_boxes_show_the_same_shapes(drawn):
    for one in drawn:
        labels, found = label_map(one)[..., 0], boxes(one)
        assert 1 <= len(found) == len(one.labels) <= shapes.MOST
        covered = np.zeros((SIDE, SIDE), bool)
        for number, (box, label) in enumerate(zip(found, one.labels, strict=True), start=1):
            top, left, bottom, right = np.round(box * SIDE).astype(int)
            inside = one.objects[top:bottom, left:right] == number
            assert inside.sum() == (one.objects == number).sum()  # nothing is outside, and each edge is touched
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
            assert (labels[one.objects == number] == label + 1).all()
            covered |= one.objects == number
        assert ((labels > 0) == covered).all()


def test_pixels_have_the_colour_of_a_shape_where_the_label_map_has_one(drawn):
    for one in drawn:
        distance = np.abs(one.image[:, :, None].astype(float) - COLOURS).mean(-1).min(-1)
        inner = np.ones((SIDE, SIDE), bool)  # away from edges, whose pixels are mixed
        for axis in (0, 1):
            for shift in (-1, 1):
                inner &= np.roll(one.objects, shift, axis) == one.objects
        assert (distance[inner & (one.objects > 0)] < 30).mean() > 0.99
        assert (distance[inner & (one.objects == 0)] > 20).mean() > 0.95


def test_areas_tell_the_shapes(drawn):
    areas = {label: [] for label in range(3)}
    for one in drawn:
        if len(one.labels) == 1:
            top, left, bottom, right = boxes(one)[0] * SIDE
            areas[one.labels[0]].append((one.objects > 0).sum() / ((bottom - top) * (right - left)))
    for label, share in enumerate((np.pi / 4, 1, 1 / 2)):
        np.testing.assert_allclose(areas[label], share, atol=0.1)


def test_set(config, tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SPLITS", {"train": 12, "validation": 4, "test": 6})
    splits, info = data.load(config("shapes", validation="validation", test="test"), str(tmp_path))
    assert info.sizes == {"train": 12, "validation": 4, "test": 6}
    found = shapes_of(info)
    assert found["image"] == ((64, 64, 3), "uint8") and found["label_map"] == ((64, 64, 1), "uint8")
    assert info.keys["label_map"].classes == ("background", "circle", "square", "triangle")
    assert info.keys["objects/label"].classes == ("circle", "square", "triangle")
    assert [info.keys[key].role for key in ("label_map", "objects/bbox", "objects/label")] == [
        "label_map",
        "boxes",
        "label",
    ]
    batch = splits["test"].batch(np.arange(6))
    real = batch["objects/bbox_mask"] > 0
    assert real.sum() == batch["objects/bbox_lengths"].sum() > 0
    height, width = np.split(batch["objects/bbox"][real][:, 2:] - batch["objects/bbox"][real][:, :2], 2, axis=1)
    assert (height > 0).all() and (width > 0).all()
    for labels, map_, mask in zip(batch["objects/label"], batch["label_map"], real, strict=True):
        assert set(np.unique(map_)) - {0} == set(labels[mask] + 1)
