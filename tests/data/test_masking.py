"""The corruption of tokens for masked language models, counted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from core.errors import UserError
from core.info import Info, Key
from core.vocabulary import Vocabulary
from data.augment.masking import MaskTokens
from data.augment.op import example_keys, parse_op

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PIECES = {word: i for i, word in enumerate((*SPECIAL, *(f"w{i}" for i in range(20)), *(f"##p{i}" for i in range(20))))}
PAD, UNK, CLS, SEP, MASK = range(5)
FIRST, INNER = 5, 25  # ids from which words and their further pieces begin


def vocabulary() -> Vocabulary:
    tokenizer = Tokenizer(models.WordPiece(dict(PIECES), unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    return Vocabulary.of(tokenizer)


INFO = Info("texts", {"train": 1}, {"tokens": Key((40,), "int32", "tokens", vocabulary=vocabulary())})


@functools.cache
def corrupted(op: MaskTokens, size: int = 4000) -> tuple[dict, dict]:
    """Returns a batch of random texts of 30 real tokens and padding, before and after the op."""
    random = np.random.default_rng(0)
    tokens = random.integers(FIRST, len(PIECES), (size, 40)).astype(np.int32)
    tokens[:, 0], tokens[:, 10], tokens[:, 29], tokens[:, 30:] = CLS, UNK, SEP, PAD
    before = {"tokens": tokens, "tokens_lengths": np.full(size, 30, np.int32)}
    keys = example_keys(jax.random.key(0), 0, jnp.arange(size))
    return before, {key: np.asarray(x) for key, x in jax.jit(op.bind(INFO))(keys, before).items()}


@pytest.mark.parametrize("unit", ["token", "word"])
def test_shares_are_those_of_the_paper(unit):
    """15% of the tokens; of these 80% masks, 10% random tokens, 10% unchanged. A random token may be the same one."""
    before, after = corrupted(MaskTokens(unit=unit))
    chosen = np.zeros(before["tokens"].shape, bool)
    rows = np.arange(len(chosen))[:, None].repeat(after["places"].shape[1], 1)
    real = after["labels_mask"] > 0
    chosen[rows[real], after["places"][real]] = True
    assert chosen.sum() / (27 * len(chosen)) == pytest.approx(0.15, abs=0.01)
    old, new = before["tokens"][chosen], after["tokens"][chosen]
    ordinary = len(PIECES) - len(SPECIAL)
    shares = (new == MASK).mean(), ((new != MASK) & (new != old)).mean(), (new == old).mean()
    np.testing.assert_allclose(shares, (0.8, 0.1 * (1 - 1 / ordinary), 0.1 + 0.1 / ordinary), atol=0.015)
    np.testing.assert_array_equal(after["tokens"][~chosen], before["tokens"][~chosen])
    np.testing.assert_array_equal(after["labels"][real], before["tokens"][rows[real], after["places"][real]])


@pytest.mark.parametrize("unit", ["token", "word"])
def test_special_tokens_and_padding_are_never_chosen_nor_inserted(unit):
    before, after = corrupted(MaskTokens(rate=0.9, mask=0.0, random=1.0, unit=unit))
    special = before["tokens"] < FIRST
    np.testing.assert_array_equal(after["tokens"][special], before["tokens"][special])
    assert after["tokens"][~special].min() >= FIRST and (after["tokens"] != before["tokens"])[~special].mean() > 0.7
    assert not np.isin(after["labels"][after["labels_mask"] > 0], range(FIRST)).any()


def test_all_pieces_of_a_word_are_chosen_together():
    before, after = corrupted(MaskTokens(rate=0.3, mask=1.0, random=0.0, unit="word"), 200)
    for old, new in zip(before["tokens"], after["tokens"], strict=True):
        words = np.cumsum((old < INNER) | (np.r_[PAD, old[:-1]] < FIRST))  # a piece after a special token begins one
        for word in set(words[old >= FIRST]):
            assert len(set(new[words == word] == MASK)) == 1


@pytest.mark.slow
def test_an_example_with_masks_keeps_its_tokens():
    tokens = np.array([[CLS, 7, MASK, 8, MASK, SEP] + [PAD] * 34], np.int32)
    keys = example_keys(jax.random.key(0), 0, jnp.arange(1))
    batch = MaskTokens().bind(INFO)(keys, {"tokens": tokens, "tokens_lengths": np.array([6])})
    np.testing.assert_array_equal(batch["tokens"], tokens)
    np.testing.assert_array_equal(batch["places"][0][:2], [2, 4])
    assert batch["labels_mask"].sum() == 2


def test_slips_name_the_argument():
    no_mask = Info("words", {}, {"tokens": Key((4,), "int32", "tokens", vocabulary=Vocabulary(9, pad=0))})
    for make, words in {
        lambda: MaskTokens(rate=2): "rate must be between 0 and 1",
        lambda: MaskTokens(mask=0.8, random=0.3): "exceed 1 together",
        lambda: parse_op("mask_tokens(unit='letter')"): "unit must be one of 'token', 'word', not 'letter'",
        lambda: MaskTokens().bind(no_mask): "no mask token",
        lambda: MaskTokens(key="text").bind(INFO): "'text' of texts is not tokens: set key to tokens",
    }.items():
        with pytest.raises(UserError, match=words):
            make()
