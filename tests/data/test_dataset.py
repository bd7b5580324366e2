"""The loader: in memory, in files of the cache, and streamed are the same; one description of all."""

import numpy as np
import pytest

from core.errors import UserError
from core.info import Key
from data import dataset
from data.batches import eval_batches, train_batches
from data.buckets import bucketed
from data.splits import ArraySplit, StreamSplit
from tests.data.infos import shapes
from tests.data.sets import Words, make_set  # noqa: F401 (a fixture)

TEXTS = ["a bb", "ccc", "a bb ccc dddd", "", "e", "ff gg hh", "i j", "kkk"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onestep" / "data"


@pytest.fixture
def texts(make_set):  # noqa: F811
    """Returns a maker of a set of texts and labels."""

    def make(content="hash", more=None, **keys):
        label = Key(role="label", classes=("x", "y"))
        columns = {"text": TEXTS, "label": [i % 2 for i in range(8)], "number": list(range(8))}
        test = {"text": ["a " * 6], "label": [1], "number": [8]}
        if more:
            columns |= {key: [value] * 8 for key, value in more.items()}
            test |= {key: [value] for key, value in more.items()}
        return make_set({"text": Key(role="text"), "label": label, **keys}, content, train=columns, test=test)

    return make


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], strict=True)


def load(config, op="words", **settings):
    return dataset.load(config("made up", test="test", preprocess=(f"{op}('text')",), **settings))


def test_in_memory_in_files_and_streamed_are_the_same(config, texts):
    texts()
    memory, info = load(config, "lengths")
    files, same = load(config, "words")
    streamed, other = load(config, "lengths", memory_gb=0.0)
    assert isinstance(memory["train"], ArraySplit) and isinstance(streamed["train"], StreamSplit)
    assert isinstance(files["train"].columns["text"].values, np.memmap)
    assert info.keys == same.keys == other.keys and info.sizes == other.sizes == {"train": 8, "test": 1}
    assert shapes(info) == {
        "text": ((6,), "int32"),
        "text_mask": ((6,), "float32"),
        "text_lengths": ((), "int32"),
        "label": ((), "int32"),
        "number": ((), "int32"),
    }
    assert [info.keys[key].role for key in shapes(info)] == ["tokens", "mask", "lengths", "label", ""]
    for splits in (files, streamed):
        for split, values in splits.items():
            every = np.arange(len(values))
            assert_same(memory[split].batch(every), values.batch(every))
            assert values.text("text", every) == memory[split].text("text", every)
            np.testing.assert_array_equal(values.lengths["text"], memory[split].lengths["text"], strict=True)
    assert memory["train"].text("text", np.array([2])) == ["a bb ccc dddd"]


@pytest.mark.parametrize(("op", "memory_gb"), [("words", 1.0), ("words", 0.0), ("lengths", 0.0)])
def test_a_later_start_finds_fitted_ops_and_does_not_read_the_set(config, texts, op, memory_gb):
    texts()
    splits, info = load(config, op, memory_gb=memory_gb)
    Words.fitted.clear()
    examples = texts()
    again, same = load(config, op, memory_gb=memory_gb)
    assert info == same and not Words.fitted and all(rows.read == 0 for rows in examples.values())
    for split in splits:
        every = np.arange(len(splits[split]))
        assert_same(splits[split].batch(every), again[split].batch(every))
        assert splits[split].text("text", every) == again[split].text("text", every)


def test_changed_content_or_settings_are_processed_again(config, texts, cache):
    texts()
    first = load(config)[1]
    for content, settings, content_changed in [
        ("other", {}, True),
        ("hash", {"memory_gb": 3.0}, False),
        ("hash", {"decimal": ","}, False),
        (f"hash@{'0' * 64}", {}, False),  # a copy of a large file
    ]:
        Words.fitted.clear()
        texts(content)
        info = load(config, **settings)[1]
        assert Words.fitted == ["text"]
        assert (info.content != first.content) == content_changed
    assert len(list(cache.iterdir())) == 5
    texts()
    Words.fitted.clear()
    load(config, workers=0, buckets=2)
    assert not Words.fitted


def test_a_damaged_entry_is_made_again(config, texts, cache, capsys):
    texts()
    splits, info = load(config)
    expected = splits["train"].batch(np.arange(8))
    del splits
    (entry,) = cache.iterdir()
    (entry / "train" / "text.bin").write_bytes(b"\0" * 3)
    texts()
    splits, same = load(config)
    assert_same(splits["train"].batch(np.arange(8)), expected)
    assert same == info and capsys.readouterr().err.count("warning: ") == 1


