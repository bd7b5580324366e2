"""Texts as token ids: of several keys, beside other keys, of new inputs; the unchanged text stays."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tokenizers import Tokenizer, models

import data
from core.errors import UserError
from core.info import Info
from core.vocabulary import load_tokenizer
from data.preprocess.tokenize import encode
from data.preprocess.tokenizers import Characters, Words
from data.sources import tfds as official
from tests.data.infos import shapes
from tests.data.rows import Rows, all_of, new, processed

TITLES = ["a cat", "the dog ran", "a cat ran", "dogs", "the cat", "a dog, a cat"]
ROLES = {"title": "text", "topic": "text", "size": "number"}


def titles(*ops, **columns):
    given = {"title": TITLES, "topic": ["pets", "sport", "news"] * 2, "size": list(range(6))} | columns
    test = Rows(**{key: values[:2] for key, values in given.items()})
    return processed(ops, ROLES, train=Rows(**given), test=test)


def read(info, split, key):
    """Returns the text of the tokens of all examples."""
    return [info.keys[key].vocabulary.text(row) for row in all_of(split)[key]]


def test_a_text_beside_other_keys():
    splits, info = titles("tokenize('title', words())")
    arrays = all_of(splits["train"])
    words = {word for title in TITLES for word in title.replace(",", " ,").split()}
    vocabulary = info.keys["title"].vocabulary
    assert vocabulary.size == 4 + len(words)
    longest = 2 + len(["a", "dog", ",", "a", "cat"])
    assert shapes(info) == {
        "title": ((longest,), "int32"),
        "title_mask": ((longest,), "float32"),
        "title_lengths": ((), "int32"),
        "size": ((), "int32"),
    }
    assert info.keys["title"].role == "tokens"
    assert read(info, splits["train"], "title") == TITLES
    assert splits["test"].text("title", np.array([1, 0])) == TITLES[1::-1]
    assert splits["train"].text("topic", np.array([2])) == ["news"]
    lengths = arrays["title_lengths"]
    assert (arrays["title"][:, 0] == vocabulary.bos).all()
    assert (arrays["title"][np.arange(6), lengths - 1] == vocabulary.eos).all()
    np.testing.assert_array_equal(arrays["title_mask"].sum(1), lengths)
    assert not arrays["title"][arrays["title_mask"] == 0].any()


def test_a_tokenizer_for_each_key_or_for_all():
    _, info = titles("tokenize(('title', 'topic'), bpe(270))")
    first, second = (load_tokenizer(info.keys[key].vocabulary.tokenizer).get_vocab() for key in ("title", "topic"))
    assert first != second
    splits, info = titles("tokenize(('title', 'topic'), words(), shared=True)")
    assert info.keys["title"].vocabulary == info.keys["topic"].vocabulary
    assert info.keys["title"].vocabulary.size == 4 + 7 + 3  # words of the titles, and of the topics
    assert read(info, splits["train"], "topic") == ["pets", "sport", "news"] * 2


def test_tokenizers_learn_from_the_training_split_alone():
    ops, roles = ("tokenize('text', words())",), {"text": "text"}
    train, test = Rows(text=["book a flight", "pay the bill"]), Rows(text=["pay a flight now"])
    splits, info = processed(ops, roles, train=train, test=test)
    vocabulary = info.keys["text"].vocabulary
    assert vocabulary.size == 4 + 6
    assert vocabulary.unk in all_of(splits["test"])["text"] and vocabulary.unk not in all_of(splits["train"])["text"]
    assert splits["test"].text("text", np.array([0])) == ["pay a flight now"]  # with the word that the vocabulary lacks


def test_long_texts_are_truncated():
    splits, info = titles("tokenize('title', words(), max_length=4)")
    arrays, vocabulary = all_of(splits["train"]), info.keys["title"].vocabulary
    assert info.keys["title"].shape == (4,)
    assert (arrays["title"][np.arange(6), arrays["title_lengths"] - 1] == vocabulary.eos).all()
    assert read(info, splits["train"], "title")[-1] == "a dog"
    assert len(new(info, title=["the dog ran a cat"])["title"][0]) == 4


def test_texts_without_begin_and_end():
    splits, info = titles("tokenize('title', characters(), special=False)")
    assert all_of(splits["train"])["title_lengths"].tolist() == list(map(len, TITLES))
    assert read(info, splits["train"], "title") == TITLES


@pytest.mark.parametrize(("size", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.int32)])
def test_small_vocabularies_take_16_bits(size, dtype):
    tokenizer = Tokenizer(models.WordLevel({str(i): i for i in range(size)}))
    (ids,) = encode(tokenizer, [str(size - 1)])
    assert ids.dtype == dtype and ids.tolist() == [size - 1]


def test_ids_of_16_bits_are_32_bits_in_a_batch():
    splits, _ = titles("tokenize('title', characters())")
    assert splits["train"].columns["title"].values.dtype == np.uint16
    assert all_of(splits["train"])["title"].dtype == np.int32


def test_new_texts_after_a_round_trip_through_json():
    _, info = titles("tokenize('title', words())")
    again = Info.from_json(json.loads(json.dumps(info.to_json())))
    assert again == info
    chunk = new(again, title=["the dogs ran", "a bird"])
    assert list(map(len, chunk["title"])) == [5, 4]
    assert chunk["title"][1][[0, 2, 3]].tolist() == [1, 3, 2]
    assert info.keys["title"].vocabulary.text(chunk["title"][0]) == "the dogs ran"
    assert chunk["title_text"] == ["the dogs ran", "a bird"]
    assert new(again, size=[3]) == {"size": [3]}  # new inputs may lack the text


def test_what_follows_the_end_is_no_text():
    _, info = titles("tokenize('title', characters())")
    ids = new(info, title=["a cat"])["title"][0].tolist()
    assert info.keys["title"].vocabulary.text([*ids, 0, 9, 9]) == "a cat"


class Captions(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Images with a text each."""

    name = "captions"
    VERSION = tfds.core.Version("1.0.0")
    ROWS = [
        {"image": np.full((4, 4, 3), i, np.uint8), "words": {"caption": caption}, "kind": 5 + i % 2}
        for i, caption in enumerate(["a cat", "two dogs run", "a dog"])
    ]

    def _info(self):
        image = tfds.features.Tensor(shape=(4, 4, 3), dtype=np.uint8)
        features = {"image": image, "words": {"caption": tfds.features.Text()}, "kind": np.int32}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": enumerate(self.ROWS)}

    def _generate_examples(self):
        raise NotImplementedError


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_images_with_captions(config, tmp_path, monkeypatch, memory_gb):
    """In files of the cache, or read on access."""
    monkeypatch.setitem(official.BUILDERS, "captions", Captions)
    of = config("captions", preprocess=("tokenize('words/caption', words())",), memory_gb=memory_gb)
    first, again = (data.load(of, str(tmp_path)) for _ in range(2))
    for splits, info in (first, again):
        train = splits["train"]
        assert shapes(info)["words/caption"] == ((5,), "int32")
        captions = read(info, train, "words/caption")
        order = np.argsort(all_of(train)["image"][:, 0, 0, 0])
        assert [captions[i] for i in order] == ["a cat", "two dogs run", "a dog"]
        assert train.text("words/caption", order) == ["a cat", "two dogs run", "a dog"]
        assert info.keys["image"].statistics["mean"][0] == pytest.approx(1 / 255)
    assert first[1] == again[1]


