"""Length buckets: sequences of similar length share batches, which keeps padding small.

A bucket is a padded length per ragged key, and a shape to compile. The lengths are chosen on the training split; an
example belongs to the cheapest bucket that holds it.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int, Int64

from core.errors import UserError
from data.splits import Batch, Split

# n: examples, b: batch, k: keys whose lengths differ, q: candidate lengths of a key, c: combinations of them,
# f: combinations that at least one example needs

COMBINATIONS = 1600  # candidate combinations of lengths; more reduce padding by less than one percent
Lengths = Mapping[str, Int[np.ndarray, "n"]]  # ragged key -> length of every example


@dataclasses.dataclass(frozen=True)
class Buckets:
    """Padded length of every ragged key per bucket, in increasing order of positions per example."""

    lengths: tuple[dict[str, int], ...]

    def assign(self, lengths: Lengths) -> Int64[np.ndarray, "n"]:
        """Returns the number of the first bucket that holds each example. Raises ValueError if none does."""
        bucket = np.full(len(next(iter(lengths.values()))), -1)
        for number, longest in reversed(list(enumerate(self.lengths))):
            bucket[np.all([lengths[key] <= most for key, most in longest.items()], axis=0)] = number
        if (bucket < 0).any():
            raise ValueError(f"{(bucket < 0).sum()} examples are longer than the longest bucket, {self.lengths[-1]}")
        return bucket


def plan(lengths: Lengths, count: int, longest: Mapping[str, int] | None = None) -> Buckets:
    """Returns at most `count` buckets that keep the padding of examples of these `lengths` small.

    Works for any number of keys: combinations of the keys' lengths are chosen greedily, then exchanged one by one as
    long as the number of padded positions falls. For one key the result is within a few percent of the optimum.

    Args:
        longest: lengths that other splits need; if no bucket holds them, one more is added, empty on these examples.
    """
    same: dict[bytes, list[str]] = {}  # keys of equal lengths, such as tokens and their labels, are planned as one
    for key, values in lengths.items():
        same.setdefault(np.asarray(values, np.int64).tobytes(), []).append(key)
    columns = [np.maximum(lengths[keys[0]], 1) for keys in same.values()]  # models may refuse an empty axis
    levels = [_levels(values, round(COMBINATIONS ** (1 / len(columns)))) for values in columns]
    corners = np.stack(np.meshgrid(*levels, indexing="ij"), -1).reshape(-1, len(levels))
    needed = [np.searchsorted(level, values) for level, values in zip(levels, columns, strict=True)]
    number = np.bincount(np.ravel_multi_index(needed, [len(level) for level in levels]), minlength=len(corners))
    positions = (corners @ [len(keys) for keys in same.values()]).astype(np.float64)
    filled = np.flatnonzero(number)
    fits = (corners[filled, None] <= corners).all(-1)
    cost = np.where(fits, positions, positions[-1])  # the last corner holds everything and is always a bucket
    chosen = [*_choose(cost, number[filled].astype(np.float64), count - 1), len(corners) - 1]
    every_key = [i for i, keys in enumerate(same.values()) for _ in keys]
    names = [key for keys in same.values() for key in keys]
    boxes = {tuple(map(int, corners[i][every_key])) for i in chosen}
    return _tightened([dict(zip(names, box, strict=True)) for box in boxes], lengths, longest)


def _levels(values: Int[np.ndarray, "n"], most: int) -> Int[np.ndarray, "q"]:
    """Returns the distinct lengths, or `most` of them, with the largest and equally many tokens between neighbours."""
    unique, number = np.unique(values, return_counts=True)
    if len(unique) <= most:
        return unique
    mass = np.cumsum(unique * number)
    index = np.searchsorted(mass, np.linspace(0, mass[-1], most + 1)[1:])
    return unique[np.unique(np.minimum(index, len(unique) - 1))]


def _choose(cost: Float64[np.ndarray, "f c"], number: Float64[np.ndarray, "f"], count: int) -> list[int]:
    """Returns `count` columns that make the sum of the rows' least costs, weighted by `number`, small."""

    def best(others: Sequence[int]) -> tuple[float, int]:
        before = cost[:, others].min(1, initial=cost.max())
        totals = number @ np.minimum(before[:, None], cost)  # whole numbers: exact in any order of summation
        return float(totals.min()), int(totals.argmin())

    chosen: list[int] = []
    total = np.inf
    for _ in range(count):
        total, column = best(chosen)
        chosen.append(column)
    improved = True
    while improved:
        improved = False
        for place in range(count):
            lower, column = best(chosen[:place] + chosen[place + 1 :])
            if lower < total:
                total, chosen[place], improved = lower, column, True
    return chosen


