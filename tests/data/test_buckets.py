"""Buckets are near the optimum, hold everything, and every bucket is visited in proportion to its size."""

import itertools
import pickle
from collections import Counter

import numpy as np
import pytest

from core.errors import UserError
from data.batches import Bucketed, eval_batches, eval_order, steps_per_epoch, train_batches
from data.buckets import BucketedSplit, Buckets, batch_sizes, bucketed, padding_share, plan
from data.splits import ArraySplit, Ragged

# of a sentence's tokens, and how its translation's follow them: lognormal, as in corpora of sentence pairs
MEDIAN, SPREAD, TRANSLATION = 22, 0.6, 0.15


def sentence_pairs(count):
    random = np.random.default_rng(0)
    source = np.clip(MEDIAN * np.exp(random.normal(0, SPREAD, count)), 2, 200)
    target = np.clip(1.1 * source * np.exp(random.normal(0, TRANSLATION, count)), 2, 220)
    return {"source": source.astype(np.int32), "target": target.astype(np.int32)}


def make_split(longest=None, **lengths):
    """Returns a split of ragged keys whose tokens say which example they are of."""
    count = len(next(iter(lengths.values())))
    columns = {"label": np.arange(count, dtype=np.int32)}
    for key, values in lengths.items():
        columns[key] = Ragged(np.repeat(np.arange(1, count + 1, dtype=np.int32), values), np.cumsum([0, *values]))
    return ArraySplit(columns, longest)


def optimal_padding(values, count):
    """Returns the least padding share of one key, by dynamic programming over the sorted lengths."""
    unique, number = np.unique(values, return_counts=True)
    ends = np.cumsum(number)
    least = [unique[j] * ends[j] for j in range(len(unique))]
    for _ in range(count - 1):
        least = [
            min([least[j], *(least[i] + unique[j] * (ends[j] - ends[i]) for i in range(j))]) for j in range(len(unique))
        ]
    return 1 - values.sum() / least[-1]


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
def test_padding_of_one_key_is_near_the_optimum(count):
    lengths = {"tokens": sentence_pairs(4000)["source"]}
    share, optimum = padding_share(lengths, plan(lengths, count)), optimal_padding(lengths["tokens"], count)
    assert optimum <= share + 1e-12 and share <= 1.05 * optimum


def test_both_sides_of_sentence_pairs_have_little_padding():
    lengths = sentence_pairs(20_000)
    buckets = plan(lengths, 16)
    assert len(buckets.lengths) == 16
    bucket = buckets.assign(lengths)
    for key, values in lengths.items():
        padded = np.array([box[key] for box in buckets.lengths])[bucket]
        assert (values <= padded).all() and 1 - values.sum() / padded.sum() < 0.15
    assert padding_share(lengths, buckets) < 0.15 < padding_share(lengths, plan(lengths, 1)) / 5


def test_padding_share_by_hand():
    lengths = {"source": np.array([1, 2, 5]), "target": np.array([4, 2, 5])}
    buckets = Buckets(({"source": 2, "target": 4}, {"source": 5, "target": 6}))
    np.testing.assert_array_equal(buckets.assign(lengths), [0, 0, 1])
    assert padding_share(lengths, buckets) == pytest.approx(1 - 19 / 23)
    with pytest.raises(ValueError, match="1 examples are longer"):
        buckets.assign({"source": np.array([6]), "target": np.array([1])})


def test_keys_of_equal_lengths_are_planned_as_one():
    tokens = sentence_pairs(3000)["source"]
    alone, tied = plan({"tokens": tokens}, 6), plan({"tokens": tokens, "labels": tokens.copy()}, 6)
    assert [box["tokens"] for box in tied.lengths] == [box["tokens"] for box in alone.lengths]
    assert all(box["tokens"] == box["labels"] for box in tied.lengths)


def test_never_more_buckets_than_lengths_and_none_of_no_positions():
    assert plan({"tokens": np.array([3, 0, 3, 0])}, 9).lengths == ({"tokens": 1}, {"tokens": 3})


def test_longer_examples_of_other_splits_have_a_bucket_of_their_own():
    width = {"source": 9, "target": 12}
    train = make_split(width, source=[2, 3, 9], target=[9, 2, 3])
    longer = make_split(width, source=[2, 9], target=[2, 12])
    split = bucketed(longer, train, 2)
    assert split.buckets.lengths[-1] == width and len(split.buckets.lengths) == 3
    assert not (bucketed(train, train, 2).bucket == 2).any()
    assert split.batch(np.array([0]))["source"].shape[1] < 9 and split.batch(np.array([1]))["target"].shape == (1, 12)


