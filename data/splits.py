"""Splits: examples by random access, one batch at a time, in memory, in files, or read and converted on access.

b: batch, n: examples of a split, t: positions of all examples, l: longest
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped

from core.errors import UserError
from data.preprocess.op import FOLDER, Chunk, Examples
from data.preprocess.values import compact, narrow

Batch = dict[str, np.ndarray]
Lengths = Mapping[str, int]  # ragged key -> padded length


@runtime_checkable
class Split(Protocol):
    """Examples by random access, one batch at a time.

    Attributes:
        lengths: ragged key -> int32 [n], the length of every example; empty if no key is ragged.
    """

    lengths: Mapping[str, Int[np.ndarray, "n"]]

    def __len__(self) -> int: ...

    def batch(self, indices: Int[np.ndarray, "b"], padded: Lengths | None = None) -> Batch:
        """Returns the examples at `indices` as arrays with a leading axis.

        A ragged key is padded with zeros along its first axis to the length in `padded`, by default to the longest of
        all splits; `<key>_mask` float32 [b, l] is 1 at real values, and `<key>_lengths` int32 [b] counts them.
        """
        ...

    def text(self, key: str, indices: Int[np.ndarray, "b"]) -> list:
        """Returns strings of the set, unchanged by preprocessing: the text from which the tokens `key` were made, or
        the value of a key that holds strings."""
        ...


class Ragged:
    """Arrays of one key that differ in the length of their first axis, joined.

    Attributes:
        values: [t, ...], may be a file that is mapped into memory.
        offsets: [n + 1], the start of every example and the end of the last.
    """

    def __init__(self, values: Shaped[np.ndarray, "t ..."], offsets: Int[np.ndarray, "_"]):
        self.values, self.offsets = values, offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int[np.ndarray, "n"]:
        return np.diff(self.offsets).astype(np.int32)

    def padded(self, indices: Int[np.ndarray, "b"], length: int) -> Shaped[np.ndarray, "b l ..."]:
        """Returns the arrays at `indices`, filled with zeros up to `length`."""
        starts, stops = self.offsets[:-1][indices], self.offsets[1:][indices]
        result = np.zeros((len(starts), length, *self.values.shape[1:]), self.values.dtype)
        for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            result[row, : stop - start] = self.values[start:stop]
        return narrow(result)


Column = np.ndarray | Ragged


class ArraySplit:
    """Examples processed once; a batch is one gather per key.

    Attributes:
        columns: key -> array [n, ...], or `Ragged`.
        longest: ragged key -> the length to which it is padded by default.
        strings: key -> one string, or list of strings, per example.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        longest: Lengths | None = None,
        strings: Mapping[str, Sequence] | None = None,
    ):
        self.columns, self.strings = dict(columns), dict(strings or {})
        self.lengths = {key: values.lengths for key, values in columns.items() if isinstance(values, Ragged)}
        self.longest = {key: int(values.max(initial=0)) for key, values in self.lengths.items()} | dict(longest or {})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def batch(self, indices: Int[np.ndarray, "b"], padded: Lengths | None = None) -> Batch:
        batch: Batch = {}
        for key, values in self.columns.items():
            if isinstance(values, Ragged):
                length = (padded or {}).get(key, self.longest[key])
                batch |= with_companions(key, values.padded(indices, length), self.lengths[key][indices])
            else:
                batch[key] = narrow(np.asarray(values[indices]))
        return batch

    @property
    def arrays(self) -> Batch:
        """All examples as one batch."""
        return self.batch(np.arange(len(self)))

    def text(self, key: str, indices: Int[np.ndarray, "b"]) -> list:
        return [self.strings[key][index] for index in indices]


class StreamSplit:
    """Examples read and processed on access, in the calling process.

    Args:
        lengths: ragged key -> the length of every example.
        longest: ragged key -> the length to which it is padded by default.
    """

    def __init__(
        self,
        examples: Examples,
        lengths: Mapping[str, Int[np.ndarray, "n"]] | None = None,
        longest: Lengths | None = None,
    ):
        self.examples, self.lengths, self.longest = examples, dict(lengths or {}), dict(longest or {})

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, indices: Int[np.ndarray, "b"], padded: Lengths | None = None) -> Batch:
        lengths = {key: (padded or {}).get(key, length) for key, length in self.longest.items()}
        batch = stack(numbers(self.examples.chunk(indices)), lengths)
        return {key: narrow(values) for key, values in batch.items()}

    def text(self, key: str, indices: Int[np.ndarray, "b"]) -> list:
        return list(strings(self.examples.chunk(indices, (text_key(key), key)))[key])


def text_key(key: str) -> str:
    """Returns the key under which an op that tokenises `key` leaves the unchanged text."""
    return f"{key}_text"


def strings(chunk: Chunk) -> dict[str, Sequence]:
    """Returns the strings of a chunk: the text of each tokenised key under that key, and all other string keys."""
    found = {key: values for key, values in chunk.items() if key != FOLDER and len(values) and is_string(values[0])}
    texts = {key.removesuffix("_text"): found[key] for key in found if key.endswith("_text") and key[:-5] in chunk}
    return {**found, **texts}


def is_string(value: object) -> bool:
    """Whether a value is a string or a list of strings."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def numbers(chunk: Chunk) -> dict[str, list[np.ndarray] | np.ndarray]:
    """Returns the numbers and arrays of a chunk, in at most 32 bits; other keys are left out."""
    found = {}
    for key, values in chunk.items():
        if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
            found[key] = compact(values)
        elif all(isinstance(value, np.ndarray | np.generic | int | float) for value in values):
            arrays = list(map(np.asarray, values))
            if all(array.dtype.kind in "biuf" for array in arrays):
                found[key] = [compact(array) for array in arrays]
    return found


def with_companions(key: str, values: np.ndarray, sizes: Int[np.ndarray, "b"]) -> Batch:
    """Returns a padded key with its mask and lengths."""
    mask = (np.arange(values.shape[1]) < sizes[:, None]).astype(np.float32)
    return {key: values, f"{key}_mask": mask, f"{key}_lengths": sizes.astype(np.int32)}


def stack(columns: Mapping[str, Sequence[np.ndarray] | np.ndarray], padded: Lengths) -> Batch:
    """Returns the values of every key as one array with a leading axis. A key in `padded` is padded to that length and
    gets companions, as in `Split.batch`.

    Raises UserError if the shapes of a key's values differ in another way.
    """
    batch: Batch = {}
    for key, values in columns.items():
        if key in padded:
            sizes = np.array([len(value) for value in values], np.int32)
            longest = max(values, key=np.size)
            result = np.zeros((len(values), padded[key], *longest.shape[1:]), longest.dtype)
            for row, value in enumerate(values):
                if value.size:
                    check_shapes(key, {value.shape[1:], longest.shape[1:]})
                    result[row, : len(value)] = value
            batch |= with_companions(key, result, sizes)
        else:
            check_shapes(key, {np.shape(value) for value in values})
            batch[key] = np.asarray(values) if isinstance(values, np.ndarray) else np.stack(values)
    return batch


def check_shapes(key: str, shapes: set[tuple[int, ...]]) -> None:
    """Raises UserError if the shapes of a key's values differ."""
    if len(shapes) > 1:
        shown = sorted(shapes)
        raise UserError(
            f"{key!r} has different shapes, such as {shown[0]} and {shown[-1]}: add 'resize(HEIGHT, WIDTH)' to "
            "data.preprocess if these are images; a sequence may vary along its first axis only"
        )
