"""Vectors of words from a text file fill the rows of the vocabulary's words."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from core.errors import UserError
from core.vocabulary import Vocabulary
from training.vectors import filled

WORDS = Vocabulary.of(Tokenizer(models.WordLevel({"<unk>": 0, "dog": 1, "the": 2})))
GLOVE = "the 0.5 -1\ncat 7 7\ndog 1e-1 2\n"


def tables():
    return {"static/embedding": np.full((3, 2), 9.0, np.float32)}


@pytest.mark.parametrize("text", [GLOVE, f"3 2\n{GLOVE}"], ids=["GloVe", "word2vec"])
def test_words_get_their_vectors_and_others_keep_theirs(text, tmp_path):
    (tmp_path / "vectors.txt").write_text(text)
    found, note = filled(f"vectors:{tmp_path}/vectors.txt", tables(), WORDS)
    np.testing.assert_allclose(found["static/embedding"], [[9, 9], [0.1, 2], [0.5, -1]])
    assert note.startswith("2 of 3 words")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the 1 2 3\n", "line 1 of .* has 3 numbers, and the model's vectors 2: set config.model.embedding_width=3"),
        ("cat 1 2\n", "no word of the vocabulary has a vector"),
        ("cat 1 2\ndog 1 x\n", "line 2 of .* is not a word and its numbers"),
        (None, "cannot be read: No such file"),
    ],
)
def test_refusals(text, message, tmp_path):
    if text:
        (tmp_path / "vectors.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        filled(f"vectors:{tmp_path}/vectors.txt", tables(), WORDS)


def test_a_model_without_words_is_refused():
    with pytest.raises(UserError, match="vectors need a model that embeds words"):
        filled("vectors:FILE", {}, None)