def test_batches_lose_nothing_and_leave_other_keys_alone():
    split = make_split(source=[5, 2, 7, 3], target=[2, 2, 3, 8])
    cut = bucketed(split, split, 3)
    for index in range(4):
        batch = cut.batch(np.array([index]))
        for key in ("source", "target"):
            length = split.lengths[key][index]
            assert batch[key].shape == batch[f"{key}_mask"].shape and batch[f"{key}_lengths"] == [length]
            np.testing.assert_array_equal(batch[key][0, :length], np.full(length, index + 1))
            assert batch[f"{key}_mask"].sum() == length
        assert batch["label"] == [index]
    mixed = cut.batch(np.arange(4))
    assert mixed["source"].shape == (4, 7) and mixed["target"].shape == (4, 8)


MEMBERS = {
    "even": [40, 40],
    "uneven": [7, 101, 33],
    "smaller than a batch": [1, 5, 90],
    "all smaller": [3, 2, 1],
    "one": [10],
    "an empty one": [20, 0, 9],
}


@pytest.fixture(params=MEMBERS, ids=str)
def members(request):
    ends = np.cumsum(MEMBERS[request.param])
    return np.split(np.random.default_rng(0).permutation(ends[-1]), ends[:-1])


@pytest.mark.parametrize("batch", [1, 8, 16])
def test_every_epoch_of_a_bucket_has_each_example_once(members, batch):
    steps = 6 * sum(map(len, members)) // batch + 40
    drawn = [Bucketed(3, batch, members)(step) for step in range(steps)]
    owner = {int(example): number for number, examples in enumerate(members) for example in examples}
    sequences = [[] for _ in members]
    for examples in drawn:
        assert len(examples) == batch and len({owner[int(example)] for example in examples}) == 1
        sequences[owner[int(examples[0])]].extend(map(int, examples))
    total = sum(map(len, members))
    for examples, sequence in zip(members, sequences, strict=True):
        size = len(examples)
        epochs = [sequence[start : start + size] for start in range(0, len(sequence) - size + 1, max(size, 1))]
        assert all(sorted(epoch) == sorted(examples) for epoch in epochs if size)
        # as many examples as its share of all, but for the cycle under way and the batch it has not come to
        assert abs(len(sequence) - steps * batch * size / total) <= size + batch * (1 + len(members))
    assert sum(map(len, sequences)) == steps * batch


def test_order_of_buckets_is_a_function_of_seed_and_step(members):
    def draws(seed):
        return Bucketed(seed, 4, members)

    forward = [draws(5)(step) for step in range(60)]
    backward = draws(5)
    for step in reversed(range(60)):
        np.testing.assert_array_equal(backward(step), forward[step])
    far = 10**7
    np.testing.assert_array_equal(draws(5)(far), draws(5)(far))
    assert any(not np.array_equal(draws(6)(step), forward[step]) for step in range(60))


def test_epochs_of_a_bucket_and_turns_of_a_cycle_differ():
    members = [np.arange(30), np.arange(30, 60)]
    draw = Bucketed(0, 10, members)
    cycles = [[draw(step) for step in range(start, start + 6)] for start in range(0, 60, 6)]
    assert len({tuple(int(examples[0] >= 30) for examples in cycle) for cycle in cycles}) > 3
    first = [np.concatenate([e for e in cycle if e[0] < 30]) for cycle in cycles]
    assert len(set(map(tuple, first))) == 10
    other = np.concatenate([e for e in cycles[0] if e[0] >= 30])
    assert not np.array_equal(other - 30, first[0])


def test_steps_follow_without_gap_over_many_cycles():
    draw = Bucketed(1, 32, [np.arange(100), np.arange(100, 950), np.arange(950, 1000)])
    start = 10**6
    turns = Counter(int(np.searchsorted([100, 950], draw(step)[0], "right")) for step in range(start, start + 4000))
    np.testing.assert_allclose([turns[i] / 4000 for i in range(3)], [0.1, 0.85, 0.05], atol=2e-3)


def small_split(count=50):
    lengths = sentence_pairs(count)
    return bucketed(split := make_split(**lengths), split, 4)


def test_training_batches_of_hosts_and_resumed_runs_are_the_same():
    run = {"seed": 2, "batch_size": 8, "stop": 20}
    whole = list(train_batches(small_split(), start=0, **run))
    resumed = train_batches(small_split(), start=13, **run)
    hosts = [list(train_batches(small_split(), start=0, process_index=i, process_count=4, **run)) for i in range(4)]
    joined = [
        {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} for parts in zip(*hosts, strict=True)
    ]
    assert len({batch["source"].shape for batch in whole}) == 4
    for one, other in itertools.chain(zip(whole, joined, strict=True), zip(whole[13:], resumed, strict=True)):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("hosts", [1, 2])
