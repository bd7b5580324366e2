"""Scores of generated text: BLEU computed by hand, and references that are the text of the data set."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from core.errors import UserError
from core.info import Info, Key
from core.vocabulary import Vocabulary
from tasks.generation import Generation
from tests.tasks.made_up import Examples
from tests.tasks.words import tokenizer

pytestmark = pytest.mark.slow

TOKENS = {word: i for i, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *"abcdefghij"])}
VOCABULARY = Vocabulary(len(TOKENS), pad=0, bos=1, eos=2, unk=3, tokenizer=tokenizer(TOKENS))


def padded(sentences, length=9):
    """Returns token ids [sentences, length], each with its begin and end."""
    rows = [[1, *(TOKENS[word] for word in sentence.split()), 2] for sentence in sentences]
    return np.array([row + [0] * (length - len(row)) for row in rows], np.int32)


def summary(task, arrays, examples):
    """Returns the metrics of generated sequences; the teacher-forced loss is 0."""
    forced = {"loss": np.zeros(1), "weight": np.ones(1)}
    result = task.summary(forced | {name: np.asarray(x) for name, x in arrays.items()}, examples)
    assert result.pop("perplexity") == 1 and set(result) <= task.generated_metrics
    return result


def score(outputs, texts, batch=None, **fields):
    """Returns the summary of what a model wrote, sentences with their end and rubbish behind it, against `texts`."""
    task = Generation(**{"vocabulary": VOCABULARY, "source_vocabulary": VOCABULARY, **fields})
    tokens = padded(outputs)[:, 1:]
    lengths = np.count_nonzero(tokens, axis=1)
    rubbish = np.where(tokens == 0, TOKENS["j"], tokens)
    batch = {"source": padded(["a b"] * len(outputs)), "mask": np.ones(len(outputs), np.float32), **(batch or {})}
    arrays = task.generated(jnp.asarray(rubbish), jnp.asarray(lengths), batch)
    (key,) = task.texts
    return summary(task, arrays, Examples({}, **{key: texts}))


def test_bleu_by_hand():
    result = score(["a b c d e", "a b c d"], ["a b c d f", "a b c d g h"])
    # 8 of 9 words, 6 of 7 pairs, 4 of 5 triples, 2 of 3 quadruples; 9 words where the references have 11
    expected = 100 * (8 / 9 * 6 / 7 * 4 / 5 * 2 / 3) ** 0.25 * math.exp(1 - 11 / 9)
    np.testing.assert_allclose(result["bleu"], expected, rtol=1e-6)
    assert result["sequence_exact"] == 0
    assert 0 < result["chrf"] < 100


def test_references_are_the_text_of_the_set():
    """Words that the vocabulary lacks count, as sacreBLEU counts them."""
    outputs, texts = ["a b c d e", "f g h i"], ["a b unknown c d e", "f g h i"]
    result = score(outputs, texts)
    np.testing.assert_allclose(result["bleu"], BLEU().corpus_score(outputs, [texts]).score, rtol=1e-6)
    assert result["bleu"] < 90 and result["sequence_exact"] == 0.5


def test_perfect_and_empty_output():
    texts = ["a b c d e", "b c d e"]
    result = score(texts, texts)
    np.testing.assert_allclose((result["bleu"], result["chrf"], result["sequence_exact"]), (100, 100, 1), rtol=1e-6)
    result = score(["a b c d e", ""], texts)
    assert result["bleu"] < 60 and result["sequence_exact"] == 0.5


@pytest.mark.parametrize("texts", [["a b c d e\nf g h i j", "a b c d"], [["a b c d e", "f g h i j"], ["a b c d"]]])
def test_several_references(texts):
    result = score(["f g h i j", "a b c d"], texts, references="captions")
    np.testing.assert_allclose((result["bleu"], result["sequence_exact"]), (100, 1), rtol=1e-6)
    assert score(["f g h i j", ""], texts, references="captions")["sequence_exact"] == 0.5
    assert "nrefs:2" in Generation().bleu_signature(2) and "tok:13a" in Generation().bleu_signature()


def test_a_missing_reference_has_no_length():
    """The second example has one reference of two words; a second one of no words would be nearer to its output."""
    outputs = ["a b c d e f g", "a"]
    texts = ["a b c d e f g\na b c d e f g", "a b\n"]
    expected = BLEU().corpus_score(outputs, [["a b c d e f g", "a b"], ["a b c d e f g", None]]).score
    np.testing.assert_allclose(score(outputs, texts, references="captions")["bleu"], expected, rtol=1e-6)
    assert expected < 95
    with pytest.raises(UserError, match=r"^task.references: 'captions' is empty in example 2"):
        score(outputs, ["a", "\n"], references="captions")


def test_a_line_feed_alone_separates_references():
    assert score(["a b c d"], ["a b c d\u2028e"], references="captions")["sequence_exact"] == 0


def test_bleu_by_length_of_the_source():
    sources = padded(["a " * 10, "a " * 11, "a " * 51], length=53)  # begin and end are no words
    texts = ["a b c d", "a b c d e", "a b c d e f"]
    result = score(["a b c d", "a b c e", "a b c d e f"], texts, {"source": sources})
    binned = {name: value for name, value in result.items() if name.startswith("bleu_length")}
    assert set(binned) == {"bleu_length_1_10", "bleu_length_11_20", "bleu_length_over_50"}
    np.testing.assert_allclose((binned["bleu_length_1_10"], binned["bleu_length_over_50"]), 100, rtol=1e-6)
    assert binned["bleu_length_11_20"] < 80


def test_a_source_that_is_no_text_has_no_length():
    batch = {"image": np.zeros((1, 4, 4, 3), np.float32)}
    assert set(score(["a b c d"], ["a b c d"], batch, conditions=("image",), source_vocabulary=None)) == {
        "bleu",
        "chrf",
        "sequence_exact",
    }


def test_without_a_tokenizer_every_token_is_a_word():
    batch = {
        "source": np.ones((2, 3), np.int32),
        "target": np.array([[8, 5, 6, 7, 4, 9], [8, 5, 6, 7, 9, 0]], np.int32),
    }
    task = Generation(vocabulary=Vocabulary(10, pad=0, bos=8, eos=9))
    arrays = task.generated(jnp.array([[5, 6, 7, 4, 9], [5, 6, 1, 7, 9]]), jnp.array([5, 5]), batch)
    assert not task.texts
    result = summary(task, arrays, Examples(batch))
    assert result["sequence_exact"] == 0.5  # token 1 is a word here
    assert 0 < result["bleu"] < 100


def test_trains_as_a_decoder_of_its_target():
    task = Generation()
    sizes = {"source": 7, "target": 5}
    keys = {key: Key((9,), "int32", vocabulary=Vocabulary(n, pad=0, bos=1, eos=2)) for key, n in sizes.items()}
    info = Info("made up", {}, keys)
    assert task.output_size(info) == 5 and task.generates
    assert task.bind(info).vocabulary.size == 5 and task.bind(info).source_vocabulary.size == 7
    assert set(task.keys) == {"target", "source", "source_lengths"}
    batch = {
        "target": np.array([[1, 3, 4, 2], [1, 3, 2, 0]], np.int32),
        "target_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.float32),
        "mask": np.ones(2, np.float32),
    }
    total = task.score(jnp.zeros((2, 4, 5)), batch).losses["loss"]
    np.testing.assert_allclose((total, task.weights(batch)["loss"]), (5 * np.log(5), 5), rtol=1e-6)


def test_refuses_what_generates_nothing():
    for field in ("beams", "max_length"):
        with pytest.raises(ValueError, match=field):
            Generation(**{field: 0})