def _tightened(boxes: list[dict[str, int]], lengths: Lengths, longest: Mapping[str, int] | None) -> Buckets:
    """Returns the buckets cut to the longest of their examples; shorter buckets may gain examples, so this repeats."""
    while True:
        buckets = Buckets(tuple(sorted(boxes, key=lambda box: (sum(box.values()), *box.values()))))
        bucket = buckets.assign(lengths)
        tight = [
            {key: max(1, int(lengths[key][bucket == number].max())) for key in box}
            for number, box in enumerate(buckets.lengths)
            if (bucket == number).any()
        ]
        if tight == list(buckets.lengths):
            break
        boxes = tight
    if longest and not any(all(box[key] >= most for key, most in longest.items()) for box in tight):
        tight.append({key: longest[key] for key in tight[0]})
    return Buckets(tuple(tight))


def padding_share(lengths: Lengths, buckets: Buckets) -> float:
    """Returns padding / positions over all examples, in [0, 1]."""
    bucket = buckets.assign(lengths)
    number = np.bincount(bucket, minlength=len(buckets.lengths))
    positions = sum(int(count) * sum(box.values()) for count, box in zip(number, buckets.lengths, strict=True))
    return 1 - sum(int(np.sum(values)) for values in lengths.values()) / positions


class BucketedSplit:
    """A split whose batches are padded to the lengths of their bucket.

    Attributes:
        bucket: [n], the bucket of every example.
        members: the examples of every bucket.
    """

    def __init__(self, split: Split, buckets: Buckets):
        self.split, self.buckets = split, buckets
        self.lengths = split.lengths
        self.bucket = buckets.assign(split.lengths)
        self.members = [np.flatnonzero(self.bucket == number) for number in range(len(buckets.lengths))]

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, indices: Int[np.ndarray, "b"], padded: Mapping[str, int] | None = None) -> Batch:
        """Returns the examples at `indices`, padded to their bucket's lengths, or to the longest of several buckets."""
        boxes = [self.buckets.lengths[number] for number in np.unique(self.bucket[indices])]
        return self.split.batch(indices, padded or {key: max(box[key] for box in boxes) for key in boxes[0]})

    def text(self, key: str, indices: Int[np.ndarray, "b"]) -> list:
        return self.split.text(key, indices)

    def __str__(self) -> str:
        longest = {key: int(values.max()) for key, values in self.lengths.items()}
        share, before = (padding_share(self.lengths, buckets) for buckets in (self.buckets, Buckets((longest,))))
        shapes = sum(len(members) > 0 for members in self.members)
        return f"padding is {share:.0%} of the tokens, {before:.0%} without buckets; {shapes} shapes to compile"


def bucketed(split: Split, train: Split, count: int) -> Split:
    """Returns `split` in `count` buckets planned on the split `train`; unchanged if `count` is 0.

    Training has at most `count` shapes; other splits share them, with one more for examples longer than all of `train`.

    Raises UserError if no key varies in length.
    """
    return BucketedSplit(split, _fit(train, count)) if count else split


@functools.lru_cache(maxsize=1)  # called again by every evaluation
def _fit(train: Split, count: int) -> Buckets:
    example = train.batch(np.arange(1))
    if not train.lengths:
        keys = ", ".join(example)
        raise UserError(f"config.data.buckets={count}, but none of {keys} varies in length: set config.data.buckets=0")
    return plan(train.lengths, count, {key: example[key].shape[1] for key in train.lengths})


def batch_sizes(split: Split, tokens: int, unit: int, longest: int) -> int | tuple[int, ...]:
    """Returns the size of batches of at most `tokens` padded positions; one for each bucket of a bucketed split.

    The positions of an example are those of its longest key.

    Args:
        unit: a size is a multiple of it.
        longest: positions of an example of a split without buckets; 0 if no key is a sequence.

    Raises UserError if `unit` examples have more positions.
    """
    is_bucketed = isinstance(split, BucketedSplit)
    positions = [max(box.values()) for box in split.buckets.lengths] if is_bucketed else [longest]
    if not all(positions):
        raise UserError("config.train.batch_tokens counts tokens, but no key is a sequence: set train.batch_size")
    if tokens < (least := unit * max(positions)):
        raise UserError(
            f"config.train.batch_tokens={tokens} is less than {unit} examples of {max(positions)} tokens, one for each "
            f"device and microbatch: use at least {least}"
        )
    sizes = tuple(tokens // each // unit * unit for each in positions)
    return sizes if is_bucketed else sizes[0]