def test_evaluation_by_bucket_counts_each_example_once(hosts):
    split = small_split()
    parts = [list(eval_batches(split, batch_size=8, process_index=i, process_count=hosts)) for i in range(hosts)]
    assert len({len(part) for part in parts}) == 1
    seen = []
    for batches in zip(*parts, strict=True):
        assert len({batch["source"].shape for batch in batches}) == 1
        seen.extend(label for batch in batches for label in batch["label"][batch["mask"] > 0])
        assert all(len(batch["mask"]) == 8 // hosts for batch in batches)
        assert all((batch["index"] == batch["label"]).all() for batch in batches)
    assert sorted(seen) == list(range(50))
    np.testing.assert_array_equal(seen, eval_order(split))
    np.testing.assert_array_equal(eval_order(split.split), np.arange(50))


def test_description():
    lengths = {"tokens": [2] * 9 + [10]}
    assert str(small := bucketed(split := make_split(**lengths), split, 2)) == (
        "padding is 0% of the tokens, 72% without buckets; 2 shapes to compile"
    )
    assert isinstance(small, BucketedSplit)


def test_what_cannot_be_in_buckets_is_refused():
    plain = ArraySplit({"image": np.zeros((3, 2, 2)), "label": np.zeros(3, np.int32)})
    assert bucketed(plain, plain, 0) is plain
    with pytest.raises(UserError, match=r"data.buckets=4, but none of image, label varies"):
        bucketed(plain, plain, 4)
    with pytest.raises(UserError, match=r"data.buckets.*data.order.*'continuous'"):
        train_batches(small_split(), seed=0, batch_size=8, start=0, stop=1, order="continuous")


def test_batches_of_tokens_fill_their_positions():
    split = small_split()
    sizes = batch_sizes(split, tokens=512, unit=4, longest=99)
    for size, box in zip(sizes, split.buckets.lengths, strict=True):
        assert size % 4 == 0 and size * max(box.values()) <= 512 < (size + 4) * max(box.values())
    assert len(set(sizes)) > 1
    assert batch_sizes(split.split, tokens=512, unit=4, longest=100) == 4
    with pytest.raises(UserError, match=r"batch_tokens=300 is less than 4 examples of 100 tokens.*: use at least 400"):
        batch_sizes(split.split, tokens=300, unit=4, longest=100)
    with pytest.raises(UserError, match=r"no key is a sequence: set train.batch_size"):
        batch_sizes(split.split, tokens=300, unit=4, longest=0)


@pytest.mark.parametrize("sizes", [(8, 4, 2), (1, 16, 3)])
def test_batches_of_tokens_visit_every_example_equally_often(sizes):
    members = np.split(np.random.default_rng(0).permutation(120), [70, 100])
    draw = Bucketed(3, sizes, members)
    split = make_split(tokens=[1] * 120)
    per_epoch = sum(len(part) / size for part, size in zip(members, sizes, strict=True))
    seen = Counter(int(example) for step in range(round(10 * per_epoch)) for example in draw(step))
    assert len(seen) == 120 and 8 <= min(seen.values()) <= max(seen.values()) <= 12
    assert steps_per_epoch(split, 16) == 7.5
    forward = [draw(step) for step in range(60)]
    again = pickle.loads(pickle.dumps(draw))  # as it reaches a worker
    for step in (59, 0, 31):
        np.testing.assert_array_equal(again(step), forward[step])


def test_batches_of_tokens_of_resumed_runs_hosts_and_evaluation():
    split = small_split()
    sizes = batch_sizes(split, tokens=512, unit=4, longest=99)
    run = {"seed": 2, "batch_size": sizes, "stop": 20}
    whole = list(train_batches(split, start=0, **run))
    hosts = [list(train_batches(split, start=13, process_index=i, process_count=4, **run)) for i in range(4)]
    for parts, batch in zip(zip(*hosts, strict=True), whole[13:], strict=True):
        np.testing.assert_array_equal(np.concatenate([part["label"] for part in parts]), batch["label"])
    assert {len(batch["label"]) for batch in whole} <= set(sizes)
    for batch in whole:
        assert max(batch[key].size for key in ("source", "target")) <= 512
    seen = [i for batch in eval_batches(split, batch_size=sizes) for i in batch["label"][batch["mask"] > 0]]
    np.testing.assert_array_equal(seen, eval_order(split))
    assert float(steps_per_epoch(split, sizes)) == pytest.approx(
        sum(len(part) / size for part, size in zip(split.members, sizes, strict=True))
    )
