"""Tokenizers: what is exact comes back exactly, special ids are where they should be, the same texts give the same."""

import json
import re
import subprocess
import sys

import pytest

from core.errors import UserError
from core.info import Info, Key
from core.vocabulary import Vocabulary
from data.preprocess import tokenizers
from data.preprocess.pipeline import parse_op
from data.preprocess.tokenizers import Bpe, Characters, Unigram, Wordpiece, Words

SPECIALS = ["<pad>", "<bos>", "<eos>", "<unk>"]
TEXTS = [
    "To be, or not to be:\nthat is the question.\n\n",
    " two  spaces, a\ttab and a line's end\r\n",
    "Straße, café, naïve, 你好, 👩‍👧, e\u0301, zero\x00byte",
    "literally <pad> and <eos><unk>",
    "",
]


@pytest.mark.parametrize("recipe", [Characters(), Bpe(size=300)], ids=["characters", "bpe"])
def test_exact_tokenizers_lose_nothing(recipe):
    tokenizer = recipe(TEXTS)
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        assert tokenizer.decode(ids) == text
        assert all(index >= len(SPECIALS) for index in ids)


def test_a_character_is_a_token():
    tokenizer = Characters()(["banana\n"])
    assert tokenizer.get_vocab() == {**{name: i for i, name in enumerate(SPECIALS)}, "\n": 4, "a": 5, "b": 6, "n": 7}
    assert tokenizer.encode("ban\nx").ids == [6, 5, 7, 4, 3]


def test_bytes_of_unseen_text_are_known():
    tokenizer = Bpe(size=261)(["aaaa"])
    assert tokenizer.get_vocab_size() == 261  # four special tokens, 256 bytes and one merge
    assert len(tokenizer.encode("aa").ids) == 1
    text = "né 🙂\n"
    assert len(tokenizer.encode(text).ids) == len(text.encode())
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize("recipe", [Characters(), Words(), Bpe(size=280)], ids=str)
def test_special_ids(recipe):
    tokenizer = recipe(TEXTS)
    assert [tokenizer.id_to_token(index) for index in range(4)] == SPECIALS
    ids = sorted(tokenizer.get_vocab().values())
    assert ids == list(range(tokenizer.get_vocab_size()))


def test_words_and_punctuation():
    text = "Don't pay $3.50, or 1,000 (e.g. for t-shirts)!"
    tokenizer = Words()([text])
    assert " ".join(tokenizer.encode(text).tokens) == "Don't pay $ 3.50 , or 1,000 ( e . g . for t-shirts ) !"
    assert tokenizer.encode("don't\npay\t\t$").tokens == ["<unk>", "pay", "$"]
    assert Words(lowercase=True)([text]).encode("DON'T Pay").tokens == ["don't", "pay"]


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
    tokenizer = Words()([text])
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_commonest_words_are_kept():
    texts = ["a a a b b c", "c d"]
    tokenizer = Words(size=6)(texts)
    assert set(tokenizer.get_vocab()) == {*SPECIALS, "a", "b"}
    assert set(Words(min_count=2)(texts).get_vocab()) == {*SPECIALS, "a", "b", "c"}
    assert tokenizer.encode("d a").ids[0] == 3


DIGEST = """
import hashlib
from data.preprocess.tokenizers import Bpe, Characters, Unigram, Wordpiece, Words
texts = ["".join(chr(97 + (i * j) % 11) for j in range(1, 40)) + " " + "xy z"[i % 3:] for i in range(200)]
for recipe in (Characters(), Words(size=50), Bpe(size=400), Wordpiece(size=80), Unigram(size=60)):
    tokenizer = recipe(texts)
    ids = [tokenizer.encode(text).ids for text in texts]
    print(hashlib.sha256(repr((sorted(tokenizer.get_vocab().items()), ids)).encode()).hexdigest())
"""


def test_the_same_texts_give_the_same_tokenizer_in_another_process():
    runs = [subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True) for _ in range(2)]
    assert runs[0].returncode == 0, runs[0].stderr
    assert len(runs[0].stdout.split()) == 5 and runs[0].stdout == runs[1].stdout


def names(vocabulary, tokenizer):
    """Returns the special tokens by field."""
    fields = ("pad", "bos", "eos", "unk", "mask", "sep")
    ids = {field: getattr(vocabulary, field) for field in fields}
    return {field: tokenizer.id_to_token(index) for field, index in ids.items() if index is not None}


SENTENCES = ["The dog's café runs, runs and runs.", "Nobody knows <eos> [SEP] what runs!"] * 5


def test_wordpiece_reads_as_bert():
    tokenizer = Wordpiece(size=90)(SENTENCES)
    tokenizers.mark(tokenizer)
    vocabulary = Vocabulary.of(tokenizer)
    specials = {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]", "mask": "[MASK]", "sep": "[SEP]"}
    assert names(vocabulary, tokenizer) == specials and vocabulary.size <= 90
    encoding = tokenizer.encode("The DOG runs café", "and runs")
    assert encoding.tokens[0] == "[CLS]" and encoding.tokens.count("[SEP]") == 2 and encoding.tokens[-1] == "[SEP]"
    first = encoding.tokens.index("[SEP]") + 1
    assert encoding.type_ids == [0] * first + [1] * (len(encoding.ids) - first)
    assert vocabulary.text(encoding.ids) == "the dog runs cafe"
    assert tokenizer.encode("\u4e00").tokens[1] == "[UNK]"
    assert "Dog" not in "".join(Wordpiece(size=90)(SENTENCES).get_vocab())


