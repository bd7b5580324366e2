"""Sets with text: token ids of every text key, the target beside them, windows of a running text, series."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds
from data.preprocess.encode import encode_text

import data
from core.errors import UserError
from core.info import Info
from data.sources import tfds as official
from tests.data.infos import class_names, shapes

TITLES = ["a cat", "the dog ran", "a cat ran", "dogs", "the cat", "a dog, a cat"]


@pytest.fixture
def titles(config, tmp_path):
    """Returns a maker of the config of a file with a text, a topic and a number."""
    frame = pd.DataFrame({"title": TITLES * 5, "topic": ["pets", "sport", "news"] * 10, "size": range(30)})
    frame.to_csv(tmp_path / "titles.csv", index=False)

    def make(**others):
        text = {"text": ("title",), "tokenizer": "words()", "target": "topic"}
        splits = {"train": "train[:20]", "test": "train[20:]"}
        return config(f"csv:{tmp_path}/titles.csv", **{**splits, **text, **others})

    return make


class _Set(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.FEATURES))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(self.TRAIN), "test": self._generate_examples(self.TEST)}

    def _generate_examples(self, rows):
        yield from enumerate(rows)


class Intents(_Set, skip_registration=True):
    """Scalars alone, as clinc_oos has."""

    name = "intents"
    FEATURES = {
        "text": tfds.features.Text(),
        "intent": np.int32,
        "intent_name": tfds.features.Text(),
        "domain": tfds.features.ClassLabel(names=["travel", "bank"]),
    }
    TRAIN = [
        {"text": "book a flight", "intent": 1, "intent_name": "flight", "domain": "travel"},
        {"text": "pay the bill", "intent": 0, "intent_name": "bill", "domain": "bank"},
    ]
    TEST = [{"text": "pay a flight now", "intent": 1, "intent_name": "flight", "domain": "travel"}]


class Captions(_Set, skip_registration=True):
    """Images with a text each, and a second scalar."""

    name = "captions"
    FEATURES = {
        "image": tfds.features.Tensor(shape=(4, 4, 3), dtype=np.uint8),
        "words": {"caption": tfds.features.Text()},
        "kind": np.int32,
    }
    TRAIN = [
        {"image": np.full((4, 4, 3), i, np.uint8), "words": {"caption": caption}, "kind": 5 + i % 2}
        for i, caption in enumerate(["a cat", "two dogs run", "a dog"])
    ]
    TEST = TRAIN[:1]


class Book(_Set, skip_registration=True):
    name = "book"
    FEATURES = {"text": tfds.features.Text()}
    TRAIN = [{"text": "abcabcab\n"}, {"text": "ba"}]
    TEST = [{"text": "cabxc"}]


class Waves(_Set, skip_registration=True):
    name = "waves"
    FEATURES = {"series": tfds.features.Tensor(shape=(None, 2), dtype=np.float32)}
    TRAIN = [{"series": np.stack([np.arange(20), np.full(20, 7)], 1).astype(np.float32)}]
    TEST = [{"series": np.stack([np.arange(8), np.arange(8)], 1).astype(np.float32)}]


@pytest.fixture(autouse=True)
def sets(monkeypatch):
    for builder in (Intents, Captions, Book, Waves):
        monkeypatch.setitem(official.BUILDERS, builder.name, builder)


def texts_of(info, split, key):
    detokenize = info.keys[key].vocabulary.text
    return [detokenize(row) for row in split.arrays[key]]


def test_texts_of_ones_own_file(titles):
    splits, info = data.load(titles())
    train = splits["train"].arrays
    words = {word for title in TITLES for word in title.replace(",", " ,").split()}
    assert info.keys["title"].vocabulary.size == 4 + len(words)
    assert class_names(info) == ("news", "pets", "sport")
    longest = 2 + len(["a", "dog", ",", "a", "cat"])
    assert shapes(info) == {
        "title": ((longest,), "int32"),
        "title_mask": ((longest,), "float32"),
        "title_lengths": ((), "int32"),
        "size": ((), "int32"),
        "label": ((), "int32"),
    }
    for name, split in splits.items():
        for text, size, label in zip(
            texts_of(info, split, "title"), split.arrays["size"], split.arrays["label"], strict=True
        ):
            assert text == TITLES[size % 6], name
            assert class_names(info)[label] == ["pets", "sport", "news"][size % 3]
    lengths = train["title_lengths"]
    assert (train["title"][:, 0] == 1).all() and (train["title"][np.arange(20), lengths - 1] == 2).all()
    np.testing.assert_array_equal(train["title_mask"].sum(1), lengths)
    assert not train["title"][train["title_mask"] == 0].any()


def test_the_target_may_be_a_number_or_none(titles):
    splits, info = data.load(titles(target="size", target_type="number"))
    assert set(info.keys) == {"title", "title_mask", "title_lengths", "target"} and not class_names(info)
    assert info.keys["target"].statistics["mean"] == pytest.approx(splits["train"].arrays["target"].mean())
    _, info = data.load(titles(target="", text=("title", "topic"), tokenizer="bpe(size=270)"))
    assert info.keys["title"].vocabulary.size == 270 and info.keys["topic"].vocabulary.size <= 270
    assert "label" not in info.keys and "topic_lengths" in info.keys


def test_tokenizers_learn_of_the_training_split_alone(config, tmp_path):
    splits, info = data.load(config("intents", test="test", text=("text",), tokenizer="words()"), str(tmp_path))
    assert info.keys["text"].vocabulary.size == 4 + 6
    assert 3 in splits["test"].arrays["text"][0]  # "now"
    assert 3 not in splits["train"].arrays["text"]
    assert shapes(info)["intent"] == ((), "int32") and "intent_name" not in info.keys


@pytest.mark.parametrize(
    ("target", "classes"),
    [("intent_name", ("bill", "flight")), ("intent", ("0", "1")), ("domain", ("bank", "travel"))],
)
def test_an_official_target_of_another_name(config, tmp_path, target, classes):
    text = {"text": ("text",), "tokenizer": "characters()", "target": target}
    splits, info = data.load(config("intents", test="test", **text), str(tmp_path))
    assert class_names(info) == classes and target not in info.keys
    for split in splits.values():
        flights = ["flight" in text for text in texts_of(info, split, "text")]
        names = np.array(classes)[split.arrays["label"]]
        assert [name in ("flight", "1", "travel") for name in names] == flights


def test_images_with_captions(config, tmp_path):
    text = {"text": ("words/caption",), "tokenizer": "words()", "target": "kind"}
    splits, info = data.load(config("captions", test="test", **text), str(tmp_path))
    train = splits["train"].arrays
    assert class_names(info) == ("5", "6") and shapes(info)["words/caption"] == ((5,), "int32")
    captions = texts_of(info, splits["train"], "words/caption")
    assert [captions[i] for i in np.argsort(train["image"][:, 0, 0, 0])] == ["a cat", "two dogs run", "a dog"]
    np.testing.assert_array_equal(train["label"], train["image"][:, 0, 0, 0] % 2)
    assert "kind" not in train and info.keys["image"].statistics["mean"][0] == pytest.approx(1 / 255)
    with pytest.raises(UserError, match=r"data.text: 'kind' holds no strings: there are: words/caption"):
        data.load(config("captions", **{**text, "text": ("kind",)}), str(tmp_path))
    with pytest.raises(UserError, match=r"'kinds'.* did you mean 'kind'"):
        data.load(config("captions", **{**text, "target": "kinds"}), str(tmp_path))
    with pytest.raises(UserError, match=r"above data.memory_gb=0.0: sets with text are held in memory"):
        data.load(config("captions", memory_gb=0.0, **text), str(tmp_path))


def test_long_texts_are_cut(titles):
    splits, info = data.load(titles(max_length=4))
    assert shapes(info)["title"] == ((4,), "int32")
    arrays = splits["train"].arrays
    assert (arrays["title"][np.arange(20), arrays["title_lengths"] - 1] == 2).all()
    assert encode_text(info, "title", ["the dog ran a cat"])["title"].shape == (1, 4)


def test_new_texts_after_a_round_trip_through_json(titles):
    _, info = data.load(titles())
    again = Info.from_json(json.loads(json.dumps(info.to_json())))
    assert again == info
    batch = encode_text(again, "title", ["the dogs ran", "a bird"])
    assert batch["title_lengths"].tolist() == [5, 4] and batch["title_lengths"].dtype == np.int32
    assert batch["title"].shape == (2, 5) and batch["title"].dtype == np.int32
    assert batch["title"][1, [0, 2, 3, 4]].tolist() == [1, 3, 2, 0]
    np.testing.assert_array_equal(batch["title_mask"], [[1] * 5, [1, 1, 1, 1, 0]])
    assert info.keys["title"].vocabulary.text(batch["title"][0]) == "the dogs ran"
    assert info.keys["size"].vocabulary is None
    with pytest.raises(UserError, match=r"has no text 'titel': did you mean 'title'"):
        encode_text(info, "titel", ["a"])
    with pytest.raises(UserError, match=r"no text for 'title'"):
        encode_text(info, "title", [])


def test_what_follows_the_end_is_no_text(titles):
    _, info = data.load(titles(tokenizer="characters()"))
    ids = encode_text(info, "title", ["a cat"])["title"][0].tolist()
    assert info.keys["title"].vocabulary.text([*ids, 0, 9, 9]) == "a cat"


def test_windows_of_a_running_text(config, tmp_path):
    window = {"text": ("text",), "tokenizer": "characters()", "window": 4, "eval_window": 3}
    splits, info = data.load(config("book", test="test", **window), str(tmp_path))
    assert info.keys["tokens"].vocabulary.size == info.keys["labels"].vocabulary.size == 4 + 4
    train, test = splits["train"].arrays, splits["test"].arrays
    order = "abcabcab\nba" if train["tokens"][0, 2] == 7 else "baabcabcab\n"  # TFDS shuffles
    ids = np.array(["\nabc".index(letter) + 4 for letter in order])
    real = train["labels_mask"].astype(bool)
    np.testing.assert_array_equal(train["tokens"][real], ids[:-1])
    np.testing.assert_array_equal(train["labels"][real], ids[1:])
    assert shapes(info)["tokens"] == ((4,), "int32") and test["tokens"].shape == (2, 3)
    assert test["labels"][real_of(test)].tolist() == [5, 6, 3, 7]
    assert info.keys["labels"].vocabulary.text(train["labels"][0]) == order[1:5]
    assert encode_text(info, "tokens", ["ab"])["tokens"].tolist() == [[5, 6]]  # a prompt has no ends either


def real_of(arrays):
    return arrays["labels_mask"].astype(bool)


def test_series_are_standardised_by_the_training_split(config, tmp_path):
    splits, info = data.load(config("waves", test="test", window=4, horizon=2), str(tmp_path))
    assert info.sizes == {"train": 15, "test": 3}
    assert shapes(info) == {"past": ((4, 2), "float32"), "future": ((2, 2), "float32")}
    std = np.arange(20).std()
    assert info.keys["past"].statistics["mean"] == pytest.approx([9.5, 7])
    assert info.keys["past"].statistics["std"] == pytest.approx([std, 1])
    batch = splits["test"].batch(np.array([2]))
    np.testing.assert_allclose(batch["future"][0, :, 0], (np.array([6, 7]) - 9.5) / std, rtol=1e-6)
    np.testing.assert_allclose(batch["past"][0, :, 1], np.arange(2, 6) - 7, rtol=1e-6)
    for name in ("captions", "iris"):
        with pytest.raises(UserError, match=rf"{name} \(train\) is not one example with a `series`"):
            data.load(config(name, window=4, horizon=2), str(tmp_path))


def test_masks_and_lengths_of_the_set_itself_win(config, tmp_path):
    frame = pd.DataFrame({"text": ["a b", "c"], "text_lengths": [7, 8]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    splits, _ = data.load(config(f"csv:{tmp_path}/a.csv", text=("text",), tokenizer="words()"))
    assert sorted(splits["train"].arrays["text_lengths"]) == [7, 8]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": ""}, "data.text .* and data.tokenizer '' go together"),
        ({"text": ()}, "data.text .* and data.tokenizer 'words\\(\\)' go together"),
        ({"tokenizer": "word()"}, "config.data.tokenizer 'word' does not exist: did you mean 'words'"),
        ({"text": ("titel",)}, "data.text: 'titel' does not exist: did you mean 'title'"),
        ({"text": ("size",)}, "data.text: 'size' holds no strings: there are: title, topic"),
        ({"text": (3,)}, "data.text must hold names"),
        ({"target": "topics"}, "no column 'topics': did you mean 'topic'"),
        ({"max_length": 2}, "data.max_length must be 0 or above 2"),
        ({"max_length": 9, "window": 8}, "data.max_length truncates texts"),
        ({"text": (), "tokenizer": "", "max_length": 9}, "data.max_length truncates texts"),
        ({"text": ("title", "topic"), "window": 8}, "data.window cuts one running text"),
        ({"window": 8, "horizon": 2}, "data.horizon forecasts a series"),
        ({"text": (), "tokenizer": "", "horizon": 2}, "data.horizon forecasts a series"),
        ({"eval_window": 8}, "data.eval_window is for windows"),
        ({"memory_gb": 1e-6}, "30 texts 'title' padded to 7 tokens need .*: set data.max_length"),
        ({"target_type": "clas"}, "data.target_type must be"),
    ],
    ids=str,
)
def test_slips_are_refused_in_one_line(titles, changes, message):
    with pytest.raises(UserError, match=message) as refusal:
        data.load(titles(**changes))
    assert "\n" not in str(refusal.value)


def test_slips_of_the_config_are_found_before_any_data_is_read(config):
    with pytest.raises(UserError, match="'word' does not exist"):
        data.load(config("csv:/nowhere.csv", text=("title",), tokenizer="word()"))


def test_missing_texts_are_counted(config, tmp_path):
    pd.DataFrame({"title": ["a", None, "b"], "label": [0, 1, 0]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(UserError, match=r"data.text: 'title' is missing in 1 of 3 rows"):
        data.load(config(f"csv:{tmp_path}/a.csv", text=("title",), tokenizer="words()"))
