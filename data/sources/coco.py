"""Boxes around objects, from a JSON file in the format of COCO.

n: boxes
"""

import functools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32
from ml_collections import ConfigDict

from core.errors import UserError
from core.info import Key
from data.sources.files import SPLITS, Columns, as_splits, check_names, existing, known, visible
from data.sources.images import image_format, image_size, read_image
from data.sources.source import FileSource

ID = int | str  # types of ids


class _Objects(NamedTuple):
    """An image, and its objects; boxes are [ymin, xmin, ymax, xmax] as fractions of the image, as in TFDS."""

    path: Path
    size: tuple[int, int]  # height, width, as the JSON file has it
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int32[np.ndarray, "n"]
    is_crowd: Bool[np.ndarray, "n"]


class Coco(FileSource):
    """`coco:FILE.json`, or `coco:DIR` with DIR/train.json, DIR/test.json and perhaps DIR/validation.json.

    Keys: `image` as in `Folder`; `objects/bbox` [n, 4], boxes [ymin, xmin, ymax, xmax] as fractions of the image;
    `objects/label` [n]; `objects/is_crowd` [n], whether a box holds a group. Images lie beside the JSON file, or in
    `images` beside it. Boxes are clipped to the image; boxes without area are left out and named. Classes are the
    categories in the order of their ids.
    """

    def __init__(self, path: str, config: ConfigDict, state: Any = None):
        root = existing(path)
        files = (
            as_splits(file for file in visible(root) if file.suffix.lower() == ".json" and file.stem.lower() in SPLITS)
            if root.is_dir()
            else {"train": root}
        )
        if not files:
            raise UserError(f"{path} has no train.json: name one file, or files after their splits")
        self.folder = root if root.is_dir() else root.parent
        contents = {split: _read(file) for split, file in files.items()}
        categories = {split: _categories(content, files[split]) for split, content in contents.items()}
        names = list(dict.fromkeys(name for found in categories.values() for name in found.values()))
        check_names("categories", names, root)
        if state:
            known(state["classes"], names, root)
        numbers = {name: number for number, name in enumerate(state["classes"] if state else names)}
        objects, dropped = {}, []
        for split, content in contents.items():
            labels = {id: numbers[name] for id, name in categories[split].items()}
            objects[split], without_area = _objects(content, files[split], labels)
            dropped += [f"{files[split].name}: {id}" for id in without_area]
        if dropped and not state:
            self.summary = f"boxes without area within the image are left out, annotations {', '.join(dropped)}"
        images = [one.path for found in objects.values() for one in found]
        self.files = [*files.values(), *images]
        channels, dtype = (state["channels"], state["dtype"]) if state else image_format(images)
        self.state = {"classes": list(numbers), "channels": channels, "dtype": dtype}
        self.keys = {
            "image": Key(role="image"),
            "objects/bbox": Key(role="boxes", ragged=True),
            "objects/label": Key(role="label", classes=tuple(numbers), ragged=True),
            "objects/is_crowd": Key(ragged=True),
        }
        read = functools.partial(_read_image, channels=channels, dtype=dtype)
        self.rows = {
            split: Columns(
                {
                    "image": (found, read),
                    "objects/bbox": ([one.boxes for one in found], None),
                    "objects/label": ([one.labels for one in found], None),
                    "objects/is_crowd": ([one.is_crowd for one in found], None),
                }
            )
            for split, found in objects.items()
        }


