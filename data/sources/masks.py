"""Pairs of folders: images and their label maps."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from core.errors import UserError
from core.info import Key
from data.preprocess.values import narrow
from data.sources.files import Columns, check_names, existing, existing_folder, known, paired, split_folders
from data.sources.images import IMAGE_SUFFIXES, image_format, image_size, read_image, read_label_map
from data.sources.source import FileSource

VOID = 255  # pixels without class, as in PASCAL VOC
CLASSES = "classes.txt"
LOSSY = (".jpg", ".jpeg")


class Masks(FileSource):
    """`masks:DIR`: pairs of the same name, DIR/images/a.jpg and DIR/masks/a.png; DIR/SPLIT/... gives several splits.

    Keys: `image` as in `Folder`, and `label_map` [h, w, 1], one class id per pixel. Masks are grey or palette images
    that hold ids; 255 marks pixels without class, unless there are two classes and all masks hold 0 and 255 only, which
    are then classes 0 and 1. Names of classes are the lines of DIR/classes.txt; without that file they are the numbers
    up to the highest id. All masks are read at the start for this, unless the file names more than two classes.
    """

    def __init__(self, path: str, config: ConfigDict, state: Any = None):
        self.folder = existing_folder(path)
        splits = _split_pairs(self.folder)
        pairs = {split: paired(root / "images", root / "masks", IMAGE_SUFFIXES) for split, root in splits.items()}
        names = self.folder / CLASSES
        self.files = [file for found in pairs.values() for pair in found for file in pair]
        self.files += [names] if names.exists() else []
        self.state = state or _state(pairs, names)
        if names.exists():
            known(self.state["classes"], _lines(names), names)
        classes = tuple(self.state["classes"])
        self.keys = {"image": Key(role="image"), "label_map": Key(role="label_map", classes=classes)}
        read = functools.partial(read_image, channels=self.state["channels"], dtype=self.state["dtype"])
        read_mask = functools.partial(_read_mask, classes=len(classes), is_binary=self.state["is_binary"])
        self.rows = {
            split: Columns({"image": ([image for image, _ in found], read), "label_map": (found, read_mask)})
            for split, found in pairs.items()
        }


def _split_pairs(root: Path) -> dict[str, Path]:
    """Returns split -> folder with `images` and `masks`."""
    return {"train": root} if (root / "images").is_dir() else split_folders(root)


def _state(pairs: dict[str, list[tuple[Path, Path]]], names: Path) -> dict[str, Any]:
    channels, dtype = image_format(image for found in pairs.values() for image, _ in found)
    masks = [mask for found in pairs.values() for _, mask in found]
    if lossy := [mask for mask in masks if mask.suffix.lower() in LOSSY]:
        raise UserError(f"{lossy[0]} is a mask, and JPEG changes its values: save PNG")
    classes, is_binary = _lines(names) if names.exists() else [], False
    if len(classes) in (0, 2):
        values = {int(value) for mask in masks for value in np.unique(read_label_map(mask))}
        is_binary = VOID in values and values <= {0, VOID}
        classes = classes or _numbers({0, 1} if is_binary else values - {VOID}, names)
    return {"classes": classes, "is_binary": is_binary, "channels": channels, "dtype": dtype}


def _numbers(ids: set[int], names: Path) -> list[str]:
    """Returns "0", "1", ... up to the highest id. Raises UserError for few ids far apart, such as grey levels."""
    count = max(ids, default=0) + 1
    if len(ids) * 4 < count:
        found = ", ".join(map(str, sorted(ids)))
        raise UserError(
            f"masks contain the ids {found} only: save 0, 1, ..., or write {count} names of classes to {names}"
        )
    return [str(number) for number in range(count)]


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in existing(path).read_text("utf-8-sig").split("\n") if line.strip()]
    check_names("classes", lines, path)
    return lines


def _read_mask(pair: Sequence[Path], classes: int, is_binary: bool) -> np.ndarray:
    image, mask = pair
    labels = read_label_map(mask)
    if labels.shape[:2] != image_size(image):
        raise UserError(f"{mask} has the size {labels.shape[:2]}, but {image} has {image_size(image)}")
    if is_binary:
        labels = np.where(labels == VOID, 1, labels).astype(labels.dtype)
    unknown = labels[(labels >= classes) & (labels != VOID)]
    if unknown.size:
        raise UserError(f"{mask} has a pixel of class {unknown[0]}, but classes are from 0 to {classes - 1}")
    return narrow(labels)
