"""Padding, companions and storage types of splits, against a loop over examples."""

import numpy as np
import pytest

from core.errors import UserError
from data.splits import ArraySplit, Ragged, Split, StreamSplit, numbers, strings
from tests.data.sets import Rows

SIZES = [3, 0, 5, 1]


def arrays(*shape, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.integers(1, 100, (size, *shape)).astype(dtype) for size in SIZES]


def ragged(values):
    return Ragged(np.concatenate(values), np.cumsum([0, *map(len, values)]))


def by_hand(values, indices, length):
    result = np.zeros((len(indices), length, *values[0].shape[1:]), values[0].dtype)
    for row, index in enumerate(indices):
        result[row, : len(values[index])] = values[index]
    return result


@pytest.fixture(params=["in memory", "streamed"])
def make(request):
    """Returns a maker of a split with the ragged key `x` and the key `label`."""

    def in_memory(values):
        return ArraySplit({"x": ragged(values), "label": np.arange(len(values), dtype=np.int32)})

    def streamed(values):
        lengths = {"x": np.array(list(map(len, values)), np.int32)}
        blank = {"x": np.zeros((max(lengths["x"]), *values[0].shape[1:]), values[0].dtype)}
        return StreamSplit(Rows({"x": values, "label": list(range(len(values)))}), blank, lengths)

    return {"in memory": in_memory, "streamed": streamed}[request.param]


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize("indices", [[0, 1, 2, 3], [2, 2, 0], [1], [1, 1]])
def test_batches_are_padded_with_mask_and_lengths(make, shape, indices):
    values = arrays(*shape)
    split = make(values)
    assert isinstance(split, Split) and len(split) == 4
    np.testing.assert_array_equal(split.lengths["x"], SIZES)
    for padded in (None, {"x": 7}, {"x": 5}):
        batch = split.batch(np.array(indices), padded)
        length = (padded or {"x": 5})["x"]
        np.testing.assert_array_equal(batch["x"], by_hand(values, indices, length), strict=True)
        sizes = np.array(SIZES, np.int32)[indices]
        np.testing.assert_array_equal(batch["x_lengths"], sizes, strict=True)
        mask = (np.arange(length) < sizes[:, None]).astype(np.float32)
        np.testing.assert_array_equal(batch["x_mask"], mask, strict=True)
        np.testing.assert_array_equal(batch["label"], np.array(indices, np.int32), strict=True)
    with pytest.raises(ValueError, match="'x' has 5 positions, more than the padded length 4"):
        split.batch(np.array([2]), {"x": 4})


def test_examples_beyond_the_end_are_refused(make):
    with pytest.raises(IndexError):
        make(arrays()).batch(np.array([4]))


def test_a_mask_of_an_op_takes_the_companions_place():
    values, masks = arrays(dtype=np.int32), [np.zeros(size, np.float32) for size in SIZES]
    columns = {"x": ragged(values), "x_mask": ragged(masks)}
    split = ArraySplit(columns)
    lengths = {key: np.array(SIZES, np.int32) for key in columns}
    blank = {"x": np.zeros(5, np.int32), "x_mask": np.zeros(5, np.float32)}
    streamed = StreamSplit(Rows({"x": values, "x_mask": masks}), blank, lengths)
    for one in (split, streamed):
        assert one.lengths.keys() == {"x"}
        batch = one.batch(np.array([0, 2]), {"x": 6})
        assert batch.keys() == {"x", "x_mask", "x_lengths"}
        np.testing.assert_array_equal(batch["x_mask"], np.zeros((2, 6), np.float32), strict=True)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], np.int32),
        ([True, False], np.bool_),
        ([1.5, 2], np.float32),
        (np.array([1, 2], np.uint8), np.int32),
        (np.zeros((2, 3), np.uint8), np.int32),  # a list of bytes is numbers,
        (np.zeros((2, 3, 3), np.uint8), np.uint8),  # and a plane of bytes pixels
        ([np.zeros(3, np.uint8)] * 2, np.int32),
        ([np.zeros((3, 3), np.uint8)] * 2, np.uint8),
        ([np.zeros(3, np.uint16)] * 2, np.uint16),  # small token ids
        ([np.zeros(3, np.float64)] * 2, np.float32),
        ([np.int64(3), np.int64(2**31 - 1)], np.int32),
    ],
)
def test_numbers_are_stored_in_at_most_32_bits(values, dtype):
    (found,) = numbers({"x": values, "name": ["a", "b"]}).values()
    assert {value.dtype for value in found} == {np.dtype(dtype)}
    np.testing.assert_array_equal(np.array(found), np.array(values))


@pytest.mark.parametrize("values", [[2**31, 0], [0, -(2**31) - 1], [np.array([2**40])] * 2, [2**63, 1]])
def test_integers_beyond_32_bits_are_refused(values):
    with pytest.raises(UserError, match=r"'x' holds -?[0-9]+, which needs more than 32 bits"):
        numbers({"x": values})


def test_missing_numbers_are_refused():
    with pytest.raises(UserError, match=r"'x' is missing in some examples: add \"drop\('x'\)\""):
        numbers({"x": [1.0, None]})


def test_text_is_unchanged(make):
    chunk = {"source": [np.ones(2)] * 2, "source_text": ["a b", "c"], "name": [None, "n"], "lines": [["a"], []]}
    assert strings(chunk) == {"source": ["a b", "c"], "name": [None, "n"], "lines": [["a"], []]}
    in_memory = ArraySplit({"source": np.zeros((2, 2))}, strings=strings(chunk))
    streamed = StreamSplit(Rows(chunk))
    for split in (in_memory, streamed):
        assert split.text("source", np.array([1, 0])) == ["c", "a b"]
        assert split.text("lines", np.array([0])) == [["a"]]
    with pytest.raises(UserError, match="'nam' holds no text: did you mean 'name'"):
        in_memory.text("nam", np.array([0]))


def test_shapes_that_differ_beyond_the_first_axis_are_refused(make):
    values = [np.zeros((2, 3), np.uint8), np.zeros((4, 5), np.uint8)]
    with pytest.raises(UserError, match=r"'x' has different shapes, such as \(2, 3\) and \(4, 5\)"):
        StreamSplit(Rows({"x": values})).batch(np.arange(2))
