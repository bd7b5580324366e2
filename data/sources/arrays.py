"""NumPy files: one `.npz` archive, one `.npy` array, or a folder of them."""

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from core.errors import UserError
from core.info import Key
from core.machine import free_memory
from data.preprocess.values import as_image, as_label_map, narrow
from data.sources.files import Column, Columns, MappedFile, existing, files_below
from data.sources.source import FileSource
from data.sources.tfds import ROLES_BY_NAME

SPLITS = ("train", "validation", "test")
PIXELS = {"image": as_image, "label_map": as_label_map}
FRAMES = ("video", "volume")
ROWS = 4096  # rows that are checked at a time, so that a mapped array does not fill the memory

Arrays = dict[str, np.ndarray]


class Npz(FileSource):
    """`npz:PATH`: arrays with one leading axis, one row per example.

    A name is KEY (one split, "train"), or SPLIT_KEY or KEY_SPLIT with the splits train, validation and test:
    "test_image", or "x_test" as in Keras. KEY is `image`, `features`, `label`, `target` or any other name; `x` means
    `features` if it is a matrix and `image` otherwise, `y` means `label` if it holds integers and `target` otherwise.
    A set with `features` is a table whose columns are "0", "1", ... Pixels, (n, h, w) or (n, h, w, c) of an `image` and
    (n, t, h, w) or (n, t, h, w, c) of a `video` or `volume`, are bytes, 16-bit integers or floats; a `label_map` has
    the axes of its image or volume.
    """

    def __init__(self, path: str, config: ConfigDict, state: Any = None):
        file = existing(path)
        try:
            _check_size(file)
            with np.load(file) as archive:
                arrays = {name: archive[name] for name in archive.files}
            if not all(isinstance(values, np.ndarray) for values in arrays.values()):
                raise ValueError("an entry is not an array")
        except UserError:
            raise
        except (ValueError, OSError, zipfile.BadZipFile, AttributeError, EOFError, MemoryError) as error:
            raise _unreadable(file, "an .npz file", error) from error  # MemoryError: its header claims another shape
        self.files, self.folder = [file], file.parent
        self._open(arrays, file)

    def _open(self, arrays: Arrays, path: Path) -> None:
        splits = _splits(arrays, path)
        self.is_table = all("features" in columns for columns in splits.values())
        values = splits["train"] if "train" in splits else next(iter(splits.values()))
        deep = _has_frames(values)
        if self.is_table:
            self.rows = {split: self._columns(_table(columns)) for split, columns in splits.items()}
            self.keys = {key: Key(role="number") for key in _table(values)}
            return
        self.rows = {
            split: self._columns({key: _column(key, array, deep) for key, array in columns.items()})
            for split, columns in splits.items()
        }
        self.keys = {key: Key(role=_role(key, array)) for key, array in values.items()}

    def _columns(self, columns: Mapping[str, Column]) -> Columns:
        return Columns(columns)


class Npy(Npz):
    """`npy:PATH`: one `.npy` file, or a folder of such files; names of files have the meaning of names in `Npz`.

    The files are mapped into memory, so they may be larger than it.
    """

    def __init__(self, path: str, config: ConfigDict, state: Any = None):
        root = existing(path)
        self.files = files_below(root, (".npy",)) if root.is_dir() else [root]
        self.folder = root if root.is_dir() else root.parent
        if not self.files:
            raise UserError(f"{root} has no .npy files")
        arrays = {}
        for file in self.files:
            try:
                arrays[file.stem] = np.load(file, mmap_mode="r")
            except (ValueError, OSError, EOFError) as error:
                raise _unreadable(file, "an .npy file", error) from error
        self._open(arrays, root)

    def _columns(self, columns: Mapping[str, Column]) -> Columns:
        mapped = {}
        for key, (values, read) in columns.items():
            if values.filename:  # None for what NumPy had to copy
                whole = MappedFile(Path(values.filename))
                values = whole if whole.array.shape == values.shape else MappedFile(whole.path, int(key))
            mapped[key] = values, read
        return Columns(mapped)


def _check_size(file: Path) -> None:
    """Raises UserError for an archive whose arrays do not fit the memory, which a small file may hold."""
    with zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > (free := free_memory()):
        raise UserError(
            f"{file} holds {size / 1e9:.3g} GB, but {free / 1e9:.3g} GB of memory are free: save it for npy:"
        )


def _unreadable(path: Path, what: str, error: Exception) -> UserError:
    if str(error).startswith("Object arrays"):
        return UserError(f"{path} holds an array of Python objects: save it with a type such as float32 or '<U20'")
    return UserError(f"{path} is not {what} of plain arrays")


