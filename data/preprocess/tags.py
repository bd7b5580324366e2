"""Words with one tag each, for taggers.

A tag belongs to the first token of its word; the word's other tokens, begin, end and words without a tag have none.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool
from tokenizers import Encoding

from core.errors import UserError
from core.info import Key
from core.vocabulary import load_tokenizer
from data.preprocess.op import Chunk, Examples, Keys, Op, check_keys, column
from data.preprocess.tokenize import as_ids, check_free, tokens_key
from data.preprocess.tokenizers import RECIPES, Recipe, mark
from data.splits import text_key

# t: tokens of a text

UNTAGGED = -1  # the value of TFDS for a missing label


@dataclasses.dataclass(frozen=True)
class TokenizeWords(Op):
    """Turns words into token ids, word by word, and their tags into one tag per token.

    Words and tags are lists, or strings separated by white space. `<tags>_mask` is 1 at the first token of each word
    that has a tag. Without tags, in new inputs, `<words>_starts` is true at the first token of every word. Texts are
    never truncated, so that no word loses its tag.

    Args:
        words, tags: keys.
        tokenizer: of `data.preprocess.tokenizers`; it learns from the words of the training split.

    Raises UserError for numbers of words and tags that differ.
    """

    words: str
    tags: str
    tokenizer: Recipe

    stored: ClassVar[bool] = True
    functions: ClassVar[Mapping[str, Any]] = RECIPES

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({self.words, self.tags, text_key(self.words), f"{self.tags}_mask"})

    @property
    def reads(self) -> Mapping[str, str]:
        return {self.words: "text", self.tags: "tags"}

    @property
    def content(self) -> str:
        return self.tokenizer.content

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> dict[str, Any]:
        """Returns the tokenizer's JSON and the names of the classes: those of the set, else all tags in order."""
        check_keys("tokenize_words", (self.words,), keys, ("text",))
        check_keys("tokenize_words", (self.tags,), keys)
        check_free("tokenize_words", (self.words, self.tags), keys)
        tokenizer = self.tokenizer(word for words in column(splits["train"], self.words) for word in as_list(words))
        mark(tokenizer)
        classes, values = keys[self.tags].classes, []
        if not classes:
            values = _distinct(column(examples, self.tags) for examples in splits.values())
        return {"tokenizer": tokenizer.to_str(), "classes": list(classes) or list(map(str, values)), "values": values}

    def describe(self, keys: Keys, state: dict[str, Any]) -> Keys:
        keys[text_key(self.words)] = keys[self.words]
        keys[self.words] = tokens_key(load_tokenizer(state["tokenizer"]))
        keys[self.tags] = Key(role="tags", classes=tuple(state["classes"]), ragged=True)
        keys[f"{self.tags}_mask"] = Key(role="mask", ragged=True)
        return keys

    def __call__(self, chunk: Chunk, state: dict[str, Any]) -> Chunk:
        if self.words not in chunk:
            return chunk
        tokenizer, texts = load_tokenizer(state["tokenizer"]), list(map(as_list, chunk[self.words]))
        encodings = tokenizer.encode_batch(texts, is_pretokenized=True)
        first = list(map(starts, encodings))
        ids = [as_ids(tokenizer, encoding.ids) for encoding in encodings]
        chunk = chunk | {text_key(self.words): chunk[self.words], self.words: ids}
        if self.tags not in chunk:
            return chunk | {f"{self.words}_starts": first}
        index = {value: number for number, value in enumerate(state["values"])}
        at_tokens = []
        for words, tags, encoding, is_first in zip(texts, chunk[self.tags], encodings, first, strict=True):
            tags = as_list(tags)
            if len(words) != len(tags):
                raise UserError(
                    f"data.preprocess: tokenize_words: {self.tags!r} has {len(tags)} tags for the {len(words)} words "
                    f"{' '.join(words)!r}"
                )
            numbers = np.array([index.get(tag, UNTAGGED) for tag in tags] if index else tags, np.int32)
            at = np.full(len(encoding.ids), UNTAGGED, np.int32)
            at[is_first] = numbers[[encoding.word_ids[i] for i in np.flatnonzero(is_first)]]
            at_tokens.append(at)
        masks = [(at != UNTAGGED).astype(np.float32) for at in at_tokens]
        return chunk | {self.tags: at_tokens, f"{self.tags}_mask": masks}


def as_list(value: Any) -> list:
    """Returns the items of a list or array, or of a string separated by white space; a single number is one item.

    Raises UserError for a missing value.
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        raise UserError("data.preprocess: tokenize_words: words or tags are missing in an example")
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list):
        return value
    values = np.atleast_1d(value)
    return values.astype(np.int64).tolist() if values.dtype.kind == "f" else values.tolist()


def _distinct(columns: Iterator[Iterator[Any]]) -> list[str] | list[int]:
    """Returns the different tags in order."""
    seen = {tag for values in columns for tags in values for tag in as_list(tags)}
    return sorted(seen - {UNTAGGED})


def starts(encoding: Encoding) -> Bool[np.ndarray, "t"]:
    """Returns whether each token is the first of its word."""
    words: Sequence[int] = [UNTAGGED if word is None else word for word in encoding.word_ids]
    return (np.array(words, int) != UNTAGGED) & (np.diff(words, prepend=UNTAGGED) != 0)
