"""The user's own files: CSV and Parquet tables, a folder of images per class, `.npz` arrays.

Rows are shuffled once, in a fixed order, so that slices such as "train[:80%]" are random samples.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from core.errors import UserError
from data.preprocess.encode import read_image
from data.sources.source import Source, resolve, shuffled, sizes_as_splits

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class Table(Source):
    """The rows of a table, by split."""

    is_table = True

    def __init__(self, frames: Mapping[str, pd.DataFrame]):
        self.frames = {name: frame.iloc[shuffled(len(frame))] for name, frame in frames.items()}
        self.splits = sizes_as_splits({name: len(frame) for name, frame in frames.items()})

    def frame(self, spec: str) -> pd.DataFrame:
        parts = resolve(spec, self.splits)
        return pd.concat([self.frames[split].iloc[start:stop] for split, start, stop in parts], ignore_index=True)


class Rows(Source):
    """Examples read on access, by split. Each of `rows` is a sequence of dicts."""

    images = frozenset({"image"})

    def __init__(self, rows: Mapping[str, Sequence[Any]], classes: tuple[str, ...] = ()):
        self.rows, self.classes = rows, classes
        self.splits = sizes_as_splits({name: len(values) for name, values in rows.items()})

    def examples(self, spec: str) -> Sequence[Any]:
        parts = resolve(spec, self.splits)
        indices = [(split, int(i)) for split, a, b in parts for i in shuffled(len(self.rows[split]))[a:b]]
        return _Selected(self.rows, indices)


class _Selected(Sequence):
    def __init__(self, rows: Mapping[str, Sequence[Any]], indices: list[tuple[str, int]]):
        self.rows, self.indices = rows, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        split, row = self.indices[index]
        return self.rows[split][row]


def csv(path: str) -> Table:
    """`csv:PATH`: a header and one row per example; one split, "train"."""
    return _table(path, pd.read_csv)


def parquet(path: str) -> Table:
    """`parquet:PATH`: one split, "train"."""
    return _table(path, pd.read_parquet)


def _table(path: str, read: Any) -> Table:
    try:
        frame = read(_existing(path))
    except (ValueError, OSError) as error:  # pandas' and Arrow's parser errors are ValueErrors
        raise UserError(f"{path} cannot be read ({str(error).strip().splitlines()[0]})") from error
    if frame.empty:
        raise UserError(f"{path} has no rows")
    return Table({"train": frame})


def _existing(path: str) -> Path:
    if not Path(path).expanduser().exists():
        raise UserError(f"{path} does not exist")
    return Path(path).expanduser()


class _Images(Sequence):
    def __init__(self, files: list[tuple[Path, int]], channels: int):
        self.files, self.channels = files, channels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, label = self.files[index]
        return {"image": read_image(path, self.channels), "label": label}


def folder(path: str) -> Rows:
    """`folder:PATH`: PATH/CLASS/*.png (or another of `IMAGE_SUFFIXES`; one split, "train"), or PATH/SPLIT/CLASS/*.png
    where PATH/train exists. Classes are the sorted names of the folders; images are grey if all files are."""
    root = _existing(path)
    roots = {part.name: part for part in _folders(root)} if (root / "train").is_dir() else {"train": root}
    classes = sorted({part.name for split in roots.values() for part in _folders(split)})
    files = {name: _labelled(split, classes) for name, split in roots.items()}
    if not any(files.values()):
        raise UserError(f"{path} has no images in folders named by class, such as {path}/cat/1.png")
    grey = all(_is_grey(file) for labelled in files.values() for file, _ in labelled)
    return Rows({name: _Images(labelled, 1 if grey else 3) for name, labelled in files.items()}, tuple(classes))


def _folders(root: Path) -> list[Path]:
    return sorted(part for part in root.iterdir() if part.is_dir() and not part.name.startswith("."))


def _labelled(root: Path, classes: list[str]) -> list[tuple[Path, int]]:
    files = [(file, classes.index(part.name)) for part in _folders(root) for file in sorted(part.iterdir())]
    return [(file, label) for file, label in files if file.suffix.lower() in IMAGE_SUFFIXES]


def _is_grey(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            return image.mode in ("1", "L", "I", "I;16")
    except OSError as error:
        raise UserError(f"{file} is not an image that Pillow reads") from error


class _Arrays(Sequence):
    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.arrays = arrays

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: values[index] for key, values in self.arrays.items()}


def npz(path: str) -> Rows | Table:
    """`npz:PATH`: arrays with one leading axis, one row per example.

    A name is KEY (one split, "train"), or SPLIT_KEY or KEY_SPLIT with the splits train, validation and test:
    A name is KEY (one split, "train"), or SPLIT_KEY or KEY_SPLIT with the splits train, validation and test:
    "test_image", or "x_test" as in Keras. KEY is `image`, `features`, `label`, `target` or any other name; `x` means
    `features` if it is a matrix and `image` otherwise, `y` means `label` if it holds integers and `target` otherwise.
    A set with `features` is a table whose columns are "0", "1", ...
    """
    try:
        with np.load(_existing(path)) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError) as error:
        raise UserError(f"{path} is not an .npz file of plain arrays") from error
    splits: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        split, key = _split_and_key(name)
        splits.setdefault(split, {})[_meaning(key, values)] = values
    for split, columns in splits.items():
        lengths = {key: values.shape[:1] for key, values in columns.items()}
        if () in lengths.values() or len(set(lengths.values())) > 1:
            raise UserError(f"{path}: arrays of {split!r} differ in length: {lengths}")
    if not splits:
        raise UserError(f"{path} has no arrays")
    if all("features" in columns for columns in splits.values()):
        return Table({split: _frame(columns) for split, columns in splits.items()})
    return Rows({split: _Arrays(columns) for split, columns in splits.items()})


def _split_and_key(name: str) -> tuple[str, str]:
    for split in ("train", "validation", "test"):
        if name.startswith(f"{split}_"):
            return split, name.removeprefix(f"{split}_")
        if name.endswith(f"_{split}"):
            return split, name.removesuffix(f"_{split}")
    return "train", name


def _meaning(key: str, values: np.ndarray) -> str:
    if key == "x":
        return "features" if values.ndim == 2 else "image"
    if key == "y":
        return "label" if values.dtype.kind in "iub" else "target"
    return key


def _frame(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    features = pd.DataFrame(columns["features"].reshape(len(columns["features"]), -1))
    features.columns = features.columns.astype(str)
    scalars = {key: values for key, values in columns.items() if values.ndim == 1}
    return features.assign(**scalars)
