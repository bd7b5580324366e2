"""Processed examples, collected chunk by chunk, in memory or in files that are mapped into memory.

Files lie in the cache, the folder `onestep/data` of $XDG_CACHE_HOME (default ~/.cache), where later starts find them.
An entry is a folder, named by a hash of all that determines it; it may be deleted at any time.
"""

import functools
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import Int

from core.errors import UserError
from data.preprocess.op import Chunk
from data.sources.source import content_hash
from data.splits import Column, Ragged, check_shapes, join, numbers, strings

LIBRARIES = ("numpy", "pandas", "pillow", "scipy", "tokenizers", "tensorflow-datasets")  # may change examples
INDEX = "index.json"
STRINGS = "strings.json"
LENGTHS = "lengths.npz"
SEAL = "seal"  # the hash of an entry's files, written last
ABANDONED = 24 * 3600  # seconds after which an unfinished entry is taken for that of a killed process


def root() -> Path:
    """Returns the folder of the cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onestep" / "data"


def entry(facts: Any) -> Path:
    """Returns the folder of the cache's entry for what `facts`, this project's code and its libraries determine."""
    versions = {name: metadata.version(name) for name in LIBRARIES}
    return root() / digest([facts, _code(), versions])


def digest(facts: Any) -> str:
    """Returns a hash of a JSON value."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@functools.cache
def _code() -> str:
    """Returns a hash of the code that reads and processes examples."""
    hashed = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        hashed.update(file.read_bytes())
    return hashed.hexdigest()


def exists(folder: Path) -> bool:
    """Whether the cache has an entry. A damaged one is removed, with a warning."""
    if not folder.exists():
        return False
    try:
        is_whole = (folder / SEAL).read_text() == _seal(folder)
    except OSError:
        is_whole = False
    if not is_whole:
        _warn(f"the entry {folder} of the data cache is damaged: it is made again")
        remove(folder)
    return is_whole


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)  # commands hide what libraries log


def remove(folder: Path) -> None:
    """Removes an entry."""
    shutil.rmtree(folder, ignore_errors=True)


def _seal(folder: Path) -> str:
    return content_hash(sorted(file for file in folder.rglob("*") if file.is_file() and file.name != SEAL))