def test_unigram_keeps_the_text():
    tokenizer = Unigram(size=60)(SENTENCES)
    vocabulary = Vocabulary.of(tokenizer)
    specials = {"pad": "<pad>", "bos": "<bos>", "eos": "<eos>", "unk": "<unk>", "mask": "<mask>"}
    assert names(vocabulary, tokenizer) == specials
    for text in SENTENCES:
        ids = tokenizer.encode(text).ids
        assert vocabulary.text(ids) == text and not set(ids) & set(vocabulary.special)
    assert vocabulary.unk in tokenizer.encode("\u4e00").ids


def saved(tmp_path, tokenizer):
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return parse_op(f"tokenize('text', file('{tmp_path}/tokenizer.json'))").tokenizer


def gpt2():
    """Returns a tokenizer with GPT-2's one special token."""
    tokenizer = Bpe(size=262)(SENTENCES)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    state = json.loads(tokenizer.to_str())
    for token in SPECIALS:
        del state["model"]["vocab"][token]
    return tokenizers.Tokenizer.from_str(json.dumps(state))


def test_a_file_brings_its_special_tokens(tmp_path):
    tokenizer = Wordpiece(size=90)(SENTENCES)
    tokenizers.mark(tokenizer)
    ids = tokenizer.encode("the dog").ids
    recipe = saved(tmp_path, tokenizer)
    read = recipe([])
    tokenizers.mark(read)  # its own marks stay
    assert read.encode("the dog").ids == ids and names(Vocabulary.of(read), read)["mask"] == "[MASK]"
    before = recipe.content
    saved(tmp_path, gpt2())
    assert recipe.content != before
    read = recipe([])
    tokenizers.mark(read)
    vocabulary = Vocabulary.of(read)
    assert names(vocabulary, read) == {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}
    ids = read.encode("runs").ids
    assert ids[0] == ids[-1] == vocabulary.eos and vocabulary.text(ids) == "runs"


def test_the_tokenizer_of_another_run(tmp_path):
    fitted = [Vocabulary.of(recipe(SENTENCES)) for recipe in (Words(), Bpe(262))]
    keys = {"a": Key(vocabulary=fitted[0]), "b": Key(vocabulary=fitted[0]), "label": Key()}
    run = parse_op(f"tokenize('text', run('{tmp_path}'))").tokenizer
    with pytest.raises(UserError, match=r"info.json does not exist"):
        run([])
    (tmp_path / "info.json").write_text(json.dumps(Info("set", {}, keys).to_json()))
    assert Vocabulary.of(run([])) == fitted[0]
    keys["b"] = Key(vocabulary=fitted[1])
    (tmp_path / "info.json").write_text(json.dumps(Info("set", {}, keys).to_json()))
    with pytest.raises(UserError, match="has 2 tokenizers: name a key of a, b"):
        run([])
    assert Vocabulary.of(parse_op(f"tokenize('text', run('{tmp_path}', 'b'))").tokenizer([])) == fitted[1]
    with pytest.raises(UserError, match=r"no tokenizer of 'bb': did you mean 'b'"):
        tokenizers.Run(str(tmp_path), "bb")([])


@pytest.mark.parametrize("recipe", [Bpe(280), Characters(), Words()], ids=str)
def test_text_comes_in_whole_characters(recipe):
    text = "Zoë 🙂👩‍👧 said hi"
    tokenizer = recipe([text])
    tokenizers.mark(tokenizer)
    vocabulary = Vocabulary.of(tokenizer)
    ids = tokenizer.encode(text).ids
    pieces = list(vocabulary.stream(ids))
    assert "".join(pieces) == vocabulary.text(ids) and "\ufffd" not in "".join(pieces) and len(pieces) > 3
    for end in range(len(ids)):
        assert "\ufffd" not in vocabulary.text(ids[:end])
        assert vocabulary.text(ids[:end]).startswith("".join(vocabulary.stream(ids[:end])))


def test_a_stream_of_a_set_without_text():
    assert list(Vocabulary(9, pad=0, bos=1, eos=2).stream([1, 5, 7, 2, 8])) == ["5", " 7"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("word(size=9)", "'word' does not exist: did you mean 'words'?"),
        ("file('none.json')", "file none.json does not exist"),
        ("words(sise=9)", "unexpected keyword argument 'sise'; Words takes size, min_count, lowercase"),
        ("words(size=4)", "size must be above 4"),
        ("words(min_count=0)", "min_count must be at least 1"),
        ("bpe(size=260)", "size must be above 260, the number of tokens that are always there, not 260"),
        ("bpe(1, 2)", "too many positional arguments; Bpe takes size"),
        ("characters(size=9)", "unexpected keyword argument 'size'"),
        ("_trained()", "'_trained' does not exist"),
        ("Tokenizer()", "'Tokenizer' does not exist"),
        ("windows('text', 3)", "tokenizer must be Recipe"),
    ],
)
def test_slips_are_refused_in_one_line(name, message):
    with pytest.raises(UserError, match=re.escape(message)) as refusal:
        parse_op(f"tokenize('text', {name})").tokenizer([])
    assert "\n" not in str(refusal.value)
