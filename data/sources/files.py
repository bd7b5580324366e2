"""Helpers of the sources of files: examples read on access, files and folders found and checked."""

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError, nearest
from data.preprocess.op import Chunk, Indices

UNREAD = {  # type of file -> what can be read instead
    **dict.fromkeys((".heic", ".heif", ".avif", ".jp2", ".svg"), ".png"),
    **dict.fromkeys((".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aiff"), ".wav"),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), "folders of frames (frames:DIR)"),
}


@dataclasses.dataclass(frozen=True)
class MappedFile:
    """An array in a `.npy` file, mapped into memory by each process that reads it, so that workers receive no copy.

    Attributes:
        column: of a table [n, ...], whose rows are flattened; None for all of the array.
    """

    path: Path
    column: int | None = None

    @functools.cached_property
    def array(self) -> np.ndarray:
        array = np.load(self.path, mmap_mode="r")
        return array if self.column is None else array.reshape(len(array), -1)[:, self.column]

    def __reduce__(self):
        return MappedFile, (self.path, self.column)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> Any:
        return self.array[index]


SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= dict.fromkeys(("validation", "val", "valid", "dev"), "validation")

Values = Sequence | np.ndarray | MappedFile
Column = tuple[Values, Callable[[Any], Any] | None]


class Columns:
    """Examples by random access.

    Args:
        columns: key -> (one item per example, function that reads an item on access; None: the item is the value).
    """

    def __init__(self, columns: Mapping[str, Column]):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))[0])

    def chunk(self, indices: Indices, keys: Collection[str] | None = None) -> Chunk:
        wanted = {key: column for key, column in self.columns.items() if keys is None or key in keys}
        return {key: _values(items, read, indices) for key, (items, read) in wanted.items()}


def _values(items: Values, read: Callable[[Any], Any] | None, indices: Indices) -> Values:
    if isinstance(items, np.ndarray | MappedFile) and read is None:
        return items[indices]
    chosen = [items[int(index)] for index in indices]
    return chosen if read is None else [read(item) for item in chosen]


def reason(error: Exception) -> str:
    """Returns the first line of an error's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def existing(path: str | Path) -> Path:
    """Returns the path of a file or folder; "~" is the home folder. Raises UserError if it does not exist."""
    found = Path(path).expanduser()
    if not found.exists():
        beside = [entry.name for entry in found.parent.iterdir()] if found.parent.is_dir() else []
        raise UserError(f"{path} does not exist: {nearest(found.name, beside)}")
    return found


def existing_folder(path: str | Path) -> Path:
    """As `existing`. Raises UserError for a file, too."""
    found = existing(path)
    if not found.is_dir():
        raise UserError(f"{path} is a file, not a folder")
    return found


def natural(path: Path) -> list[Any]:
    """Returns a key that sorts 2.png before 10.png."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path)) if part]


def visible(folder: Path) -> list[Path]:
    """Returns the files and folders in a folder in order, without hidden ones and macOS's copies."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX")))


def folders(folder: Path) -> list[Path]:
    """Returns the visible folders in a folder."""
    return [entry for entry in visible(folder) if entry.is_dir()]


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Returns the visible files with one of the suffixes, as in `has_suffix`, in a folder and all folders below it."""
    found = []
    for entry in visible(folder):
        if entry.is_dir():
            found += files_below(entry, suffixes)
        elif has_suffix(entry, suffixes):
            found.append(entry)
    return found


def has_suffix(file: Path, suffixes: Collection[str]) -> bool:
    """Returns whether a file has one of the suffixes (in lower case).

    Raises UserError for an image, sound or video of `UNREAD`, which would be left out without a word.
    """
    if file.name.lower().endswith(tuple(suffixes)):
        return True
    if advice := UNREAD.get(file.suffix.lower()):
        raise UserError(f"{file}: files of this type are not read: convert them to {advice}, or move them away")
    return False


def as_splits(entries: Iterable[Path]) -> dict[str, Path]:
    """Returns split -> file or folder if every name, in any case, is one of `SPLITS`, one of them of "train"; else {}.

    Raises UserError for two names of one split.
    """
    splits: dict[str, Path] = {}
    for entry in entries:
        name = (entry.stem if entry.is_file() else entry.name).lower()
        if name not in SPLITS:
            return {}
        other = splits.setdefault(SPLITS[name], entry)
        if other != entry:
            raise UserError(f"{other} and {entry} are both the split {SPLITS[name]!r}: rename or remove one")
    if "train" not in splits:
        return {}
    return {split: splits[split] for split in dict.fromkeys(SPLITS.values()) if split in splits}


def split_folders(root: Path) -> dict[str, Path]:
    """Returns split -> folder if the folders in `root` are exactly splits that hold folders, else {"train": root}.

    Raises UserError if only some of them hold folders, or if another folder lies beside two splits.
    """
    splits = as_splits(folders(root))
    named = [folder for folder in folders(root) if folder.name.lower() in SPLITS and folders(folder)]
    others = [folder for folder in folders(root) if folder not in named]
    if not splits and len(named) > 1 and as_splits(named):
        raise UserError(f"{others[0]} is not a split, but folders beside it are: move it out of {root}")
    flat = [folder for folder in splits.values() if not folders(folder)]
    if not splits or len(flat) == len(splits):  # then they are classes with these names
        return {"train": root}
    if flat:
        raise UserError(f"{flat[0]} holds no folders, but other splits of {root} do: sort its files into such folders")
    return splits


def check_names(what: str, names: Iterable[str], where: Path) -> None:
    """Raises UserError for two names that differ only in case or surrounding spaces."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.strip().casefold(), name)
        if other != name:
            raise UserError(f"{where}: the {what} {other!r} and {name!r} differ only in case or spaces: use one name")


def known(names: Sequence[str], given: Iterable[str], where: Path) -> None:
    """Raises UserError for a class that the training files lack."""
    for name in given:
        if name not in names:
            raise UserError(f"{where}: class {name!r} does not exist in training: {nearest(name, names)}")


def paired(first: Path, second: Path, suffixes: Collection[str]) -> list[tuple[Path, Path]]:
    """Returns the files of two folders in pairs of the same path without suffix.

    Raises UserError for files without partner, files of the same stem, and empty folders.
    """
    left, right = (_by_stem(folder, suffixes) for folder in (first, second))
    for ours, theirs, other in ((left, right, second), (right, left, first)):
        lonely = [path for stem, path in ours.items() if stem not in theirs]
        if lonely:
            more = f" (and {len(lonely) - 1} more)" if len(lonely) > 1 else ""
            raise UserError(f"{lonely[0]}{more} has no partner of the same name in {other}")
    if not left:
        raise UserError(f"{first} has no files of the types {', '.join(suffixes)}")
    return [(left[stem], right[stem]) for stem in left]


def _by_stem(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files_below(existing_folder(folder), suffixes):
        suffix = next(suffix for suffix in suffixes if path.name.lower().endswith(suffix))
        stem = str(path.relative_to(folder))[: -len(suffix)]
        other = found.setdefault(stem, path)
        if other != path:
            raise UserError(f"{other} and {path} have the same name: keep one")
    return found