def test_a_cache_that_cannot_be_written_does_not_stop_a_run(config, texts, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for memory_gb, kind in [(1.0, ArraySplit), (0.0, StreamSplit)]:
        texts()
        splits, _ = load(config, memory_gb=memory_gb)
        assert isinstance(splits["train"], kind) and capsys.readouterr().err.count("warning: ") == 1
        assert splits["train"].batch(np.arange(8))["text"].shape == (8, 6)


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_lengths_are_those_of_all_splits(config, make_set, memory_gb):  # noqa: F811
    sizes = {"train": 2, "test": 3}  # the lengths do not vary within a split
    make_set(**{split: {"x": [np.ones((size, 2))] * 2} for split, size in sizes.items()})
    splits, info = dataset.load(config("made up", test="test", memory_gb=memory_gb))
    assert info.keys["x"].ragged and info.keys["x"].shape == (3, 2)
    assert splits["train"].batch(np.arange(2))["x"].shape == splits["test"].batch(np.arange(2))["x"].shape == (2, 3, 2)
    assert splits["train"].batch(np.arange(2))["x_mask"].tolist() == [[1, 1, 0]] * 2


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_own_columns_with_the_names_of_companions_are_refused(config, texts, memory_gb):
    for name in ("text_lengths", "text_mask", "mask", "index"):
        texts(more={name: 1500})
        with pytest.raises(UserError, match=f"the set has a key '{name}', a reserved name"):
            load(config, "lengths", memory_gb=memory_gb)
    texts(more={"other_mask": 1500})  # of no ragged key
    assert load(config, "lengths", memory_gb=memory_gb)[1].keys["other_mask"].role == ""


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_a_mask_of_an_op_is_kept(config, texts, memory_gb):
    texts()
    ops = ("lengths('text')", "tags('text')")
    splits, info = dataset.load(config("made up", test="test", preprocess=ops, memory_gb=memory_gb))
    batch = splits["train"].batch(np.array([2, 3]))
    assert batch["tags_mask"].tolist() == [[0, 1, 1, 1, 0, 0], [0] * 6]
    assert batch["tags_lengths"].tolist() == [4, 0] and info.keys["tags_mask"].role == "mask"
    assert splits["train"].lengths.keys() == {"text", "tags"}


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_labels_without_names_are_numbered_and_checked(config, make_set, memory_gb):  # noqa: F811
    def made(train, test, classes=()):
        keys = {"label": Key(role="label", classes=classes)}
        make_set(
            keys, str([train, test, classes]), train={"x": [0.5] * 3, "label": train}, test={"x": [0.5], "label": test}
        )
        return dataset.load(config("made up", test="test", memory_gb=memory_gb))[1].keys["label"].classes

    assert made([0, 2, 1], [4]) == tuple("01234")
    assert made([0, 2, 1], [1], ("a", "b", "c")) == ("a", "b", "c")
    with pytest.raises(UserError, match="'label' holds 2000000000: classes without names"):
        made([0, 2_000_000_000, 1], [0])
    with pytest.raises(UserError, match="labels of 'test' are from -1 to -1, but classes are from 0 to 2"):
        made([0, 2, 1], [-1])


def test_keys_that_a_split_lacks_are_refused(config, make_set):  # noqa: F811
    make_set(train={"x": [1.0], "label": [0]}, test={"x": [1.0]})
    with pytest.raises(UserError, match="'label' is a key of the split 'train', but not of 'test'"):
        dataset.load(config("made up", test="test"))


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_images_of_different_shapes_are_refused(config, make_set, memory_gb):  # noqa: F811
    images = [np.zeros((size, 2, 1), np.uint8) for size in (2, 2, 3)]
    make_set({"image": Key(role="image")}, train={"image": images})
    with pytest.raises(UserError, match=r"'image' has different shapes.*: add 'resize\(HEIGHT, WIDTH\)'"):
        dataset.load(config("made up", memory_gb=memory_gb))[0]["train"].batch(np.arange(3))


def test_labels_with_an_axis_are_refused(config, make_set):  # noqa: F811
    make_set(train={"target": [np.ones(1)] * 3})
    with pytest.raises(UserError, match=r"'target' has the shape \(n, 1\)"):
        dataset.load(config("made up"))


def test_examples_of_text_alone_are_refused(config, make_set):  # noqa: F811
    make_set(train={"text": ["a", "b"]})
    with pytest.raises(UserError, match=r"hold only text: add an op such as .*tokenize"):
        dataset.load(config("made up"))


def test_continuous_order_needs_examples_that_continue_each_other(config, make_set):  # noqa: F811
    make_set(train={"number": [3, 4]})
    with pytest.raises(UserError, match=r"data.order 'continuous' needs examples that continue each other.*windows"):
        dataset.load(config("made up", order="continuous"))
    splits, info = dataset.load(config("made up", order="continuous", preprocess=("doubled()",)))
    assert info.sizes == {"train": 4}
    assert splits["train"].batch(np.arange(4))["number"].tolist() == [3, 3, 4, 4]


@pytest.mark.slow
def test_workers_stream_text_in_buckets_and_resume(config, texts):
    texts()
    streamed = load(config, "lengths", memory_gb=0.0)[0]["train"]
    memory = load(config, "lengths")[0]["train"]
    one, other = (bucketed(split, split, 3) for split in (streamed, memory))
    run = {"seed": 4, "batch_size": 2}
    expected = list(train_batches(other, start=0, stop=9, **run))
    batches = [train_batches(one, start=0, stop=9, **run), train_batches(one, start=3, stop=9, workers=1, **run)]
    for start, part in zip((0, 3), batches, strict=True):
        for batch, whole in zip(part, expected[start:], strict=True):
            assert_same(batch, whole)
    evaluations = (eval_batches(one, batch_size=4), eval_batches(other, batch_size=4))
    for batch, whole in zip(*evaluations, strict=True):
        assert_same(batch, whole)


def test_the_description_compares_content_and_keys(config, texts):
    texts()
    first = load(config)[1]
    texts("other")
    changed = load(config)[1]
    assert first.difference(changed) == ["the content of the data has changed"] and not first.key_difference(changed)
    texts(label=Key(role="label", classes=("x", "z")))
    renamed = load(config, memory_gb=3.0)[1]
    assert [line.partition(":")[0] for line in first.key_difference(renamed)] == ["keys.label.classes"]
