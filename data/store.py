"""Processed examples, collected chunk by chunk, in memory or in files that are mapped into memory.

Files lie in the cache, the folder `onestep/data` of $XDG_CACHE_HOME (default ~/.cache), where later starts find them.
An entry is a folder, named by a hash of all that determines it; it may be deleted at any time.
"""

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from core.errors import UserError
from data.preprocess.op import Chunk
from data.splits import Column, Ragged, check_shapes, numbers, strings

LIBRARIES = ("numpy", "pandas", "pillow", "scipy", "tokenizers", "tensorflow-datasets")  # may change examples
INDEX = "index.json"
STRINGS = "strings.json"


def root() -> Path:
    """Returns the folder of the cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onestep" / "data"


def entry(facts: Any) -> Path:
    """Returns the folder of the cache's entry for what `facts`, this project's code and its libraries determine."""
    versions = {name: metadata.version(name) for name in LIBRARIES}
    text = json.dumps([facts, _code(), versions], sort_keys=True)
    return root() / hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.cache
def _code() -> str:
    """Returns a hash of the code that reads and processes examples."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def new_entry(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes `folder` at the end; another process that was faster wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        yield part
        if not folder.exists():
            part.rename(folder)
    except OSError as error:
        if not folder.exists():  # not lost against another process
            raise UserError(f"the data cache {folder.parent} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


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
        if self.keeps_strings:
            for key, values in strings(chunk).items():
                self.strings.setdefault(key, []).extend(values)
        for key, values in found.items():
            if key not in self._values:
                file = self.folder / f"{quote(key, safe='')}.bin" if self.folder else None
                self._values[key] = _Values(file, is_scalar=np.ndim(values[0]) == 0)
            self._values[key].add(key, values)
        self.size += len(next(iter(chunk.values())))

    def columns(self, ragged: Collection[str]) -> dict[str, Column]:
        """Returns the values of every key; those of `ragged` keys, and of keys whose lengths differ, as `Ragged`."""
        return {key: values.column(key in ragged) for key, values in self._values.items()}

    @property
    def ragged(self) -> set[str]:
        """Keys whose values differ in length."""
        return {key for key, values in self._values.items() if len(set(values.lengths)) > 1}


class _Values:
    """The values of one key so far, joined along their first axis."""

    def __init__(self, file: Path | None, is_scalar: bool):
        self.file, self.is_scalar = file, is_scalar
        self.lengths: list[int] = []
        self.parts: list[np.ndarray] = []
        self.dtype: np.dtype | None = None
        self.shape: tuple[int, ...] = ()

    def add(self, key: str, values: Sequence[np.ndarray] | np.ndarray) -> None:
        if not self.is_scalar:
            self.lengths += map(len, values)
            values = [value for value in values if value.size] or [values[0]]
            check_shapes(key, {value.shape[1:] for value in values} | ({self.shape} if self.dtype else set()))
        joined = np.asarray(values) if self.is_scalar else np.concatenate(values)
        if not joined.size:  # an empty list lacks its type and further axes
            return
        dtype = np.result_type(self.dtype, joined.dtype) if self.dtype else joined.dtype
        if self.file:
            if self.dtype not in (None, dtype):
                np.fromfile(self.file, self.dtype).astype(dtype).tofile(self.file)
            with self.file.open("ab") as file:
                joined.astype(dtype).tofile(file)
        else:
            self.parts.append(joined)
        self.dtype, self.shape = dtype, joined.shape[1:]

    def column(self, is_ragged: bool) -> Column:
        if self.file:
            values = _mapped(self.file, self.dtype, self.shape)
        else:
            values = np.concatenate(self.parts) if self.parts else np.zeros((0, *self.shape), np.float32)
            self.parts = []
        if self.is_scalar:
            return values
        if is_ragged or len(set(self.lengths)) > 1:
            return Ragged(values, np.concatenate([[0], np.cumsum(self.lengths)]))
        return values.reshape(len(self.lengths), -1, *values.shape[1:])


def _mapped(file: Path, dtype: np.dtype | None, shape: Sequence[int]) -> np.ndarray:
    """Returns the array in a file, mapped into memory. A file that does not exist holds no values."""
    if not file.exists():
        return np.zeros((0, *shape), np.float32)
    return np.memmap(file, dtype, "r").reshape(-1, *shape)


def save(folder: Path, columns: Mapping[str, Column], strings: Mapping[str, Sequence]) -> None:
    """Describes the files of a `Writer` in `folder`, so that `load` finds them."""
    index = {}
    for key, values in columns.items():
        array = values.values if isinstance(values, Ragged) else values
        index[key] = {"dtype": array.dtype.name, "shape": array.shape[1:], "is_ragged": isinstance(values, Ragged)}
        if isinstance(values, Ragged):
            np.save(folder / f"{quote(key, safe='')}.offsets.npy", values.offsets)
    (folder / INDEX).write_text(json.dumps(index))
    (folder / STRINGS).write_text(json.dumps(strings))


def load(folder: Path) -> tuple[dict[str, Column], dict[str, Sequence]]:
    """Returns the columns and strings of a split that `save` described."""
    columns: dict[str, Column] = {}
    for key, facts in json.loads((folder / INDEX).read_text()).items():
        name = quote(key, safe="")
        values = _mapped(folder / f"{name}.bin", np.dtype(facts["dtype"]), facts["shape"])
        columns[key] = Ragged(values, np.load(folder / f"{name}.offsets.npy")) if facts["is_ragged"] else values
    return columns, json.loads((folder / STRINGS).read_text())