@contextmanager
def new_entry(folder: Path) -> Iterator[Path | None]:
    """Yields an empty folder that becomes `folder` at the end, unless another process was faster.

    Yields None, with a warning, if the cache cannot be written. Raises UserError if writing fails later on.
    """
    part = _new_part(folder)
    if not part:
        yield None
        return
    try:
        yield part
        (part / SEAL).write_text(_seal(part))
        if not folder.exists():
            part.rename(folder)
    except OSError as error:
        if not folder.exists():  # not lost against another process
            raise UserError(
                f"the data cache {folder.parent} cannot be written: {error.strerror}: free space, or set XDG_CACHE_HOME"
            ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _new_part(folder: Path) -> Path | None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for old in folder.parent.glob("*.part"):
            with suppress(FileNotFoundError):  # another process has just completed it
                if time.time() - old.stat().st_mtime > ABANDONED:
                    shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        _warn(f"the data cache {folder.parent} cannot be written ({error.strerror}): nothing is stored")
        return None


class Writer:
    """Collects the examples of one split.

    Args:
        folder: for files; None keeps the examples in memory.
        keeps_strings: whether strings are collected, too.
    """

    def __init__(self, folder: Path | None = None, keeps_strings: bool = True):
        self.folder, self.keeps_strings = folder, keeps_strings
        self.size = 0
        self.strings: dict[str, list] = {}
        self._values: dict[str, _Values] = {}

    def add(self, chunk: Chunk) -> None:
        """Appends the examples of a chunk.

        Raises UserError for a key that some examples lack, or whose values differ beyond their first axis.
        """
        found = numbers(chunk)
        if self.size and found.keys() != self._values.keys():
            key = min(found.keys() ^ self._values.keys())
            raise UserError(f"{key!r} is missing, or not a number, in some examples: drop it with 'drop({key!r})'")
        count = len(next(iter(chunk.values())))
        if self.keeps_strings:
            texts = strings(chunk)
            for key in texts.keys() | self.strings.keys():  # a text may be missing in all examples of a chunk
                self.strings.setdefault(key, [None] * self.size).extend(texts.get(key, [None] * count))
        for key, values in found.items():
            if key not in self._values:
                file = self.folder / f"{quote(key, safe='')}.bin" if self.folder else None
                self._values[key] = _Values(file, is_scalar=np.ndim(values[0]) == 0)
            self._values[key].add(key, values)
        self.size += count

    @property
    def lengths(self) -> dict[str, list[int]]:
        """Key -> the length of every example; without the keys of scalars."""
        return {key: values.lengths for key, values in self._values.items() if not values.is_scalar}

    def columns(self, ragged: Collection[str]) -> dict[str, Column]:
        """Returns the values of every key, once; those of `ragged` keys as `Ragged`."""
        return {key: values.column(key in ragged) for key, values in self._values.items()}


class _Values:
    """The values of one key so far, joined along their first axis."""

    def __init__(self, file: Path | None, is_scalar: bool):
        self.file, self.is_scalar = file, is_scalar
        self.lengths: list[int] = []
        self.parts: list[np.ndarray] = []
        self.dtype: np.dtype | None = None  # None: all values so far were empty
        self.shape: tuple[int, ...] = ()
        self.empty_dtype = np.dtype(np.float32)  # the dtype if all values are empty

    def add(self, key: str, values: Sequence[np.ndarray] | np.ndarray) -> None:
        if not self.is_scalar:
            self.lengths += map(len, values)
        joined = np.asarray(values) if self.is_scalar else join(key, values)
        if not joined.size:
            if self.dtype is None:
                self.empty_dtype, self.shape = joined.dtype, joined.shape[1:]
            return
        if self.dtype is not None:
            check_shapes(key, {joined.shape[1:], self.shape})
        dtype = np.result_type(self.dtype or joined.dtype, joined.dtype)
        if self.file:
            if self.dtype not in (None, dtype):
                np.fromfile(self.file, self.dtype).astype(dtype).tofile(self.file)
            with self.file.open("ab") as file:
                joined.astype(dtype, copy=False).tofile(file)
        else:
            self.parts.append(joined)
        self.dtype, self.shape = dtype, joined.shape[1:]

    def column(self, is_ragged: bool) -> Column:
        values = _mapped(self.file, self.dtype or self.empty_dtype, self.shape) if self.file else self._from_parts()
        if self.is_scalar:
            return values
        if is_ragged:
            return Ragged(values, np.concatenate([[0], np.cumsum(self.lengths)]))
        return values.reshape(len(self.lengths), self.lengths[0], *self.shape)

    def _from_parts(self) -> np.ndarray:
        """Returns the joined parts; each is freed once it is copied, so that memory holds all values only once."""
        parts, self.parts = self.parts[::-1], []
        result = np.empty((sum(map(len, parts)), *self.shape), self.dtype or self.empty_dtype)
        start = 0
        while parts:
            part = parts.pop()
            result[start : start + len(part)] = part
            start += len(part)
        return result


def _mapped(file: Path, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
    """Returns the array in a file, mapped into memory. A file that does not exist holds no values."""
    if not file.exists():
        return np.zeros((0, *shape), dtype)
    return np.memmap(file, dtype, "r").reshape(-1, *shape)


def save(folder: Path, columns: Mapping[str, Column], texts: Mapping[str, Sequence]) -> None:
    """Describes the files of a `Writer` in `folder`, so that `load` finds them."""
    index = {}
    for key, values in columns.items():
        array = values.values if isinstance(values, Ragged) else values
        index[key] = {"dtype": array.dtype.name, "shape": array.shape[1:], "is_ragged": isinstance(values, Ragged)}
        if isinstance(values, Ragged):
            np.save(folder / f"{quote(key, safe='')}.offsets.npy", values.offsets)
    (folder / INDEX).write_text(json.dumps(index))
    (folder / STRINGS).write_text(json.dumps(texts))


def load(folder: Path) -> tuple[dict[str, Column], dict[str, Sequence]]:
    """Returns the columns and strings of a split that `save` described."""
    columns: dict[str, Column] = {}
    for key, facts in json.loads((folder / INDEX).read_text()).items():
        name = quote(key, safe="")
        values = _mapped(folder / f"{name}.bin", np.dtype(facts["dtype"]), facts["shape"])
        columns[key] = Ragged(values, np.load(folder / f"{name}.offsets.npy")) if facts["is_ragged"] else values
    return columns, json.loads((folder / STRINGS).read_text())


def save_lengths(folder: Path, lengths: Mapping[str, Int[np.ndarray, "n"]]) -> None:
    """Writes the lengths of the ragged keys of a split that is not stored itself."""
    np.savez(folder / LENGTHS, **{f"key {key}": values for key, values in lengths.items()})


def load_lengths(folder: Path) -> dict[str, Int[np.ndarray, "n"]] | None:
    """Inverse of `save_lengths`; None if the split is stored itself."""
    if not (folder / LENGTHS).exists():
        return None
    with np.load(folder / LENGTHS) as found:
        return {name.removeprefix("key "): found[name] for name in found.files}
