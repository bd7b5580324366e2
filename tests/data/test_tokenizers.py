"""Tokenizers: what is exact comes back exactly, special ids are where they should be, the same texts give the same."""

import re
import subprocess
import sys

import pytest

from core import names
from core.errors import UserError
from data.preprocess import tokenizers

SPECIALS = ["<pad>", "<bos>", "<eos>", "<unk>"]
TEXTS = [
    "To be, or not to be:\nthat is the question.\n\n",
    " two  spaces, a\ttab and a line's end\r\n",
    "Straße, café, naïve, 你好, 👩‍👧, e\u0301, zero\x00byte",
    "literally <pad> and <eos><unk>",
    "",
]


@pytest.mark.parametrize("recipe", [tokenizers.characters(), tokenizers.bpe(size=300)], ids=["characters", "bpe"])
def test_exact_tokenizers_lose_nothing(recipe):
    tokenizer = recipe(TEXTS)
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        assert tokenizer.decode(ids) == text
        assert all(index >= len(SPECIALS) for index in ids)


def test_a_character_is_a_token():
    tokenizer = tokenizers.characters()(["banana\n"])
    assert tokenizer.get_vocab() == {**{name: i for i, name in enumerate(SPECIALS)}, "\n": 4, "a": 5, "b": 6, "n": 7}
    assert tokenizer.encode("ban\nx").ids == [6, 5, 7, 4, 3]


def test_bytes_of_unseen_text_are_known():
    tokenizer = tokenizers.bpe(size=261)(["aaaa"])
    assert tokenizer.get_vocab_size() == 261  # four special tokens, 256 bytes and one merge
    assert len(tokenizer.encode("aa").ids) == 1
    text = "né 🙂\n"
    assert len(tokenizer.encode(text).ids) == len(text.encode())
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize("name", ["characters()", "words()", "bpe(size=280)"])
def test_special_ids(name):
    tokenizer = names.call(tokenizers, name, "x")(TEXTS)
    assert [tokenizer.id_to_token(index) for index in range(4)] == SPECIALS
    ids = sorted(tokenizer.get_vocab().values())
    assert ids == list(range(tokenizer.get_vocab_size()))


def test_words_and_punctuation():
    text = "Don't pay $3.50, or 1,000 (e.g. for t-shirts)!"
    tokenizer = tokenizers.words()([text])
    assert " ".join(tokenizer.encode(text).tokens) == "Don't pay $ 3.50 , or 1,000 ( e . g . for t-shirts ) !"
    assert tokenizer.encode("don't\npay\t\t$").tokens == ["<unk>", "pay", "$"]
    assert tokenizers.words(lowercase=True)([text]).encode("DON'T Pay").tokens == ["don't", "pay"]


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world! How are you? Fine; thanks: see (page 3) or [2].",
        '"Yes," she said, "I do." He left.',
        "Ein Mädchen — sie heißt „Anna” — sagt: ¿Qué?",
        "It's 50% of the t-shirts...",
    ],
)
def test_words_are_readable_again(text):
    tokenizer = tokenizers.words()([text])
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_commonest_words_are_kept():
    texts = ["a a a b b c", "c d"]
    tokenizer = tokenizers.words(size=6)(texts)
    assert set(tokenizer.get_vocab()) == {*SPECIALS, "a", "b"}
    assert set(tokenizers.words(min_count=2)(texts).get_vocab()) == {*SPECIALS, "a", "b", "c"}
    assert tokenizer.encode("d a").ids[0] == 3


DIGEST = """
import hashlib
from data.preprocess import tokenizers
texts = ["".join(chr(97 + (i * j) % 11) for j in range(1, 40)) + " " + "xy z"[i % 3:] for i in range(200)]
for recipe in (tokenizers.characters(), tokenizers.words(size=50), tokenizers.bpe(size=400)):
    tokenizer = recipe(texts)
    ids = [tokenizer.encode(text).ids for text in texts]
    print(hashlib.sha256(repr((sorted(tokenizer.get_vocab().items()), ids)).encode()).hexdigest())
"""


def test_the_same_texts_give_the_same_tokenizer_in_another_process():
    runs = [subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True) for _ in range(2)]
    assert runs[0].returncode == 0, runs[0].stderr
    assert len(runs[0].stdout.split()) == 3 and runs[0].stdout == runs[1].stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("word(size=9)", "'word' does not exist: did you mean 'words'?"),
        ("words(sise=9)", "unexpected keyword argument 'sise'; words takes size, min_count, lowercase"),
        ("words(size=4)", "size must be above 4"),
        ("words(min_count=0)", "min_count at least 1"),
        ("bpe(size=260)", "size must be above 260"),
        ("bpe(1, 2)", "too many positional arguments; bpe takes size"),
        ("characters(size=9)", "unexpected keyword argument 'size'"),
        ("_trained()", "'_trained' does not exist"),
        ("Tokenizer()", "'Tokenizer' does not exist"),
        ("words(", "must be a name or a call"),
    ],
)
def test_slips_are_refused_in_one_line(name, message):
    with pytest.raises(UserError, match=re.escape(message)) as refusal:
        names.call(tokenizers, name, "config.data.tokenizer")
    assert "\n" not in str(refusal.value) and "config.data.tokenizer" in str(refusal.value)
