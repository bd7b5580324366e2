"""Base class of sources: named splits of examples, cut by TFDS's own syntax ("train[:80%]+test")."""

import functools
import hashlib
import itertools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from core.errors import UserError, nearest
from core.info import Key
from data.preprocess.op import FOLDER, Chunk, Examples, Indices, place


class Source:
    """A data set on disk.

    Attributes:
        splits: the available splits, for `resolve`.
        keys: key -> its description before preprocessing: role, classes, vocabulary, whether lengths vary. The columns
            of a table have the roles "number", "text" or "label".
        is_table: whether every example is a row of scalars.
        summary: how the files were read, such as "3 numbers, 1 date" of a table, or what was left out; "" without.
        state: JSON that `read` in `data.sources.inputs` needs to read new inputs in the same way, such as the kinds of
            a table's columns.
    """

    splits: Mapping[str, tfds.core.SplitInfo]
    keys: Mapping[str, Key]
    is_table: bool = False
    summary: str = ""
    state: Any = None

    def examples(self, spec: str, ordered: bool = False) -> Examples:
        """Returns the examples of a split expression; `ordered` keeps the order of the files."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Returns a hash of the content, as `content_hash`: results are stored under it, and a run that continues
        compares it."""
        raise NotImplementedError


class FileSource(Source):
    """One's own files, named KIND:PATH; KIND is the class's name in snake case.

    Args:
        path: file or folder.
        config: the group `config.data`, for options such as the separator of a CSV file.
        state: of another source, to read these files in the same way; None decides anew.

    Attributes:
        folder: of the files; relative paths in examples resolve against it.
        files: all files that determine the examples.
        rows: split -> its examples in the order of the files.

    Raises UserError, which names the file and, where possible, the row, for files that cannot be read.
    """

    folder: Path
    files: Sequence[Path]
    rows: Mapping[str, Examples]

    def __init__(self, path: str, config: ConfigDict, state: Any = None):
        raise NotImplementedError

    @functools.cached_property
    def splits(self) -> Mapping[str, tfds.core.SplitInfo]:
        return sizes_as_splits({split: len(rows) for split, rows in self.rows.items()})

    def examples(self, spec: str, ordered: bool = False) -> Examples:
        parts = []
        for split, start, stop in resolve(spec, self.splits):
            size = len(self.rows[split])
            parts.append((split, (np.arange(size) if ordered else shuffled(size))[start:stop]))
        return Selected(self.rows, parts, self.folder)

    def fingerprint(self) -> str:
        names = [os.path.relpath(file, self.folder) for file in self.files]  # a folder may be a class or a split
        return f"{hashlib.sha256(repr(names).encode()).hexdigest()} {content_hash(self.files)}"


class Selected:
    """Some examples of several splits, in a given order, with the key `FOLDER`.

    Args:
        rows: split -> its examples.
        parts: (split, indices of its examples) each, one after the other.
        folder: against which relative paths in the examples resolve.
    """

    def __init__(self, rows: Mapping[str, Examples], parts: Sequence[tuple[str, np.ndarray]], folder: Path):
        self.rows, self.folder = rows, str(folder)
        self.names = [split for split, _ in parts]
        self.parts = np.repeat(np.arange(len(parts)), [len(indices) for _, indices in parts])
        self.indices = np.concatenate([indices for _, indices in parts])

    def __len__(self) -> int:
        return len(self.indices)

    def chunk(self, indices: Indices, keys: Collection[str] | None = None) -> Chunk:
        parts, chosen = self.parts[indices], self.indices[indices]
        found = [(np.flatnonzero(parts == part), self.rows[self.names[part]]) for part in np.unique(parts)]
        read = [(places, rows.chunk(chosen[places], keys)) for places, rows in found]
        chunk = {key: _merged([(places, part[key]) for places, part in read], len(chosen)) for key in read[0][1]}
        if keys is None or FOLDER in keys:
            chunk[FOLDER] = [self.folder] * len(chosen)
        return chunk

    def place(self, index: int) -> str:
        return place(self.rows[self.names[self.parts[index]]], int(self.indices[index]))


