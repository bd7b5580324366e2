"""Bags of n-grams: ids and TF-IDF weights."""

import collections
import itertools
import math

import numpy as np
import pytest

from core.errors import UserError
from tests.data.rows import Rows, all_of, new, processed

TEXTS = ["The dog runs.", "the dog", "a dog runs, a dog", "no"]
ROLES = {"text": "text"}


def bags(ops="ngrams('text', characters=(2, 3))", texts=TEXTS):
    return processed((ops,), ROLES, train=Rows(text=texts), test=Rows(text=texts[:2]))


def grams(text, kind):
    """Returns the n-grams of a text, spelled out: 1 and 2 words, or 2 and 3 characters within words and spaces."""
    words = text.lower().replace(".", " .").replace(",", " ,").split()
    if kind == "words":
        return words + [" ".join(pair) for pair in itertools.pairwise(words)]
    spaced = [f" {word} " for word in text.lower().split()]
    return [word[i : i + n] for word in spaced for n in (2, 3) for i in range(len(word) - n + 1)]


def expected(text):
    """Returns n-gram -> weight."""
    weights = {}
    for kind in ("words", "characters"):
        texts = collections.Counter(gram for other in TEXTS for gram in set(grams(other, kind)))
        counts = collections.Counter(gram for gram in grams(text, kind) if texts[gram] > 1)
        raw = {
            gram: (1 + math.log(n)) * (1 + math.log((1 + len(TEXTS)) / (1 + texts[gram]))) for gram, n in counts.items()
        }
        norm = math.sqrt(sum(x**2 for x in raw.values()))
        weights |= {f"{kind} {gram}": x / norm for gram, x in raw.items()}
    return weights


def found(info, arrays, i):
    """Returns n-gram -> weight of a row."""
    token, size = info.keys["text"].vocabulary.text, arrays["text_lengths"][i]
    names = [token([index]) for index in arrays["text"][i, :size]]
    assert not arrays["text_mask"][i, size:].any(), "padding has no weight"
    return dict(zip(names, arrays["text_mask"][i, :size], strict=True))


def test_weights_are_those_of_the_formula():
    splits, info = bags()
    arrays = all_of(splits["train"])
    assert arrays["text_mask"].dtype == np.float32
    for i, text in enumerate(TEXTS):
        assert found(info, arrays, i) == pytest.approx(expected(text), rel=1e-6)
    assert splits["train"].text("text", np.array([0])) == TEXTS[:1]


def test_new_texts_get_the_same_ids():
    splits, info = bags()
    chunk = new(info, text=["xyz", TEXTS[2], ""])
    arrays, size = all_of(splits["train"]), len(chunk["text"][1])
    assert len(chunk["text"][0]) == len(chunk["text"][2]) == 0
    np.testing.assert_array_equal(chunk["text"][1], arrays["text"][2, :size])
    np.testing.assert_array_equal(chunk["text_mask"][1], arrays["text_mask"][2, :size])


def test_the_most_frequent_ngrams_of_each_kind_are_kept():
    _, info = bags("ngrams('text', words=(1, 1), characters=(3, 3), size=2)")
    vocabulary = info.keys["text"].vocabulary
    assert [vocabulary.text([i]) for i in range(vocabulary.size)][:2] == ["words dog", "words runs"]
    assert vocabulary.size == 4
    assert bags("ngrams('text', characters=(0, 0), min_texts=1)")[1].keys["text"].vocabulary.size == 13


@pytest.mark.parametrize(
    ("op", "texts", "message"),
    [
        ("ngrams('text')", ["b", "c", "d"], r"ngrams: 'text': fewer than 2 texts share any n-gram of words"),
        ("ngrams('text', words=(2, 1))", TEXTS, r"words must be two numbers"),
        ("ngrams('text', words=(0, 0), characters=(0, 0))", TEXTS, r"no n-grams are left"),
        ("ngrams('text', size=0)", TEXTS, r"must be at least 1"),
        ("ngrams('txet')", TEXTS, r"'txet' does not exist"),
        ("ngrams('text')", ["a b", None, "a b"], r"'text' is missing, not a text"),
    ],
)
def test_refusals(op, texts, message):
    with pytest.raises(UserError, match=message):
        bags(op, texts)
