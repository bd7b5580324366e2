"""Boxes in the format of COCO."""

import json

import numpy as np
import pytest

import data
from core.errors import UserError
from data.sources.coco import Coco
from tests.data.drawn import draw
from training import build
from training.config import validate
from training.overrides import override, recipe


def content(**changes):
    found = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 20, "height": 10},
            {"id": 3, "file_name": "b.png", "width": 10, "height": 10},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [5, 2, 10, 4], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [15, 5, 100, 100.5], "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 2, "bbox": [30, 5, 5, 5]},  # outside
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    return found | changes


@pytest.fixture
def write(tmp_path):
    """Returns a function that writes a JSON file beside its images."""
    draw(tmp_path / "a.png", 9, size=(20, 10))
    draw(tmp_path / "images" / "b.png", 8, size=(10, 10))

    def write_file(name="boxes.json", **changes):
        (tmp_path / name).write_text(json.dumps(content(**changes)))
        return str(tmp_path / name)

    return write_file


def test_boxes_are_fractions(write, config):
    path = write()
    source = Coco(path, config(""))
    chunk = source.examples("train", ordered=True).chunk([0, 1])
    assert source.keys["objects/label"].classes == ("cat", "dog") and source.keys["objects/bbox"].role == "boxes"
    np.testing.assert_allclose(chunk["objects/bbox"][0], [[0.2, 0.25, 0.6, 0.75], [0.5, 0.75, 1, 1]], rtol=1e-6)
    assert chunk["objects/label"][0].tolist() == [1, 0] and chunk["objects/is_crowd"][0].tolist() == [False, True]
    assert chunk["objects/bbox"][1].shape == (0, 4) and chunk["image"][1].shape == (10, 10, 1)
    assert source.summary == "boxes without area within the image are left out, annotations boxes.json: 3"
    splits, info = data.load(config(f"coco:{path}", preprocess=("resize(5, 5)",)))
    arrays = splits["train"].arrays
    assert arrays["image"].shape == (2, 5, 5, 1) and arrays["objects/bbox"].shape == (2, 2, 4)
    assert sorted(arrays["objects/bbox_lengths"]) == sorted(arrays["objects/label_mask"].sum(1)) == [0, 2]
    assert info.keys["objects/bbox"].role == "boxes"


