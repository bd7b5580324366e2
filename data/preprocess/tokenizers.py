"""The tokenizers that `config.data.tokenizer` can name: all public functions that return a `Fit`."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from core.vocabulary import Vocabulary

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")  # ids 0 to 3
PAD, BOS, EOS, UNK = 0, 1, 2, 3
BYTES = 256

Fit = Callable[[Iterable[str]], Tokenizer]  # fits a tokenizer on the texts of the training split

# A word is a number with its points and commas, letters and digits with inner apostrophes and hyphens, or one
# punctuation mark.
WORD = r"\d+(?:[.,]\d+)+|\w+(?:['\u2019-]\w+)*|[^\w\s]"
EVEN_QUOTES = r'[^"]*(?:"[^"]*"[^"]*)*$'  # text after a closing quotation mark
NO_SPACE = (
    r" (?=[.,!?;:…%)\]}»”])",
    r"(?<=[(\[{«„¿¡]) ",
    rf'(?<=") (?=[^"]*"{EVEN_QUOTES})',  # after an opening quotation mark: an odd number of them follows
    rf' (?="{EVEN_QUOTES})',
)


def characters() -> Fit:
    """One token per code point that occurs in training. Lossless for these: text -> ids -> text is the identity."""

    def fit(texts: Iterable[str]) -> Tokenizer:
        seen = sorted(set().union(*texts))
        vocabulary = {token: index for index, token in enumerate([*SPECIALS, *seen])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS[UNK]))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
        return tokenizer

    return fit


def words(size: int = 10_000, min_count: int = 1, lowercase: bool = False) -> Fit:
    """One token per word or punctuation mark, the most frequent of training; all others are <unk>.

    Decoding joins words with spaces, but not at punctuation and quotation marks.

    Args:
        size: of the vocabulary, the four special tokens included.
        min_count: words that occur less often in training are <unk>.
        lowercase: whether capitals become lower-case.

    Raises:
        ValueError: `size` leaves no room for a word, or `min_count` is below 1.
    """
    if size <= len(SPECIALS) or min_count < 1:
        raise ValueError(f"size must be above {len(SPECIALS)} and min_count at least 1, not {size} and {min_count}")

    def fit(texts: Iterable[str]) -> Tokenizer:
        tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIALS[UNK]))
        if lowercase:
            tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
        spaced = decoders.WordPiece(prefix="\0", cleanup=False)  # no token has it: all but the first get a space
        tight = [decoders.Replace(Regex(space), "") for space in NO_SPACE]
        tokenizer.decoder = decoders.Sequence([spaced, decoders.Fuse(), *tight])
        trainer = trainers.WordLevelTrainer(
            vocab_size=size, min_frequency=min_count, special_tokens=list(SPECIALS), show_progress=False
        )
        return _trained(tokenizer, trainer, texts)

    return fit


def bpe(size: int = 8_000) -> Fit:
    """Byte-pair encoding of bytes: lossless for any text, without unknown tokens.

    Source: R. Sennrich, B. Haddow, A. Birch, arXiv 1508.07909; on bytes as in GPT-2 (A. Radford and others, 2019,
    section 2.2).

    Args:
        size: of the vocabulary, the four special tokens and 256 bytes included.

    Raises:
        ValueError: `size` leaves no room for a merge.
    """
    if size <= len(SPECIALS) + BYTES:
        raise ValueError(f"size must be above {len(SPECIALS) + BYTES} (specials and bytes), not {size}")

    def fit(texts: Iterable[str]) -> Tokenizer:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False
        )
        return _trained(tokenizer, trainer, texts)

    return fit


def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """Returns the vocabulary of a tokenizer of this file."""
    ids = {"pad": PAD, "bos": BOS, "eos": EOS, "unk": UNK}
    return Vocabulary(tokenizer.get_vocab_size(), **ids, tokenizer=tokenizer.to_str())


def _trained(tokenizer: Tokenizer, trainer: Any, texts: Iterable[str]) -> Tokenizer:
    """Trains; the special tokens keep their ids, but are not matched in texts, where "<eos>" is five characters."""
    tokenizer.train_from_iterator(texts, trainer)
    return Tokenizer.from_str(json.dumps({**json.loads(tokenizer.to_str()), "added_tokens": []}))
