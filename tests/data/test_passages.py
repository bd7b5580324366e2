"""Passages of a running text between special tokens, against plain slices."""

import numpy as np
import pytest

from core.errors import UserError
from core.vocabulary import load_tokenizer
from data.preprocess.passages import PassageSplit
from tests.data.rows import Rows, all_of, new, processed
from tests.data.test_windows import joined

BOS, SEP, EOS = 1, 2, 3
SPECIAL = {"bos": BOS, "sep": SEP, "eos": EOS}
IDS = np.arange(10, 43)
RUNNING = "tokenize('text', wordpiece(60), special=False)"


def split(size: int, *, pairs: bool = False, every: bool = False) -> PassageSplit:
    return PassageSplit(joined(IDS), size, pairs, SPECIAL, every)


def test_adjacent_passages_are_the_text():
    examples = all_of(split(10))
    for row, length in zip(examples["tokens"], examples["tokens_lengths"], strict=True):
        assert row[0] == BOS and row[length - 1] == EOS and not row[length:].any()
    kept = [row[1 : n - 1] for row, n in zip(examples["tokens"], examples["tokens_lengths"], strict=True)]
    np.testing.assert_array_equal(np.concatenate(kept), IDS[:-1])  # the windows leave the last token to be a label
    assert not examples["segments"].any()


def test_training_passages_begin_at_any_token():
    examples = all_of(split(10, every=True))
    np.testing.assert_array_equal(examples["tokens"][:, 1], IDS[: len(IDS) - 8])


def test_half_of_the_pairs_follow_one_another():
    pairs = split(11, pairs=True, every=True)  # 4 tokens each
    examples = pairs.batch(np.resize(np.arange(len(pairs)), 600))
    first, second = examples["tokens"][:, 1:5], examples["tokens"][:, 6:10]
    follows = second[:, 0] == first[:, -1] + 1
    np.testing.assert_array_equal(follows[examples["next"] == 0], True)
    assert follows[examples["next"] == 1].mean() < 0.2
    assert (examples["tokens"][:, [0, 5, 10]] == [BOS, SEP, EOS]).all()
    np.testing.assert_array_equal(examples["segments"][0], [0] * 6 + [1] * 5)
    labels = split(11, pairs=True, every=True).batch(np.arange(len(pairs)))["next"]
    assert 0.2 < labels.mean() < 0.8


def test_an_example_is_a_function_of_its_index():
    pairs = split(11, pairs=True)
    together = all_of(pairs)
    alone = pairs.batch(np.array([2]))
    for key in together:
        np.testing.assert_array_equal(together[key][2:3], alone[key])


def test_a_short_passage_is_padded_at_its_end():
    pairs = all_of(split(15, pairs=True))
    for tokens, length, segments in zip(pairs["tokens"], pairs["tokens_lengths"], pairs["segments"], strict=True):
        assert tokens[:length].all() and not tokens[length:].any() and not segments[length:].any()
        assert (tokens[:length] == SEP).sum() == 1 and tokens[length - 1] == EOS


def test_a_recipe_makes_examples_and_a_new_text_is_one():
    texts = [" ".join(f"word{i % 7} other{i % 5}" for i in range(60))] * 2
    splits, info = processed((RUNNING, "passages('text', 16, pairs=True)"), {"text": "text"}, train=Rows(text=texts))
    batch = splits["train"].batch(np.arange(3))
    vocabulary = info.keys["tokens"].vocabulary
    assert batch["tokens"].shape == (3, 16) and (batch["tokens"][:, 0] == vocabulary.bos).all()
    assert info.keys["next"].classes == ("follows", "random")
    alone = load_tokenizer(vocabulary.tokenizer).encode("word1").ids
    assert (alone[0], alone[-1]) == (vocabulary.bos, vocabulary.eos)  # for whoever takes the tokenizer over
    (tokens,) = new(info, text=["word1 [MASK] word2"])["tokens"]
    assert list(tokens).count(vocabulary.mask) == 1 and tokens[0] == vocabulary.bos and len(tokens) == 16


def test_refusals():
    for op, text, words in (
        ("passages('text', 2)", RUNNING, "size must be at least 3"),
        ("passages('text', 4, pairs=True)", RUNNING, "size must be at least 5"),
        ("passages('text', 9)", "tokenize('other', wordpiece(60), special=False)", "does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            processed((text, op), {"text": "text"}, train=Rows(text=["a b c"]))