def test_another_tokenizer_file_is_another_entry_of_the_cache(config, tmp_path, monkeypatch):
    monkeypatch.setitem(official.BUILDERS, "captions", Captions)
    of = config("captions", preprocess=(f"tokenize('words/caption', file('{tmp_path}/tokenizer.json'))",))
    sizes = []
    for recipe in (Words(), Characters()):
        recipe(["a cat", "a dog"]).save(str(tmp_path / "tokenizer.json"))
        sizes.append(data.load(of, str(tmp_path / "tfds"))[1].keys["words/caption"].vocabulary.size)
    assert sizes == [4 + 3, 4 + 7]


@pytest.mark.parametrize(
    ("call", "columns", "message"),
    [
        ("tokenize('titel', words())", {}, "tokenize: 'titel' does not exist: did you mean 'title'"),
        ("tokenize('size', words())", {}, "tokenize: 'size' is not text: there are: title, topic"),
        ("tokenize('title')", {}, "missing a required argument: 'tokenizer'"),
        ("tokenize('title', words(), max_length=2)", {}, "max_length must be 0 or above 2"),
        ("tokenize((), words())", {}, "keys are missing"),
        ("tokenize('title', words(), max_lenght=2)", {}, "unexpected keyword argument 'max_lenght'"),
        (
            "tokenize('title', words())",
            {"title": ["a", None, "b", "c", "d", "e"]},
            "'title' is missing, not a text, in the example with topic=sport, size=1",
        ),
        ("tokenize('title', words())", {"title": [["a"]] * 6}, "'title' is a list, not a text"),
    ],
    ids=str,
)
def test_slips_are_refused_in_one_line(call, columns, message):
    with pytest.raises(UserError, match=message) as refusal:
        titles(call, **columns)
    assert "\n" not in str(refusal.value) and "data.preprocess" in str(refusal.value)


@pytest.mark.parametrize("name", ["title_lengths", "title_mask", "title_text", "title_starts"])
def test_names_of_results_are_refused(name):
    rows = Rows(title=TITLES, **{name: list(range(6))})
    with pytest.raises(UserError, match=f"has a key '{name}'.*drop"):
        processed(("tokenize('title', words())",), {"title": "text", name: "number"}, train=rows)