def _splits(arrays: Arrays, path: Path) -> dict[str, Arrays]:
    """Returns split -> key -> array. Raises UserError for arrays that do not fit together."""
    splits: dict[str, Arrays] = {}
    deep = _has_frames(_split_and_key(name)[1] for name in arrays)
    for name, values in arrays.items():
        split, key = _split_and_key(name)
        columns = splits.setdefault(split, {})
        if (key := _meaning(key, values)) in columns:
            raise UserError(f"{path}: two arrays of {split!r} mean {key!r}: rename {name!r}")
        _check(key, values, f"{path}: array {name!r}", deep)
        columns[key] = values
    if not splits:
        raise UserError(f"{path} has no arrays")
    first, expected = next(iter(splits.items()))
    for split, columns in splits.items():
        lengths = {key: values.shape[:1] for key, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"{path}: arrays of {split!r} differ in length: {lengths}")
        if columns.keys() != expected.keys():
            raise UserError(f"{path}: {first!r} has {', '.join(expected)}, but {split!r} has {', '.join(columns)}")
    return splits


def _split_and_key(name: str) -> tuple[str, str]:
    for split in SPLITS:
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


def _has_frames(keys: Iterable[str]) -> bool:
    return any(key in FRAMES for key in keys)


def _check(key: str, values: np.ndarray, where: str, deep: bool) -> None:
    """Raises UserError for arrays without rows or with an unknown type, for pixels with other axes or values, and for
    NaN or infinity outside a table.

    Args:
        deep: whether the set has videos or volumes.
    """
    if values.dtype.kind not in "biufUS":
        raise UserError(f"{where} has the type {values.dtype}: save numbers or texts")
    if not values.ndim or not len(values):
        raise UserError(f"{where} has the shape {values.shape}: it needs one row per example")
    if key in (*PIXELS, *FRAMES):
        axes = "n, t, h, w" if key in FRAMES or (deep and key == "label_map") else "n, h, w"
        if values.ndim - axes.count(",") not in (1, 2):
            raise UserError(f"{where} has the shape {values.shape}, not ({axes}) or ({axes}, c)")
    if key in ("image", *FRAMES):
        _check_pixels(values, where)
    if values.dtype.kind == "f" and key != "features":  # gaps of a table are filled
        for start, part in _parts(values):
            bad = ~np.isfinite(part).reshape(len(part), -1).all(axis=1)
            if bad.any():
                raise UserError(f"{where} has NaN or infinity in row {start + int(bad.argmax())}, counted from 0")


def _check_pixels(values: np.ndarray, where: str) -> None:
    """Raises UserError for 8-bit values stored in another type: they are not scaled as image files are."""
    if values.dtype in (np.uint8, bool):
        return
    if values.dtype.kind in "US":
        raise UserError(f"{where} has the type {values.dtype}: save pixels as numbers")
    low, high, whole = 0.0, 0.0, True
    for _, part in _parts(values):
        low, high = min(low, part.min()), max(high, part.max())
        whole = whole and (part.dtype.kind in "iu" or bool((part == np.floor(part)).all()))
    if whole and low >= 0 and 1 < high <= 255:
        raise UserError(f"{where} holds whole numbers up to {high:g} as {values.dtype}: save bytes as uint8")
    if values.dtype.kind in "iu" and values.dtype != np.uint16:
        raise UserError(f"{where} has the type {values.dtype}: save pixels as uint8, uint16 or floats")


def _parts(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(values), ROWS):
        yield start, values[start : start + ROWS]


def _role(key: str, values: np.ndarray) -> str:
    if values.dtype.kind in "US":
        return "text"
    if key in PIXELS:
        return key
    return ROLES_BY_NAME.get(key, "number" if values.ndim == 1 else "")


def _column(key: str, values: np.ndarray, deep: bool) -> Column:
    if values.dtype.kind in "US":
        return values, _text
    if key in FRAMES:
        return values, _as_frames
    if deep and key == "label_map":
        return values, _as_labels
    if key in PIXELS:
        return values, PIXELS[key]
    return values, _integer if values.dtype == bool and key == "label" else None


def _as_frames(frames: np.ndarray) -> np.ndarray:
    """Returns [t, h, w] or [t, h, w, c] as [t, h, w, c], with the type of `as_image`."""
    return np.stack([as_image(frame) for frame in frames])


def _as_labels(labels: np.ndarray) -> np.ndarray:
    """Returns class ids [t, h, w] or [t, h, w, 1] as [t, h, w, 1]."""
    return narrow(labels[..., None] if labels.ndim == 3 else labels)


def _text(value: np.str_ | np.bytes_) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _integer(value: np.bool_) -> np.int32:
    return np.int32(value)


def _table(columns: Mapping[str, np.ndarray]) -> dict[str, Column]:
    """Returns the columns of the matrix `features`, and the other arrays of scalars."""
    features = columns["features"].reshape(len(columns["features"]), -1)
    scalars = {key: (values, None) for key, values in columns.items() if values.ndim == 1}
    return {str(i): (values, None) for i, values in enumerate(features.T)} | scalars