def test_splits_and_second_files(write, config, tmp_path):
    write("train.json")
    write("test.json", categories=[{"id": 90, "name": "dog"}], annotations=content()["annotations"][:1])
    source = Coco(str(tmp_path), config(""))
    assert source.examples("test", ordered=True).chunk([0])["objects/label"][0].tolist() == [1]
    second = Coco(f"{tmp_path}/test.json", config(""), source.state)
    assert second.examples("train", ordered=True).chunk([0])["objects/label"][0].tolist() == [1]
    write("other.json", categories=[{"id": 90, "name": "cow"}, {"id": 2, "name": "cat"}])
    with pytest.raises(UserError, match="class 'cow' does not exist in training"):
        Coco(f"{tmp_path}/other.json", config(""), source.state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "has no images or no categories"),
        ({"annotations": None}, "is not in the format of COCO: it has no list 'annotations'"),
        ({"annotations": [{"id": 5, "image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1]}]}, "5 belongs to image 1"),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "5 has category 1"),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 2, "bbox": [0, 0, 1]}]}, "must be four numbers"),
        (
            {"annotations": [{"id": 5, "image_id": 7, "category_id": 2, "bbox": [0, float("nan"), 1, 1]}]},
            "four numbers",
        ),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 2}]}, "annotation 5 has no 'bbox'"),
        ({"categories": [{"id": 2, "name": "cat"}, {"id": 90, "name": "Cat"}]}, "'cat' and 'Cat' differ only in case"),
        ({"images": [{"id": 7, "file_name": "c.png", "width": 2, "height": 1}], "annotations": []}, "c.png nor"),
        ({"images": [{"id": 7, "file_name": "a.png"}], "annotations": []}, "image 7 has no 'height'"),
        (
            {"images": [{"id": 7, "file_name": "a.png", "width": 2, "height": "1"}]},
            "image 7: 'height' must be int, not '1'",
        ),
        (
            {"images": [{"id": [7], "file_name": "a.png", "width": 2, "height": 1}]},
            r"an image: 'id' must be int \| str, not \[7\]",
        ),
        (
            {"images": [{"id": 7, "file_name": 5, "width": 2, "height": 1}], "annotations": []},
            "'file_name' must be str, not 5",
        ),
        ({"annotations": [{"id": 5, "image_id": "7", "category_id": 2, "bbox": [0, 0, 1, 1]}]}, "belongs to image '7'"),
        (
            {"annotations": [{"id": 5, "image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1], "iscrowd": "0"}]},
            "annotation 5 has the iscrowd '0'",
        ),
        ({"images": [{"id": 7, "file_name": "a.png", "width": 2, "height": 1}] * 2}, "two images of one id"),
    ],
)
def test_refusals(changes, message, write, config):
    with pytest.raises(UserError, match=message) as caught:
        Coco(write(**changes), config(""))
    assert "boxes.json" in str(caught.value) or "differ only in case" in str(caught.value)


def test_a_split_without_any_box(write, config, tmp_path):
    """Its arrays have the axes and types of a split with boxes. Other JSON files and absolute paths do not matter."""
    write("train.json")
    images = [{"id": 1, "file_name": str(tmp_path / "a.png"), "width": 20, "height": 10}]
    write("Validation.JSON", images=images, annotations=[])
    (tmp_path / "info.json").write_text("{}")
    splits, _ = data.load(
        config(f"coco:{tmp_path}", preprocess=("letterbox(32, 32)",), validation="validation", test="")
    )
    for key in ("objects/bbox", "objects/label", "objects/is_crowd"):
        full, empty = (splits[name].batch(np.arange(1))[key] for name in ("train", "validation"))
        assert empty.shape[2:] == full.shape[2:] and empty.dtype == full.dtype and not empty.any()


def test_broken_files_and_wrong_sizes_are_named(write, config, tmp_path):
    path = write(images=[{"id": 7, "file_name": "a.png", "width": 10, "height": 20}])
    with pytest.raises(UserError, match=r"a.png has the size \(10, 20\), but the JSON file gives \(20, 10\)"):
        Coco(path, config("")).examples("train").chunk([0])
    (tmp_path / "boxes.json").write_text("{")
    with pytest.raises(UserError, match=r"boxes.json is not a JSON file"):
        Coco(path, config(""))
    with pytest.raises(UserError, match=r"has no train.json"):
        Coco(str(tmp_path), config(""))


def test_the_recipe_reads_one_file_and_a_folder(tmp_path):
    for number in range(20):
        draw(tmp_path / f"{number}.png", (9, number, 200), size=(20, 10), mode="RGB")
    images = [{"id": i, "file_name": f"{i}.png", "width": 20, "height": 10} for i in range(20)]
    boxes = [{"id": i, "image_id": i, "category_id": 90, "bbox": [5, 2, 10, 4]} for i in range(20)]
    found = {"images": images, "annotations": boxes, "categories": [{"id": 90, "name": "dog"}]}
    for name in ("mine", "train", "validation", "test"):
        (tmp_path / f"{name}.json").write_text(json.dumps(found))

    def sizes_of(name, **splits):
        changes = {"data.name": name, "data.preprocess": ("letterbox(32, 32)",)}
        changes |= {f"data.splits.{split}": value for split, value in splits.items()}
        changed, _ = override(recipe("configs/detection.py:coco"), changes)
        splits, info = data.load(validate(changed).data)
        _, task, _ = build.parts(changed, info)
        assert task.classes == ("dog",) and splits["test"].arrays["image"].shape[1:] == (32, 32, 3)
        return info.sizes

    assert sizes_of(f"coco:{tmp_path}/mine.json") == {"train": 16, "validation": 2, "test": 2}
    (tmp_path / "mine.json").unlink()
    own = {split: split for split in ("train", "validation", "test")}
    assert sizes_of(f"coco:{tmp_path}", **own) == dict.fromkeys(own, 20)
