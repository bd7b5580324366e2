"""From nested, ragged examples to flat arrays."""

import numpy as np
import pytest
from data.preprocess.examples import Convert, as_image, as_label_map, collect, stack

from core.errors import UserError


def test_convert_flattens_narrows_and_drops_text():
    example = {
        "image": np.zeros((4, 5), np.uint8),
        "label": 3,
        "wide": np.array([1.5, 2.5]),
        "flag": True,
        "text": b"words",
        "deep": {"a": {"b": np.int64(2)}, "name": "x"},
    }
    arrays = Convert()(example)
    assert {key: (value.shape, value.dtype.name) for key, value in arrays.items()} == {
        "image": ((4, 5, 1), "uint8"),
        "label": ((), "int32"),
        "wide": ((2,), "float32"),
        "flag": ((), "bool"),
        "deep/a/b": ((), "int32"),
    }


def test_strings_that_are_asked_for_stay_whole():
    example = {"text": "naïve\x00".encode(), "deep": {"name": "x"}, "numbers": 3, "many": [b"a", b"b"]}
    arrays = Convert(strings=frozenset({"text", "deep/name", "numbers", "many", "other"}))(example)
    assert {key: value.item() for key, value in arrays.items()} == {
        "text": "naïve\x00",
        "deep/name": "x",
        "numbers": 3,
        "many": "a b",
    }


@pytest.mark.parametrize("order", [("tokens", "tokens_mask"), ("tokens_mask", "tokens")])
def test_a_sets_own_mask_is_kept(order):
    columns = {"tokens": [np.arange(2), np.arange(1)], "tokens_mask": [np.array([0, 1]), np.array([1])]}
    batch = stack({key: columns[key] for key in order}, {"tokens": 2, "tokens_mask": 2})
    np.testing.assert_array_equal(batch["tokens_mask"], [[0, 1], [1, 0]])
    np.testing.assert_array_equal(batch["tokens_lengths"], [2, 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, bool])
@pytest.mark.parametrize("channels", [None, 1, 2, 3])
def test_images_of_any_kind_are_resized(dtype, channels):
    shape = (6, 8) if channels is None else (6, 8, channels)
    white = np.full(shape, {np.uint8: 255, np.uint16: 65535, np.float64: 1.0, bool: True}[dtype], dtype)
    image = as_image(white, (3, 4))
    assert image.shape == (3, 4, channels or 1)
    np.testing.assert_allclose(image, 255 if image.dtype == np.uint8 else 1.0)
    assert image.dtype == (np.uint8 if dtype in (np.uint8, bool) else np.float32)


def test_boxes_are_padded_with_a_mask():
    rows = [{"objects": {"bbox": np.ones((n, 4)), "label": np.arange(n)}} for n in (2, 0, 3)]
    rows[1]["objects"] = {"bbox": np.array([]), "label": np.array([])}  # as TFDS gives an empty list
    columns = collect(rows, np.arange(3), Convert())
    batch = stack(columns, {"objects/bbox": 3, "objects/label": 3})
    assert batch["objects/bbox"].shape == (3, 3, 4)
    np.testing.assert_array_equal(batch["objects/bbox_mask"], [[1, 1, 0], [0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(batch["objects/bbox_lengths"], [2, 0, 3])
    assert batch["objects/bbox_lengths"].dtype == np.int32 and batch["objects/bbox_mask"].dtype == np.float32
    assert batch["objects/label"].dtype == np.int32
    np.testing.assert_array_equal(batch["objects/label"], [[0, 1, 0], [0, 0, 0], [0, 1, 2]])
    np.testing.assert_array_equal(batch["objects/bbox"].sum((1, 2)), [8, 0, 12])
    assert columns == {}


def test_other_differences_of_shape_are_refused():
    rows = [{"image": np.zeros((4, n), np.uint8)} for n in (4, 5)]
    with pytest.raises(UserError, match=r"has different shapes, such as \(4, 4, 1\) and \(4, 5, 1\).*data.image_size"):
        stack(collect(rows, np.arange(2), Convert()), {})
    resized = stack(collect(rows, np.arange(2), Convert(size=(2, 2))), {})
    assert resized["image"].shape == (2, 2, 2, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, bool])
@pytest.mark.parametrize("size", [(2, 3), (8, 12), (5, 7)])
def test_a_label_map_keeps_its_class_numbers(dtype, size):
    labels = np.zeros((4, 6), dtype)
    labels[2:, 3:] = 1 if dtype is bool else 9
    resized = as_label_map(labels, size)
    assert resized.shape == (*size, 1) and set(np.unique(resized)) == set(np.unique(labels))
    rows, columns = ((np.arange(n) + 0.5) / n >= 0.5 for n in size)
    np.testing.assert_array_equal(resized[..., 0] > 0, rows[:, None] & columns)


def test_images_are_resized_smoothly_and_label_maps_are_not():
    stripes = np.tile(np.array([0, 200], np.uint8), (8, 4))
    arrays = Convert(frozenset({"image", "segmentation_mask"}), (4, 4))(
        {"image": stripes, "segmentation_mask": stripes}
    )
    assert set(np.unique(arrays["segmentation_mask"])) <= {0, 200}
    assert not set(np.unique(arrays["image"])) <= {0, 200}
