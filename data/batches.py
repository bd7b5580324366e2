"""Batches as a pure function of (seed, step): resuming at step k gives batch k, on any number of hosts and workers."""

import bisect
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Int, Int64

from core.errors import UserError
from data.buckets import BucketedSplit
from data.splits import Batch, Split, StreamSplit
from data.workers import computed

# b: examples of a global batch, n: of a split, i: of a bucket, t: turns of a cycle

BatchSize = int | Sequence[int] | np.ndarray  # of global batches, or one for each bucket of a bucketed split


def shuffled(seed: int, step: int, batch_size: int, num_examples: int) -> Int64[np.ndarray, "b"]:
    """Returns the examples of the global batch `step`.

    Training draws one endless sequence of epochs, each a fresh permutation f(seed, epoch), and batch `step` is its part
    [step * batch_size, (step + 1) * batch_size): every epoch has each example once, a batch may straddle epochs.
    """
    return _drawn(functools.partial(_permutation, seed, num_examples=num_examples), step, batch_size, num_examples)


def _drawn(
    permutation: Callable[[int], Int64[np.ndarray, "n"]], step: int, batch_size: int, num_examples: int
) -> Int64[np.ndarray, "b"]:
    """Returns batch `step` of the endless sequence permutation(0), permutation(1), ..."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, within = np.divmod(positions, num_examples)
    return np.concatenate([permutation(int(epoch))[within[epochs == epoch]] for epoch in np.unique(epochs)])


def continuous(seed: int, step: int, batch_size: int, num_examples: int) -> Int64[np.ndarray, "b"]:
    """Returns the examples of the global batch `step` where consecutive examples belong together, as text windows do.

    Each row reads the ring of all examples in order from its own start, so that it continues its previous batch; the
    starts are evenly spaced.
    """
    start = np.random.default_rng(seed % 2**64).integers(num_examples)
    rows = np.arange(batch_size) * num_examples // batch_size
    return (start + rows + step) % num_examples


@functools.lru_cache(maxsize=32)  # a batch spans one epoch or two; several seeds may alternate
def _permutation(seed: int, epoch: int, num_examples: int) -> Int64[np.ndarray, "n"]:
    return np.random.default_rng((seed % 2**64, epoch)).permutation(num_examples)


ORDERS = {"shuffled": shuffled, "continuous": continuous}


class Bucketed:
    """Order of a bucketed split: called with a step, returns the examples of its global batch, all from one bucket.

    Batches come in cycles of about an epoch. In cycle c, bucket i with n_i examples, b_i per batch, has the turns
    floor(c n_i / b_i), ..., floor((c + 1) n_i / b_i) - 1, so that buckets are visited in proportion to their size in
    the long run; the turns of a cycle are in an order f(seed, c). Turn k of a bucket is batch k of its own endless
    sequence of epochs, as in `shuffled`. A turn does not depend on earlier turns.
    """

    def __init__(self, seed: int, batch_size: BatchSize, members: Sequence[Int[np.ndarray, "_"]]):
        self.seed, self.members = seed % 2**64, members
        self.batch_sizes = np.broadcast_to(batch_size, len(members)).astype(np.int64)
        self.sizes = np.array([len(examples) for examples in members])
        self.rate = _turns_per_epoch(self.sizes, self.batch_sizes)
        self._cycle = functools.lru_cache(2)(self._turns)
        self._epoch = functools.lru_cache(2 * len(members))(self._shuffled_bucket)

    def __reduce__(self):  # reaches worker processes without its caches
        return Bucketed, (self.seed, self.batch_sizes, self.members)

    def __call__(self, step: int) -> Int64[np.ndarray, "b"]:
        # floors start a cycle up to one turn per bucket before the step that the number of turns per cycle implies
        first, last = (int(turn / self.rate) for turn in (step, step + len(self.members) + 1))
        cycles = range(first, last + 2)
        cycle = cycles[bisect.bisect_right(cycles, step, key=lambda c: int(self._turns_before(c).sum())) - 1]
        buckets, turns = self._cycle(cycle)
        place = step - int(self._turns_before(cycle).sum())
        bucket, turn = int(buckets[place]), int(turns[place])
        members = self.members[bucket]
        size = int(self.batch_sizes[bucket])
        return members[_drawn(functools.partial(self._epoch, bucket), turn, size, len(members))]

    def _turns_before(self, cycle: int) -> Int64[np.ndarray, "_"]:
        return cycle * self.sizes // self.batch_sizes

    def _turns(self, cycle: int) -> tuple[Int64[np.ndarray, "t"], Int64[np.ndarray, "t"]]:
        """Returns the bucket of every turn of the cycle, and the number of the turn within that bucket."""
        before, after = self._turns_before(cycle), self._turns_before(cycle + 1)
        buckets = np.repeat(np.arange(len(self.sizes)), after - before)
        buckets = np.random.default_rng((self.seed, cycle)).permutation(buckets)
        turns = np.zeros_like(buckets)
        for bucket in np.unique(buckets):
            turns[buckets == bucket] = np.arange(before[bucket], after[bucket])
        return buckets, turns

    def _shuffled_bucket(self, bucket: int, epoch: int) -> Int64[np.ndarray, "i"]:
        return np.random.default_rng((self.seed, epoch, 1 + bucket)).permutation(self.sizes[bucket])  # 0: the cycles


def _turns_per_epoch(sizes: Int64[np.ndarray, "_"], batch_sizes: Int64[np.ndarray, "_"]) -> Fraction:
    return sum(Fraction(int(n), int(b)) for n, b in zip(sizes, batch_sizes, strict=True))


def steps_per_epoch(split: Split, batch_size: BatchSize) -> Fraction:
    """Returns the mean number of global batches that hold each example once."""
    sizes = np.array([len(members) for members in _groups(split)])
    return _turns_per_epoch(sizes, np.broadcast_to(batch_size, len(sizes)))


def train_batches(
    split: Split,
    *,
    seed: int,
    batch_size: BatchSize,
    start: int,
    stop: int,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    order: str = "shuffled",
) -> Iterator[Batch]:
    """Yields this host's slice of the global batches start, ..., stop - 1, with a `mask` of ones.

    Batch k is bitwise the same for every `start`, `stop` and `workers`. `workers` processes read a streamed split; a
    split in memory needs none. `order` is one of `ORDERS`; a bucketed split has the order `Bucketed`.

    Raises:
        ValueError: `batch_size` does not divide among the hosts.
        UserError: a bucketed split supports the order "shuffled" only.
    """
    host = _Host(process_index, process_count)
    host.check(batch_size)
    if not isinstance(split, BucketedSplit):
        draw = functools.partial(ORDERS[order], seed, batch_size=batch_size, num_examples=len(split))
    elif order == "shuffled":
        draw = Bucketed(seed, batch_size, split.members)
    else:
        raise UserError(f"config.data.buckets needs config.data.order 'shuffled', not {order!r}: set one of them only")
    return _read(functools.partial(_train_batch, split, draw, host), start, stop, _workers(split, workers))


def _train_batch(split: Split, draw: Callable[[int], Int64[np.ndarray, "b"]], host: "_Host", step: int) -> Batch:
    indices = host.part(draw(step))
    return {**split.batch(indices), "mask": np.ones(len(indices), np.float32)}


def eval_batches(
    split: Split, *, batch_size: BatchSize, process_index: int = 0, process_count: int = 1, workers: int = 0
) -> Iterator[Batch]:
    """Yields this host's slice of the split's global batches, in `eval_order`; padding completes the last one.

    Over all hosts each example has `mask` 1 exactly once. Padding repeats the last example with `mask` 0. `index` is an
    example's index in the split. Every host yields the same number of batches, all of `batch_size`; a batch of a
    bucketed split comes from one bucket.

    Raises:
        ValueError: `batch_size` does not divide among the hosts.
    """
    host = _Host(process_index, process_count)
    host.check(batch_size)
    groups = _groups(split)
    sizes = [int(size) for size in np.broadcast_to(batch_size, len(groups))]
    starts = [(group, start) for group, members in enumerate(groups) for start in range(0, len(members), sizes[group])]
    read = functools.partial(_eval_batch, split, groups, starts, sizes, host)
    return _read(read, 0, len(starts), _workers(split, workers))


def eval_order(split: Split) -> Int64[np.ndarray, "n"]:
    """Returns the examples in the order of `eval_batches`, without padding."""
    return np.concatenate([np.asarray(members) for members in _groups(split)])


def _groups(split: Split) -> list[Sequence[int] | Int64[np.ndarray, "_"]]:
    """Returns the examples that may share an evaluation batch."""
    return split.members if isinstance(split, BucketedSplit) else [range(len(split))]


def _eval_batch(
    split: Split, groups: list, starts: list[tuple[int, int]], sizes: list[int], host: "_Host", step: int
) -> Batch:
    group, start = starts[step]
    members = groups[group]
    places = host.part(np.arange(start, start + sizes[group]))
    indices = np.array([members[place] for place in np.minimum(places, len(members) - 1)])
    mask = (places < len(members)).astype(np.float32)
    return {**split.batch(indices), "mask": mask, "index": indices.astype(np.int32)}


def _workers(split: Split, workers: int) -> int:
    read = split.split if isinstance(split, BucketedSplit) else split
    return workers if isinstance(read, StreamSplit) else 0


@dataclasses.dataclass(frozen=True)
class _Host:
    """One of the hosts among which global batches are divided."""

    index: int
    count: int

    def check(self, batch_size: BatchSize) -> None:
        for size in np.ravel(batch_size):
            if size % self.count:
                raise ValueError(f"the batch size {size} is not a multiple of the number of hosts, {self.count}")

    def part(self, batch: Int64[np.ndarray, "b"]) -> Int64[np.ndarray, "_"]:
        size = len(batch) // self.count
        return batch[self.index * size : (self.index + 1) * size]


def _read(read: Callable[[int], Batch], start: int, stop: int, workers: int) -> Iterator[Batch]:
    """Yields read(start), ..., read(stop - 1), computed in this process or, in order, by worker processes."""
    if not workers or start >= stop:
        yield from map(read, range(start, stop))
        return
    yield from computed(read, start, stop, workers)
