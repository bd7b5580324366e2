"""What a model writes by itself against BLEU worked out by hand, and text made of token ids."""

import math
import types

import jax.numpy as jnp
import numpy as np
import pytest

from tasks.generation import Generation

WORDS = np.array(["", "", "", "?", *"abcdefghij"])  # ids 0 to 3 are special
TOKENS = {word: i for i, word in enumerate(WORDS) if word}


def detokenize(ids):
    return " ".join(WORDS[ids])


def padded(sentences, length=9):
    """Returns token ids [sentences, length], each with its begin and end."""
    rows = [[1, *(TOKENS[word] for word in sentence.split()), 2] for sentence in sentences]
    return np.array([row + [0] * (length - len(row)) for row in rows], np.int32)


def score(outputs, batch, **fields):
    """Returns the summary of what a model wrote: sentences with their end and rubbish behind it."""
    task = Generation(detokenize=detokenize, **fields)
    tokens = padded(outputs)[:, 1:]
    lengths = np.count_nonzero(tokens, axis=1)
    rubbish = np.where(tokens == 0, TOKENS["j"], tokens)
    batch = {"source": padded(["a b"] * len(outputs)), "mask": np.ones(len(outputs), np.float32), **batch}
    arrays = task.generated(jnp.asarray(rubbish), jnp.asarray(lengths), batch)
    return task.generation_summary({name: np.asarray(x) for name, x in arrays.items()})


def test_bleu_by_hand():
    result = score(["a b c d e", "a b c d"], {"target": padded(["a b c d f", "a b c d g h"])})
    # 8 of 9 words, 6 of 7 pairs, 4 of 5 triples, 2 of 3 quadruples; 9 words where the references have 11
    expected = 100 * (8 / 9 * 6 / 7 * 4 / 5 * 2 / 3) ** 0.25 * math.exp(1 - 11 / 9)
    np.testing.assert_allclose(result["bleu"], expected, rtol=1e-6)
    assert result["sequence_exact"] == 0
    assert 0 < result["chrf"] < 100


def test_perfect_and_empty_output():
    batch = {"target": padded(["a b c d e", "b c d e"])}
    result = score(["a b c d e", "b c d e"], batch)
    np.testing.assert_allclose((result["bleu"], result["chrf"], result["sequence_exact"]), (100, 100, 1), rtol=1e-6)
    result = score(["a b c d e", ""], batch)
    assert result["bleu"] < 60 and result["sequence_exact"] == 0.5


def test_several_references():
    first, second = padded(["a b c d e", "a b c d"]), padded(["f g h i j", ""])
    second[1] = 0  # the second example has one reference
    batch = {"captions": np.stack([first, second], axis=1), "target": padded(["j", "j"])}
    result = score(["f g h i j", "a b c d"], batch, references="captions")
    np.testing.assert_allclose((result["bleu"], result["sequence_exact"]), (100, 1), rtol=1e-6)
    assert score(["f g h i j", ""], batch, references="captions")["sequence_exact"] == 0.5
    assert "nrefs:2" in Generation().bleu_signature(2) and "tok:13a" in Generation().bleu_signature()


def test_bleu_by_length_of_the_source():
    sources = padded(["a " * 10, "a " * 11, "a " * 51], length=53)  # begin and end are no words
    batch = {"source": sources, "target": padded(["a b c d", "a b c d e", "a b c d e f"])}
    result = score(["a b c d", "a b c e", "a b c d e f"], batch)
    binned = {name: value for name, value in result.items() if name.startswith("bleu_length")}
    assert set(binned) == {"bleu_length_1_10", "bleu_length_11_20", "bleu_length_over_50"}
    np.testing.assert_allclose((binned["bleu_length_1_10"], binned["bleu_length_over_50"]), 100, rtol=1e-6)
    assert binned["bleu_length_11_20"] < 80


def test_a_source_that_is_no_text_has_no_length():
    batch = {"image": np.zeros((1, 4, 4, 3), np.float32), "target": padded(["a b c d"])}
    assert set(score(["a b c d"], batch, conditions=("image",))) == {"bleu", "chrf", "sequence_exact"}


def test_without_a_tokenizer_every_token_is_a_word():
    batch = {
        "source": np.ones((2, 3), np.int32),
        "target": np.array([[8, 5, 6, 7, 4, 9], [8, 5, 6, 7, 9, 0]], np.int32),
    }
    task = Generation(begin=8, end=9)
    arrays = task.generated(jnp.array([[5, 6, 7, 4, 9], [5, 6, 1, 7, 9]]), jnp.array([5, 5]), batch)
    result = task.generation_summary({name: np.asarray(x) for name, x in arrays.items()})
    assert result["sequence_exact"] == 0.5  # token 1 is a word here
    assert 0 < result["bleu"] < 100


def test_trains_as_a_decoder_of_its_target():
    task = Generation()
    info = types.SimpleNamespace(classes=(), vocabulary_size={"source": 7, "target": 5}.get)
    assert task.outputs_width(info) == 5 and task.generates
    assert set(task.needs) == {"target", "source", "source_lengths"}
    batch = {
        "target": np.array([[1, 3, 4, 2], [1, 3, 2, 0]], np.int32),
        "target_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.float32),
        "mask": np.ones(2, np.float32),
    }
    total, weight = task.loss(jnp.zeros((2, 4, 5)), batch)
    np.testing.assert_allclose((total, weight), (5 * np.log(5), 5), rtol=1e-6)


def test_refuses_what_generates_nothing():
    for field in ("beams", "max_length"):
        with pytest.raises(ValueError, match=field):
            Generation(**{field: 0})
