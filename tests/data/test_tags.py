"""Texts with a class for every word: at the first token of the word, of one's own table and of TFDS sets."""

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds

import data
from core.errors import UserError
from data.preprocess import tags, text, tokenizers
from data.sources import tfds as official
from tests.data.infos import class_names

WORDS = ["he isn't here .", "no", "U.S. dogs run", "he runs"]
TAGS = ["PRON VERB ADV PUNCT", "INTJ", "NAME NOUN VERB", "PRON VERB"]


@pytest.fixture
def table(config, tmp_path):
    """Returns a maker of the config of a table of sentences, each with its tags."""

    def make(sentences=WORDS, classes=TAGS, **others):
        pd.DataFrame({"sentence": sentences, "tags": classes}).to_csv(tmp_path / "tagged.csv", index=False)
        keys = {"text": ("sentence",), "tokenizer": "words()", "tags": "tags"}
        return config(f"csv:{tmp_path}/tagged.csv", **{"train": "train", "test": "train[:2]", **keys, **others})

    return make


def test_a_tag_stands_at_the_first_token_of_its_word(table):
    splits, info = data.load(table())
    assert class_names(info) == ("ADV", "INTJ", "NAME", "NOUN", "PRON", "PUNCT", "VERB")
    arrays = splits["train"].arrays
    seen = set()
    for i in range(len(WORDS)):
        known = arrays["tags_mask"][i] > 0
        words = info.keys["sentence"].vocabulary.text(arrays["sentence"][i])
        row = next(
            n for n, sentence in enumerate(WORDS) if sentence.replace(" .", ".") == words.replace("U. S.", "U.S.")
        )
        assert [class_names(info)[tag] for tag in arrays["tags"][i][known]] == TAGS[row].split()
        first = [word[0] if word == "U.S." else word for word in WORDS[row].split()]
        assert [info.keys["sentence"].vocabulary.text([token]) for token in arrays["sentence"][i][known]] == [
            word[0] if word.startswith("U.") else word for word in first
        ]
        assert arrays["tags_lengths"][i] == arrays["sentence_lengths"][i] > known.sum()
        seen.add(row)
    assert seen == set(range(len(WORDS)))


def test_a_label_beside_the_tags_is_a_column_like_others(table, tmp_path):
    made = table()
    path = tmp_path / "tagged.csv"
    pd.read_csv(path).assign(label=[9, 8, 9, 7]).to_csv(path, index=False)
    splits, info = data.load(made)
    assert set(class_names(info)) == set(" ".join(TAGS).split())
    assert sorted(splits["train"].arrays["label"]) == [7, 8, 9, 9]


def test_words_are_cut_into_tokens_one_by_one():
    recipe = tokenizers.bpe(size=262)
    fitted = text.fit(recipe, {"x": tags.words(["ababab ab", "ba abab"])})["x"]
    ids, at = tags.encode(fitted, ["abab q ab"], [np.array([5, 6, 7], np.int32)], "t")
    tokens = [fitted.id_to_token(token) for token in ids[0]]
    assert "".join(tokens[1:-1]) == "ababqab" and len(tokens) == len(at[0])
    starts = np.flatnonzero(at[0] != tags.UNTAGGED)
    assert at[0][starts].tolist() == [5, 6, 7]
    assert ["".join(tokens[start:]).removesuffix("<eos>") for start in starts] == ["ababqab", "qab", "ab"]


def test_a_text_that_is_cut_loses_its_last_tags(table):
    splits, info = data.load(table(max_length=4))
    arrays = splits["train"].arrays
    known = [
        [class_names(info)[tag] for tag in row[mask > 0]]
        for row, mask in zip(arrays["tags"], arrays["tags_mask"], strict=True)
    ]
    assert sorted(known) == sorted([["PRON", "VERB"], ["INTJ"], ["NAME"], ["PRON", "VERB"]])


class Tagged(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Lists of words with classes by number, some without, and with classes by name."""

    name = "tagged"
    VERSION = tfds.core.Version("1.0.0")
    ROWS = [
        {"words": ["he", "runs"], "upos": [1, 0], "named": ["P", "V"], "fine": [7, 3]},
        {"words": ["dogs", "--", "run"], "upos": [2, -1, 0], "named": ["N", "-", "V"], "fine": [9, 3, 3]},
        {"words": [], "upos": [], "named": [], "fine": []},
    ]

    def _info(self):
        classes = tfds.features.ClassLabel(names=["verb", "pronoun", "noun"])
        kinds = {"words": tfds.features.Text(), "upos": classes, "named": tfds.features.Text(), "fine": np.int32}
        features = {key: tfds.features.Sequence(kind) for key, kind in kinds.items()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": enumerate(self.ROWS)}

    def _generate_examples(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("key", "classes", "expected"),
    [
        ("upos", ("verb", "pronoun", "noun"), [[], ["noun", "verb"], ["pronoun", "verb"]]),
        ("named", ("-", "N", "P", "V"), [[], ["N", "-", "V"], ["P", "V"]]),
        ("fine", ("3", "7", "9"), [[], ["7", "3"], ["9", "3", "3"]]),
    ],
)
def test_lists_of_words_and_classes(config, tmp_path, monkeypatch, key, classes, expected):
    monkeypatch.setitem(official.BUILDERS, "tagged", Tagged)
    of = config("tagged", train="train", test="", text=("words",), tokenizer="words()", tags=key)
    splits, info = data.load(of, str(tmp_path))
    assert class_names(info) == classes
    arrays = splits["train"].arrays
    rows = zip(arrays[key], arrays[f"{key}_mask"], strict=True)
    assert sorted([classes[tag] for tag in row[mask > 0]] for row, mask in rows) == sorted(expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tags": "tag"}, ["tag", "did you mean 'tags'"]),
        ({"sentences": ["a b", "c"], "classes": ["X", "Y"]}, ["'tags' has 1 tags for the 2 words 'a b'"]),
        ({"target": "tags"}, ["data.tags 'tags'", "data.target"]),
        ({"text": (), "tokenizer": ""}, ["data.tags 'tags'", "data.text"]),
    ],
)
def test_slips(table, change, words):
    with pytest.raises(UserError) as caught:
        data.load(table(**change))
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value
