"""Splits: examples by random access, one batch at a time, in memory, in files, or read and converted on access.

b: batch, n: examples of a split, t: positions of all examples, l: padded length
p: positions of several examples
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped

from core.errors import UserError, nearest
from data.preprocess.op import FOLDER, Chunk, Examples
from data.preprocess.values import compact, narrow

Batch = dict[str, np.ndarray]
Lengths = Mapping[str, int]  # ragged key -> padded length
ENDINGS = {"_mask": "mask", "_lengths": "lengths"}  # of the companions of a ragged key -> their role
NUMBERS = "biuf"  # kinds of NumPy dtypes


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
        all splits. It has two companions: `<key>_mask` float32 [b, l] is 1 at real values, and `<key>_lengths` int32
        [b] counts them. An op may make a mask of its own, which then takes the companion's place.
        """
        ...

    def text(self, key: str, indices: Int[np.ndarray, "b"]) -> list:
        """Returns strings of the set, unchanged by preprocessing: the text from which the tokens `key` were made, or
        the value of a key that holds strings. Raises UserError for a key without text."""
        ...


class Ragged:
    """Arrays of one key that differ in the length of their first axis, joined.

    Attributes:
        values: [t, ...], may be a file that is mapped into memory.
        offsets: [n + 1], the start of every example and the end of the last.
        lengths: int32 [n].
    """

    def __init__(self, values: Shaped[np.ndarray, "t ..."], offsets: Int[np.ndarray, "_"]):
        self.values, self.offsets = values, offsets
        self.lengths = np.diff(offsets).astype(np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def at(self, indices: Int[np.ndarray, "b"]) -> list[Shaped[np.ndarray, "_ ..."]]:
        """Returns the arrays at `indices`."""
        starts, stops = self.offsets[:-1][indices].tolist(), self.offsets[1:][indices].tolist()
        return [self.values[start:stop] for start, stop in zip(starts, stops, strict=True)]


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
        ragged = {key for key, values in columns.items() if isinstance(values, Ragged)}
        self.lengths = {key: columns[key].lengths for key in columns if key in ragged and not companion_of(key, ragged)}
        self.longest = {key: int(values.max(initial=0)) for key, values in self.lengths.items()} | dict(longest or {})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def batch(self, indices: Int[np.ndarray, "b"], padded: Lengths | None = None) -> Batch:
        batch: Batch = {}
        for key, values in self.columns.items():
            if isinstance(values, Ragged):
                base = companion_of(key, self.lengths) or key
                length = (padded or {}).get(base, self.longest[base])
                found = pad(key, values.at(indices), length, like=values.values)
                batch |= found if base == key else {key: found[key]}
            else:
                batch[key] = narrow(values.take(indices, axis=0))  # faster than values[indices]
        return batch

    @property
    def arrays(self) -> Batch:
        """All examples as one batch."""
        return self.batch(np.arange(len(self)))

    def text(self, key: str, indices: Int[np.ndarray, "b"]) -> list:
        _check_text(key, self.strings)
        return [self.strings[key][index] for index in indices]


class StreamSplit:
    """Examples read and processed on access, in the calling process.

    Attributes:
        blank: ragged key -> zeros [l, ...] of the padded shape and type.
        lengths: ragged key -> the length of every example.
    """

    def __init__(
        self,
        examples: Examples,
        blank: Mapping[str, Shaped[np.ndarray, "l ..."]] | None = None,
        lengths: Mapping[str, Int[np.ndarray, "n"]] | None = None,
    ):
        self.examples, self.blank = examples, dict(blank or {})
        self.lengths = {key: values for key, values in (lengths or {}).items() if not companion_of(key, self.blank)}

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, indices: Int[np.ndarray, "b"], padded: Lengths | None = None) -> Batch:
        batch: Batch = {}
        for key, values in numbers(self.examples.chunk(indices)).items():
            if key in self.blank:
                base = companion_of(key, self.blank) or key
                length = (padded or {}).get(base, len(self.blank[base]))
                found = pad(key, values, length, like=self.blank[key])
                batch |= found if base == key else {key: found[key]}
            else:
                batch[key] = narrow(stack(key, values))
        return batch

    def text(self, key: str, indices: Int[np.ndarray, "b"]) -> list:
        found = strings(self.examples.chunk(indices, (text_key(key), key)))
        _check_text(key, found)
        return list(found[key])


def companion_of(key: str, ragged: Collection[str]) -> str:
    """Returns the ragged key whose companion `key` is, or ""."""
    bases = (key.removesuffix(ending) for ending in ENDINGS if key.endswith(ending))
    return next((base for base in bases if base in ragged), "")


def text_key(key: str) -> str:
    """Returns the key under which an op that tokenises `key` leaves the unchanged text."""
    return f"{key}_text"


def strings(chunk: Chunk) -> dict[str, Sequence]:
    """Returns the strings of a chunk: the text of each tokenised key under that key, and all other string keys."""
    found = {key: values for key, values in chunk.items() if key != FOLDER and _are_strings(values)}
    tokenised = {text_key(key): key for key in chunk if text_key(key) in found}
    return {tokenised.get(key, key): values for key, values in found.items()}


