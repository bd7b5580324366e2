"""Words with one tag each: at the first token of each word."""

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds

import data
from core.errors import UserError
from core.info import Key
from data.sources import tfds as official
from tests.data.infos import class_names
from tests.data.rows import Rows, all_of, new, processed

WORDS = ["he isn't here .", "no", "U.S. dogs run", "he runs"]
TAGS = ["PRON VERB ADV PUNCT", "INTJ", "NAME NOUN VERB", "PRON VERB"]
ROLES = {"sentence": "text", "tags": "text"}


def table(sentences=WORDS, tags=TAGS, tokenizer="words()"):
    """Returns a set of sentences, each with its tags."""
    ops = (f"tokenize_words('sentence', 'tags', {tokenizer})",)
    rows = Rows(sentence=sentences, tags=tags)
    return processed(ops, ROLES, train=rows, test=Rows(sentence=sentences[:2], tags=tags[:2]))


def names(info, arrays, key="tags"):
    """Returns the tags of every text."""
    classes = info.keys[key].classes
    return [
        [classes[tag] for tag in row[mask > 0]] for row, mask in zip(arrays[key], arrays[f"{key}_mask"], strict=True)
    ]


def test_a_tag_stands_at_the_first_token_of_its_word():
    splits, info = table()
    assert class_names(info) == ("ADV", "INTJ", "NAME", "NOUN", "PRON", "PUNCT", "VERB")
    arrays, vocabulary = all_of(splits["train"]), info.keys["sentence"].vocabulary
    assert names(info, arrays) == [tags.split() for tags in TAGS]
    for i, sentence in enumerate(WORDS):
        known = arrays["tags_mask"][i] > 0
        first = [vocabulary.text([token]) for token in arrays["sentence"][i][known]]
        assert first == ["U" if word == "U.S." else word for word in sentence.split()]
        assert arrays["sentence_lengths"][i] > known.sum()
        assert arrays["sentence"][i][0] == vocabulary.bos
    assert splits["train"].text("sentence", np.arange(4)) == WORDS
    assert info.keys["tags"].role == "tags"


def test_words_are_tokenised_one_by_one():
    splits, info = table(["ababab ab", "ba abab", "abab q ab"], ["X Y", "Y Z", "X Y Z"], "bpe(262)")
    arrays, vocabulary = all_of(splits["train"]), info.keys["sentence"].vocabulary
    assert names(info, arrays) == [["X", "Y"], ["Y", "Z"], ["X", "Y", "Z"]]
    starts = np.flatnonzero(arrays["tags_mask"][2])
    rest = [vocabulary.text(arrays["sentence"][2][start:]) for start in starts]
    assert rest == ["ababqab", "qab", "ab"]


def test_new_texts_have_the_starts_of_all_words():
    _, info = table(tokenizer="bpe(262)")
    chunk = new(info, sentence=["he runs here today and tomorrow " * 50, "", "xyz"])
    for ids, starts, count in zip(chunk["sentence"], chunk["sentence_starts"], (300, 0, 1), strict=True):
        assert starts.shape == ids.shape and starts.dtype == bool and starts.sum() == count
        assert not starts[0] and not starts[-1]
    assert "tags" not in chunk


@pytest.mark.parametrize(
    ("tags", "classes", "expected"),
    [
        ([[1, 0], [2, -1, 0], []], (), [["1", "0"], ["2", "0"], []]),
        ([[7, 3], [9, 3, 3], []], (), [["7", "3"], ["9", "3", "3"], []]),
        ([[1, 0], [2, -1, 0], []], ("verb", "pronoun", "noun"), [["pronoun", "verb"], ["noun", "verb"], []]),
        ([["P", "V"], ["N", "-", "V"], []], (), [["P", "V"], ["N", "-", "V"], []]),
        ([np.array([1, 0]), np.array([2, -1, 0]), np.zeros(0, int)], (), [["1", "0"], ["2", "0"], []]),
    ],
)
def test_lists_of_words_and_classes(tags, classes, expected):
    from data.preprocess import pipeline

    keys = {"words": Key(role="text"), "x": Key(role="tags", classes=classes)}
    rows = {"train": Rows(words=[["he", "runs"], ["dogs", "--", "run"], []], x=tags)}
    _, examples, keys = pipeline.fit(("tokenize_words('words', 'x', words())",), rows, keys)
    chunk = examples["train"].chunk(range(3))
    found = [[keys["x"].classes[t] for t in row[m > 0]] for row, m in zip(chunk["x"], chunk["x_mask"], strict=True)]
    assert found == expected


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_lists_of_words_in_a_table(suffix, config, tmp_path):
    frame = pd.DataFrame({"words": [["he", "runs"], ["dogs", "run", "."]], "tags": [["P", "V"], ["N", "V", "."]]})
    file = tmp_path / f"tagged.{suffix}"
    frame.to_json(file, orient="records", lines=True) if suffix == "jsonl" else frame.to_parquet(file)
    settings = config(f"{suffix}:{file}", preprocess=("tokenize_words('words', 'tags', words())",))
    splits, info = data.load(settings)
    arrays = splits["train"].arrays
    assert sorted(map(tuple, names(info, arrays))) == [("N", "V", "."), ("P", "V")]
    vocabulary = info.keys["words"].vocabulary
    read = [
        [vocabulary.token(i) for i in ids[mask > 0]]
        for ids, mask in zip(arrays["words"], arrays["tags_mask"], strict=True)
    ]
    assert sorted(read) == [["dogs", "run", "."], ["he", "runs"]]
    assert info.state["raw"] == {"words": "text", "tags": "text"}  # new inputs may be lines of text
    with pytest.raises(UserError, match="column 'words' holds lists of words: leave it out"):
        data.load(config(f"{suffix}:{file}", preprocess=("features()",)))


class Tagged(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Lists of words, with classes by name."""

    name = "tagged"
    VERSION = tfds.core.Version("1.0.0")
    ROWS = [{"words": ["dogs", "--", "run"], "upos": [2, -1, 0]}, {"words": [], "upos": []}]

    def _info(self):
        classes = tfds.features.ClassLabel(names=["verb", "pronoun", "noun"])
        features = {"words": tfds.features.Sequence(tfds.features.Text()), "upos": tfds.features.Sequence(classes)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": enumerate(self.ROWS)}

    def _generate_examples(self):
        raise NotImplementedError


def test_an_official_set(config, tmp_path, monkeypatch):
    monkeypatch.setitem(official.BUILDERS, "tagged", Tagged)
    of = config("tagged", preprocess=("tokenize_words('words', 'upos', words())",))
    for _ in range(2):  # the second time from the cache
        splits, info = data.load(of, str(tmp_path))
        assert class_names(info) == ("verb", "pronoun", "noun")
        assert sorted(names(info, all_of(splits["train"]), "upos")) == [[], ["noun", "verb"]]


@pytest.mark.parametrize(
    ("sentences", "tags", "call", "message"),
    [
        (WORDS, TAGS, "'sentence', 'tag'", "'tag' does not exist: did you mean 'tags'"),
        (["a b", "c"], ["X", "Y"], "'sentence', 'tags'", "'tags' has 1 tags for the 2 words 'a b'"),
        (["a b", "c"], ["X Y", None], "'sentence', 'tags'", "words or tags are missing in an example"),
    ],
)
def test_slips(sentences, tags, call, message):
    rows = Rows(sentence=sentences, tags=tags)
    with pytest.raises(UserError, match=message) as caught:
        processed((f"tokenize_words({call}, words())",), ROLES, train=rows)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("data.preprocess: tokenize_words")
