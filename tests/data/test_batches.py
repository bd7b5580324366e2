"""Order is a pure function of (seed, step); evaluation sees each example once."""

import itertools
import os
import signal

import numpy as np
import pytest

from core.errors import UserError
from data.batches import eval_batches, shuffled, train_batches
from data.splits import ArraySplit, StreamSplit
from tests.data.sets import Rows


def _split(size: int) -> ArraySplit:
    return ArraySplit({"label": np.arange(size, dtype=np.int32), "image": np.arange(size * 4).reshape(size, 2, 2)})


def _assert_equal(first, second):
    first, second = list(first), list(second)
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize(("size", "batch"), [(10, 3), (10, 10), (7, 20), (12, 4), (1, 3)])
def test_every_epoch_has_each_example_once(size, batch):
    drawn = np.concatenate([shuffled(5, step, batch, size) for step in range(size * 4)])
    for epoch in range(len(drawn) // size):
        assert sorted(drawn[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_epochs_and_seeds_differ():
    epochs = [tuple(shuffled(seed, step, 50, 50)) for seed in (0, 1, -1) for step in range(3)]
    assert len(set(epochs)) == 9


def test_order_does_not_depend_on_what_was_asked_before():
    forward = [shuffled(3, step, 8, 30) for step in range(20)]
    for step in (19, 0, 7, 13, 2):
        np.testing.assert_array_equal(shuffled(3, step, 8, 30), forward[step])


def test_hosts_partition_the_global_batch():
    whole = list(train_batches(_split(30), seed=1, batch_size=12, start=2, stop=6))
    hosts = [
        list(train_batches(_split(30), seed=1, batch_size=12, start=2, stop=6, process_index=i, process_count=3))
        for i in range(3)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} for parts in zip(*hosts, strict=True)
    ]
    _assert_equal(whole, joined)
    assert all(len(batch["label"]) == 4 for batch in hosts[0])


@pytest.mark.parametrize("start", [1, 4, 9])
def test_resuming_gives_the_same_batches(start):
    run = {"seed": 2, "batch_size": 7, "stop": 12}
    whole = train_batches(_split(25), start=0, **run)
    _assert_equal(itertools.islice(whole, start, None), train_batches(_split(25), start=start, **run))


def test_training_mask_is_ones():
    (batch,) = train_batches(_split(5), seed=0, batch_size=8, start=0, stop=1)
    assert batch["mask"].dtype == np.float32
    np.testing.assert_array_equal(batch["mask"], np.ones(8))


@pytest.mark.parametrize(("size", "batch", "hosts"), [(10, 4, 1), (8, 4, 2), (10, 4, 2), (3, 8, 4), (1, 4, 4)])
def test_evaluation_counts_each_example_once(size, batch, hosts):
    parts = [
        list(eval_batches(_split(size), batch_size=batch, process_index=i, process_count=hosts)) for i in range(hosts)
    ]
    assert {len(part) for part in parts} == {-(-size // batch)}
    assert all(len(b["mask"]) == len(b["image"]) == batch // hosts for part in parts for b in part)
    in_order = [part[i] for i in range(len(parts[0])) for part in parts]
    counted = np.concatenate([b["label"][b["mask"] == 1] for b in in_order])
    np.testing.assert_array_equal(counted, np.arange(size))
    assert sum(b["mask"].sum() for b in in_order) == size
    for each in in_order:
        assert each["index"].dtype == np.int32
        np.testing.assert_array_equal(each["index"], each["label"])


def test_batch_must_divide_among_hosts():
    with pytest.raises(ValueError, match="batch size 10 is not a multiple of the number of hosts, 4"):
        next(train_batches(_split(9), seed=0, batch_size=10, start=0, stop=1, process_count=4))
    with pytest.raises(ValueError, match="is not a multiple"):
        next(eval_batches(_split(9), batch_size=10, process_count=4))


@pytest.mark.slow
def test_workers_give_what_this_process_gives():
    split = StreamSplit(Rows({"image": [np.full((64, 64), i, np.uint8) for i in range(20)], "label": list(range(20))}))
    run = {"seed": 4, "batch_size": 6, "start": 3, "stop": 8}
    _assert_equal(train_batches(split, **run), train_batches(split, workers=2, **run))
    assert list(train_batches(split, seed=4, batch_size=6, start=8, stop=8, workers=2)) == []
    _assert_equal(eval_batches(split, batch_size=6), eval_batches(split, batch_size=6, workers=1))


@pytest.mark.slow
def test_workers_stop_when_the_consumer_stops():
    split = StreamSplit(Rows({"image": [np.zeros((4, 4, 1), np.uint8)] * 20}))
    batches = train_batches(split, seed=0, batch_size=4, start=0, stop=10**9, workers=1)
    first = next(batches)
    batches.close()
    assert first["image"].shape == (4, 4, 4, 1)
    assert next(batches, None) is None


class _Broken(Rows):
    """Rows of growing size; row 4 cannot be read."""

    def chunk(self, indices, keys=None):
        if 4 in indices:
            raise self.columns["error"][0]
        return {"image": [np.full((int(max(indices)) + 1, 3), index) for index in indices]}


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [(UserError("row 4 is torn"), UserError, "^row 4 is torn$"), (OSError("gone"), RuntimeError, "OSError: gone")],
)
def test_errors_of_workers_reach_the_consumer(error, raised, message):
    split = StreamSplit(_Broken({"error": [error] * 5}))
    batches = eval_batches(split, batch_size=1, workers=1)
    sizes = []
    with pytest.raises(raised, match=message):
        for batch in batches:
            sizes.append(batch["image"].shape)
            np.testing.assert_array_equal(batch["image"], batch["index"][0])
    assert sizes == [(1, i + 1, 3) for i in range(4)]


class _Killed(Rows):
    def chunk(self, indices, keys=None):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_reported():
    batches = eval_batches(StreamSplit(_Killed({"label": [0]})), batch_size=1, workers=1)
    with pytest.raises(UserError, match=r"has ended \(exit code -9\).* lower config.data.workers"):
        next(batches)
