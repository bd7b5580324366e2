"""Texts as token ids."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int32, UInt16
from tokenizers import Tokenizer

from core.errors import UserError
from core.info import Key
from core.vocabulary import Vocabulary, load_tokenizer
from data.preprocess.op import FOLDER, Chunk, Examples, Keys, Op, check_keys, column
from data.preprocess.tokenizers import RECIPES, Recipe, mark
from data.splits import text_key

# t: tokens of a text

Ids = UInt16[np.ndarray, "t"] | Int32[np.ndarray, "t"]


@dataclasses.dataclass(frozen=True)
class Tokenize(Op):
    """Turns strings into token ids, between the tokenizer's tokens for begin and end.

    Tokenizers learn from the training split. The unchanged strings stay under the key `<key>_text`.

    Args:
        keys: one key or several.
        tokenizer: of `data.preprocess.tokenizers`, such as bpe(4000) or file('tokenizer.json').
        max_length: longer texts are truncated to this number of tokens, begin and end included; 0 = never.
        shared: whether one tokenizer serves all keys; otherwise each has its own.
        special: whether the tokens for begin and end enclose a text. A running text for `windows` has none.

    Raises UserError for a key without strings, and for missing texts.
    """

    keys: str | tuple[str, ...]
    tokenizer: Recipe
    max_length: int = 0
    shared: bool = False
    special: bool = True

    stored: ClassVar[bool] = True
    functions: ClassVar[Mapping[str, Any]] = RECIPES

    def __post_init__(self):
        if not self.names:
            raise ValueError("keys are missing")
        least = 2 * self.special
        if self.max_length and self.max_length <= least:
            raise ValueError(f"max_length must be 0 or above {least}, as begin and end count, not {self.max_length}")

    @property
    def names(self) -> tuple[str, ...]:
        """The keys."""
        return (self.keys,) if isinstance(self.keys, str) else self.keys

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({*self.names, *map(text_key, self.names)})

    @property
    def reads(self) -> Mapping[str, str]:
        return dict.fromkeys(self.names, "text")

    @property
    def content(self) -> str:
        return self.tokenizer.content

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> dict[str, str]:
        """Returns key -> JSON of its tokenizer."""
        check_keys("tokenize", self.names, keys, ("text",))
        check_free("tokenize", self.names, keys)
        groups = [self.names] if self.shared else [(name,) for name in self.names]
        state = {}
        for group in groups:
            tokenizer = self.tokenizer(self._training_texts(splits["train"], group))
            if self.special:
                mark(tokenizer)
            if self.max_length:
                tokenizer.enable_truncation(self.max_length)
            state |= dict.fromkeys(group, tokenizer.to_str())
        return state

    def _training_texts(self, examples: Examples, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            yield from (text for text in column(examples, name) if isinstance(text, str))
        if not self.special and len(examples) > 1:
            yield "\n"  # `windows` puts it between the rows of a running text

    def describe(self, keys: Keys, state: dict[str, str]) -> Keys:
        for name in self.names:
            keys[text_key(name)] = keys[name]
            keys[name] = tokens_key(load_tokenizer(state[name]))
        return keys

    def __call__(self, chunk: Chunk, state: dict[str, str]) -> Chunk:
        for name in self.names:
            if name in chunk:
                check_texts("tokenize", name, chunk)
                encoded = encode(load_tokenizer(state[name]), chunk[name], self.special)
                chunk = chunk | {text_key(name): chunk[name], name: encoded}
        return chunk


def tokens_key(tokenizer: Tokenizer) -> Key:
    """Returns the description of token ids."""
    return Key(role="tokens", vocabulary=Vocabulary.of(tokenizer), ragged=True)


def encode(tokenizer: Tokenizer, texts: Sequence[str], special: bool = True) -> list[Ids]:
    """Returns the token ids of every text, computed on all cores."""
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=special)
    return [as_ids(tokenizer, encoding.ids) for encoding in encodings]


def as_ids(tokenizer: Tokenizer, ids: Sequence[int]) -> Ids:
    """Returns token ids in 16 bits if all ids of the tokenizer fit."""
    return np.array(ids, np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.int32)


def check_texts(op: str, key: str, chunk: Chunk) -> None:
    """Raises UserError, which shows the example's other values, unless every value of a key is a string."""
    for row, value in enumerate(chunk[key]):
        if not isinstance(value, str):
            what = "is missing" if value is None or isinstance(value, float) else f"is a {type(value).__name__}"
            others = {name: values[row] for name, values in chunk.items() if name not in (key, FOLDER)}
            shown = [f"{name}={value!s:.40}" for name, value in others.items() if np.ndim(value) == 0][:3]
            where = f"the example with {', '.join(shown)}" if shown else f"example {row + 1} of {len(chunk[key])}"
            raise UserError(f"data.preprocess: {op}: {key!r} {what}, not a text, in {where}")


def check_free(op: str, names: Collection[str], keys: Keys) -> None:
    """Raises UserError if the set has a key that belongs to the results for one of `names`."""
    for name in names:
        for reserved in (text_key(name), f"{name}_mask", f"{name}_lengths", f"{name}_starts"):
            if reserved in keys:
                raise UserError(
                    f"data.preprocess: {op}: the set has a key {reserved!r}, which {op} makes of {name!r}: drop it by "
                    f"\"drop('{reserved}')\" or rename it, before {op}"
                )
