"""Vocabulary: token ids, the special ids, and the conversion of ids to text."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import SupportsIndex

from tokenizers import Tokenizer

SPECIAL = ("pad", "bos", "eos", "unk", "mask", "sep")  # names of the fields that hold special ids


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

    @property
    def special(self) -> tuple[int, ...]:
        """All special ids."""
        ids = (getattr(self, name) for name in SPECIAL)
        return tuple(index for index in ids if index is not None)

    def text(self, ids: Iterable[SupportsIndex]) -> str:
        """Returns the text of token ids up to the first `eos`, without special tokens."""
        ids = [int(index) for index in ids]
        ids = ids[: ids.index(self.eos)] if self.eos in ids else ids
        kept = [index for index in ids if index not in self.special]
        return load_tokenizer(self.tokenizer).decode(kept) if self.tokenizer else " ".join(map(str, kept))

    def token(self, index: SupportsIndex) -> str:
        """Returns one token for display in a figure: "<eos>" for a special one, "␣" for white space."""
        names = {getattr(self, name): f"<{name}>" for name in SPECIAL}
        return names.get(int(index)) or self.text([index]).strip() or "␣"


@functools.lru_cache(maxsize=16)
def load_tokenizer(json: str) -> Tokenizer:
    """Returns the tokenizer that `Tokenizer.to_str` serialised."""
    return Tokenizer.from_str(json)