def _are_strings(values: Sequence | np.ndarray) -> bool:
    """Whether the values are strings or lists of strings; single ones may be missing."""
    if isinstance(values, np.ndarray) and values.dtype.kind in NUMBERS:
        return False
    first = next((value for value in values if value is not None), None)
    return isinstance(first, str) or (isinstance(first, list) and all(isinstance(item, str) for item in first))


def _check_text(key: str, found: Mapping[str, Sequence]) -> None:
    if key not in found:
        raise UserError(f"{key!r} holds no text: {nearest(key, found)}")


def numbers(chunk: Chunk) -> dict[str, list[np.ndarray] | np.ndarray]:
    """Returns the numbers and arrays of a chunk, in at most 32 bits; keys of other values are left out.

    Raises UserError for numbers that are missing in some examples, or need more than 32 bits.
    """
    found = {}
    for key, values in chunk.items():
        if not isinstance(values, np.ndarray):
            is_number = [isinstance(value, np.ndarray | np.generic | int | float) for value in values]
            if any(is_number) and any(value is None for value in values):
                raise UserError(f"{key!r} is missing in some examples: add \"drop('{key}')\" to data.preprocess")
            if not all(is_number):
                continue
            if not isinstance(values[0], np.ndarray):
                values = _as_array(key, values)
        if isinstance(values, np.ndarray):
            if values.dtype.kind in NUMBERS:
                _check_range(key, values)
                example = np.zeros((1,) * (values.ndim - 1), values.dtype)
                found[key] = values.astype(compact(example).dtype, copy=False)
        elif all(value.dtype.kind in NUMBERS for value in values):
            kinds = {(value.dtype, value.ndim): value for value in values}
            if any(compact(value).dtype != value.dtype for value in kinds.values()):
                for value in values:
                    _check_range(key, value)
                values = list(map(compact, values))
            found[key] = list(values)
    return found


def _as_array(key: str, values: Sequence | np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "biu" and all(isinstance(value, int) for value in values):  # NumPy makes them floats
        raise _too_large(key, max(values, key=abs))
    return array


def _too_large(key: str, value: int) -> UserError:
    return UserError(f"{key!r} holds {value}, which needs more than 32 bits: scale it, or drop the key")


def _check_range(key: str, values: np.ndarray) -> None:
    """Raises UserError for integers that do not fit into 32 bits."""
    if values.dtype.kind in "iu" and values.size and not np.can_cast(values.dtype, np.int32):
        for value in (values.min(), values.max()):
            if not -(2**31) <= value < 2**31:
                raise _too_large(key, int(value))


def pad(key: str, values: Sequence[np.ndarray], length: int, like: Shaped[np.ndarray, "_ ..."]) -> Batch:
    """Returns arrays as one padded array [b, length, ...] with its mask and lengths. `like` has their type and further
    axes, which an empty array may lack.

    A copy for each row is faster than one gather, except for very short rows.

    Raises UserError if further axes differ.
    """
    sizes = np.fromiter(map(len, values), np.int32, len(values))
    if sizes.max(initial=0) > length:
        raise ValueError(f"{key!r} has {sizes.max()} positions, more than the padded length {length}")
    padded = np.zeros((len(values), length, *like.shape[1:]), narrow(like[:0]).dtype)
    for row, value in zip(padded, values, strict=True):
        if value.size:
            check_shapes(key, {value.shape[1:], like.shape[1:]})
            row[: len(value)] = value
    mask = (np.arange(length) < sizes[:, None]).astype(np.float32)
    return {key: padded, f"{key}_mask": mask, f"{key}_lengths": sizes}


def join(key: str, values: Sequence[np.ndarray] | np.ndarray) -> Shaped[np.ndarray, "p ..."]:
    """Returns arrays joined along their first axis. Raises UserError if their further axes differ."""
    if isinstance(values, np.ndarray):
        return values.reshape(-1, *values.shape[2:])
    real = [value for value in values if value.size]  # an empty list lacks its type and further axes
    if not real:
        return values[0]
    check_shapes(key, {value.shape[1:] for value in real})
    return np.concatenate(real)


def stack(key: str, values: Sequence[np.ndarray] | np.ndarray) -> Shaped[np.ndarray, "b ..."]:
    """Returns the values of a key as one array. Raises UserError if their shapes differ."""
    if isinstance(values, np.ndarray):
        return values
    check_shapes(key, {value.shape for value in values})
    return np.stack(values)


def check_shapes(key: str, shapes: set[tuple[int, ...]]) -> None:
    """Raises UserError if the shapes of a key's values differ."""
    if len(shapes) > 1:
        shown = sorted(shapes)
        raise UserError(
            f"{key!r} has different shapes, such as {shown[0]} and {shown[-1]}: add 'resize(HEIGHT, WIDTH)' to "
            "data.preprocess if these are images; a sequence may vary along its first axis only"
        )
