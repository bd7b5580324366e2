"""Vocabulary: token ids, the special ids, and the conversion of ids to text."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import SupportsIndex

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

# Field of `Vocabulary` -> names of its token in tokenizers, the first that exists counts. BERT and GPT-2 mark an end
# with the tokens that also separate texts.
SPECIAL = {
    "pad": ("<pad>", "[PAD]"),
    "bos": ("<bos>", "<s>", "[CLS]", "<|startoftext|>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos": ("<eos>", "</s>", "<|endoftext|>", "<|end_of_text|>", "[SEP]"),
    "unk": ("<unk>", "[UNK]"),
    "mask": ("<mask>", "[MASK]"),
    "sep": ("<sep>", "[SEP]"),
}
INCOMPLETE = "\ufffd"  # the decoded form of bytes that are not a whole character


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens of one key of a data set.

    Attributes:
        size: number of ids, including special ones.
        pad, bos, eos, unk, mask, sep: ids of padding, begin and end of a sequence, unknown words, masked words and
            the separator of two texts; None if the vocabulary lacks the token.
        tokenizer: JSON of the `tokenizers` library; "" for generated sets, where every id is a word.
    """

    size: int
    pad: int | None = None
    bos: int | None = None
    eos: int | None = None
    unk: int | None = None
    mask: int | None = None
    sep: int | None = None
    tokenizer: str = ""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """Returns the vocabulary of a tokenizer, whose special tokens are found by their names."""
        ids = {}
        for field, names in SPECIAL.items():
            found = (tokenizer.token_to_id(name) for name in names)
            ids[field] = next((index for index in found if index is not None), None)
        if ids["bos"] is None and len(around := tokenizer.encode("").ids) > 1:
            ids["bos"] = around[0]  # Marian's texts begin with the token for padding
        return cls(tokenizer.get_vocab_size(), **ids, tokenizer=tokenizer.to_str())

    def words(self) -> tuple[int, frozenset[tuple[str, int]]]:
        """Returns the size and the ids, which are equal where texts are cut off or enclosed in another way."""
        ids = load_tokenizer(self.tokenizer).get_vocab() if self.tokenizer else {}
        return self.size, frozenset(ids.items())

    @property
    def special(self) -> tuple[int, ...]:
        """All special ids."""
        ids = (getattr(self, name) for name in SPECIAL)
        return tuple(index for index in ids if index is not None)

    def text(self, ids: Iterable[SupportsIndex]) -> str:
        """Returns the text of token ids up to the first `eos`, without special tokens.

        A character whose last bytes are not there, as at the end of a generated text, is left out.
        """
        ids = [int(index) for index in ids]
        ids = ids[1:] if ids[:1] == [self.bos] else ids  # may be the same token as `eos`
        ids = ids[: ids.index(self.eos)] if self.eos in ids else ids
        kept = [index for index in ids if index not in self.special]
        if not self.tokenizer:
            return " ".join(map(str, kept))
        return load_tokenizer(self.tokenizer).decode(kept).rstrip(INCOMPLETE)

    def stream(self, ids: Iterable[SupportsIndex]) -> Iterator[str]:
        """Yields the text of token ids piece by piece, as they come; a character of several tokens comes as a whole.

        The pieces joined are `text`, but for spaces that depend on what follows, as at quotation marks.
        """
        decoder = DecodeStream()
        is_first = True
        for position, index in enumerate(map(int, ids)):
            if index == self.eos and (position or self.bos != self.eos):
                return
            if index in self.special:
                continue
            if not self.tokenizer:
                piece = str(index) if is_first else f" {index}"
            else:
                piece = decoder.step(load_tokenizer(self.tokenizer), index)
            if piece:
                is_first = False
                yield piece

    def token(self, index: SupportsIndex) -> str:
        """Returns one token for display in a figure: "<eos>" for a special one, "␣" for white space."""
        names = {getattr(self, name): f"<{name}>" for name in SPECIAL}
        return names.get(int(index)) or self.text([index]).strip() or "␣"


@functools.lru_cache(maxsize=16)
def load_tokenizer(json: str) -> Tokenizer:
    """Returns the tokenizer that `Tokenizer.to_str` serialised."""
    return Tokenizer.from_str(json)