def _merged(parts: list[tuple[np.ndarray, Sequence | np.ndarray]], size: int) -> Sequence | np.ndarray:
    if len(parts) == 1:
        return parts[0][1]
    merged: list[Any] = [None] * size
    for places, values in parts:
        for position, value in zip(places, values, strict=True):
            merged[position] = value
    return np.array(merged) if all(isinstance(values, np.ndarray) for _, values in parts) else merged


def sizes_as_splits(sizes: Mapping[str, int]) -> dict[str, tfds.core.SplitInfo]:
    """Returns TFDS's description of splits of these sizes."""
    return {name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0) for name, size in sizes.items()}


def resolve(spec: str, splits: Mapping[str, tfds.core.SplitInfo]) -> list[tuple[str, int, int]]:
    """Returns the parts (split, start, stop) of a split expression.

    Raises:
        UserError: a syntax error, an unknown split or an empty selection; the message lists the splits and sizes.
    """
    available = ", ".join(f"{name} ({info.num_examples})" for name, info in splits.items())
    try:
        absolute = tfds.core.ReadInstruction.from_spec(spec).to_absolute(splits)
    except (ValueError, NotImplementedError) as error:
        names = [part.split("[")[0].strip() for part in spec.split("+")]
        unknown = [name for name in names if name not in splits]
        hint = f"; {_advice(unknown[0], splits)}" if unknown else ""
        reason = f"no split {unknown[0]!r}" if unknown else str(error).strip().splitlines()[-1]
        raise UserError(f"data.splits: {spec!r}: {reason}; there are: {available}{hint}") from error
    parts = [(a.splitname, a.from_ or 0, splits[a.splitname].num_examples if a.to is None else a.to) for a in absolute]
    if not any(stop > start for _, start, stop in parts):
        raise UserError(f"data.splits: {spec!r} selects no example; there are: {available}")
    return parts


def count_shared(one: str, other: str, splits: Mapping[str, tfds.core.SplitInfo]) -> int:
    """Returns how many examples of a split expression `one` are in `other`, too."""
    pairs = itertools.product(resolve(one, splits), resolve(other, splits))
    return sum(max(0, min(a[2], b[2]) - max(a[1], b[1])) for a, b in pairs if a[0] == b[0])


def _advice(unknown: str, splits: Mapping[str, Any]) -> str:
    """Returns advice for an unknown split: the nearest name, or a slice of another split if it is not a typo."""
    if unknown not in ("validation", "test"):
        return nearest(unknown, splits)
    first = next(iter(splits))
    return (
        f"cut one into parts (--config.data.splits.train='{first}[:80%]' --config.data.splits.{unknown}="
        f"'{first}[80%:]'), or leave it out (--config.data.splits.{unknown}=)"
    )


def shuffled(size: int) -> np.ndarray:
    """Returns the fixed order of the rows of the user's own files, so that slices of a sorted file are random samples
    (TFDS does the same when it prepares a set)."""
    return np.random.default_rng(0).permutation(size)


WHOLE = 1 << 26  # bytes: of larger files, the ends are read, which takes no time
MANY = 1 << 30  # bytes: so are those of small files of larger sets, where PNG has its checksums


def content_hash(files: Iterable[Path]) -> str:
    """Returns a hash of the names and contents of files.

    If some are not read completely, "@" and a hash of their times follow: a cache must notice every change. The part
    before "@" is the same for a copy of the files.
    """
    files = list(files)
    facts = [file.stat() for file in files]
    end = WHOLE // 2 if sum(fact.st_size for fact in facts) <= MANY else 1 << 12
    content, times = hashlib.sha256(), hashlib.sha256()
    for file, fact in zip(files, facts, strict=True):
        content.update(f"{file.name} {fact.st_size}".encode())
        own = 1 << 20 if fact.st_size > WHOLE else end
        content.update(_ends(file, fact.st_size, own))
        if fact.st_size > 2 * own:
            times.update(f"{fact.st_mtime_ns}".encode())
    has_unread = times.digest() != hashlib.sha256().digest()
    return f"{content.hexdigest()}@{times.hexdigest()}" if has_unread else content.hexdigest()


def _ends(file: Path, size: int, end: int) -> bytes:
    """Returns the first and the last `end` bytes of a file, or all of a shorter one."""
    with file.open("rb") as stream:
        if size <= 2 * end:
            return stream.read()
        first = stream.read(end)
        stream.seek(-end, 2)
        return first + stream.read()