def _read(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is not a JSON file ({error})") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"{file} is not in the format of COCO: it has no list {key!r}")
    if not content["images"] or not content["categories"]:
        raise UserError(f"{file} has no images or no categories")
    return content


def _field(record: dict[str, Any], key: str, what: str, kind: Any = object) -> Any:
    """Returns a value. Raises UserError if it is missing, or not of `kind`."""
    if not isinstance(record, dict) or record.get(key) is None:
        raise UserError(f"{what} has no {key!r}")
    if not isinstance(record[key], kind):
        raise UserError(f"{what}: {key!r} must be {getattr(kind, '__name__', kind)}, not {record[key]!r}")
    return record[key]


def _categories(content: dict[str, Any], file: Path) -> dict[Any, str]:
    """Returns id -> name, in the order of the ids."""
    pairs = [(_field(one, "id", f"{file}: a category", ID), one) for one in content["categories"]]
    names = {id: str(_field(one, "name", f"{file}: category {id}")) for id, one in sorted(pairs, key=_by_id)}
    if len(set(names.values())) < len(pairs):
        raise UserError(f"{file} has two categories of one id or name")
    return names


def _by_id(pair: tuple[int | str, Any]) -> tuple[bool, int | str]:
    return isinstance(pair[0], str), pair[0]


def _objects(content: dict[str, Any], file: Path, labels: dict[Any, int]) -> tuple[list[_Objects], list[Any]]:
    """Returns the images with their objects, in the order of the file, and the ids of annotations without area."""
    boxes: dict[Any, list[tuple[list[float], int, bool]]] = {
        _field(image, "id", f"{file}: an image", ID): [] for image in content["images"]
    }
    if len(boxes) < len(content["images"]):
        raise UserError(f"{file} has two images of one id")
    sizes, without_area = {image["id"]: _size(image, file) for image in content["images"]}, []
    for number, one in enumerate(content["annotations"]):
        what = f"{file}: annotation {one.get('id', number) if isinstance(one, dict) else number}"
        image, category = (_field(one, key, what, ID) for key in ("image_id", "category_id"))
        if not isinstance(one.get("iscrowd") or 0, int):
            raise UserError(f"{what} has the iscrowd {one['iscrowd']!r}: it must be 0 or 1")
        if image not in boxes:
            raise UserError(f"{what} belongs to image {image!r}, which does not exist")
        if category not in labels:
            raise UserError(f"{what} has category {category!r}, which does not exist")
        box = _box(_field(one, "bbox", what), sizes[image], what)
        if box[2] > box[0] and box[3] > box[1]:
            boxes[image].append((box, labels[category], bool(one.get("iscrowd"))))
        else:
            without_area.append(one.get("id", number))
    images = [
        _Objects(
            _image_path(file, image),
            sizes[image["id"]],
            np.array([box for box, _, _ in boxes[image["id"]]], np.float32).reshape(-1, 4),
            np.array([label for _, label, _ in boxes[image["id"]]], np.int32),
            np.array([is_crowd for _, _, is_crowd in boxes[image["id"]]], bool),
        )
        for image in content["images"]
    ]
    return images, without_area


def _size(image: dict[str, Any], file: Path) -> tuple[int, int]:
    height, width = (_field(image, key, f"{file}: image {image['id']}", int) for key in ("height", "width"))
    if not (height > 0 and width > 0):
        raise UserError(f"{file}: image {image['id']} has the size {height} x {width}")
    return height, width


def _box(values: Any, size: tuple[int, int], what: str) -> list[float]:
    """Returns [ymin, xmin, ymax, xmax] in [0, 1] from [x, y, width, height] in pixels."""
    if not isinstance(values, list) or len(values) != 4 or not all(map(_is_finite, values)):
        raise UserError(f"{what} has the bbox {values}: it must be four numbers, x, y, width, height")
    (x, y, w, h), (height, width) = values, size
    edges = (y / height, x / width, (y + h) / height, (x + w) / width)
    return [min(max(edge, 0.0), 1.0) for edge in edges]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _image_path(file: Path, image: dict[str, Any]) -> Path:
    name = _field(image, "file_name", f"{file}: image {image['id']}", str)
    places = [file.parent / name, file.parent / "images" / name]
    found = next((place for place in places if place.is_file()), None)
    if not found:
        raise UserError(f"{file}: image {image['id']}: neither {places[0]} nor {places[1]} exists")
    return found


def _read_image(one: _Objects, channels: int, dtype: Any) -> np.ndarray:
    if image_size(one.path) != one.size:
        raise UserError(f"{one.path} has the size {image_size(one.path)}, but the JSON file gives {one.size}")
    return read_image(one.path, channels, dtype)
