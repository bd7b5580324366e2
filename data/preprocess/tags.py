"""One tag per word, for taggers: aligns the words of a text with its tokens.

Words are separated by spaces, or given as a list. A tag belongs to the first token of its word; the word's other
tokens, <bos>, <eos> and words without a tag have none.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int32
from tokenizers import Encoding, Tokenizer

from core.errors import UserError, nearest
from data.preprocess.text import Columns, Ids

UNTAGGED = -1  # the value of TFDS for a missing label


def words(texts: Sequence[str]) -> list[str]:
    """Returns the words of all texts."""
    return [word for text in texts for word in text.split()]


def number(columns: Mapping[str, Columns], key: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Converts the tags `key` of every split, numbers or space-separated strings, to numbers from 0.

    Returns their names.

    Args:
        names: of the numbers, if the set defines them; the numbers then stay.

    Raises:
        UserError: `key` does not exist, or does not hold tags.
    """
    for values in columns.values():
        if key not in values:
            raise UserError(f"data.tags: {key!r} does not exist: {nearest(key, values)}")
        values[key] = [_list(tags) for tags in values[key]]
        if any(tags.ndim != 1 or tags.dtype.kind not in "iuU" for tags in values[key]):
            raise UserError(f"data.tags: {key!r} must hold one tag per word, as a list or separated by spaces")
    if names:
        return names
    lists = [tags for values in columns.values() for tags in values[key] if tags.size]
    every = np.unique(np.concatenate(lists or [np.zeros(0, np.int32)]))
    every = every[every != UNTAGGED] if every.dtype.kind in "iu" else every
    for values in columns.values():
        values[key] = [
            np.where(np.isin(tags, every), np.searchsorted(every, tags), UNTAGGED).astype(np.int32)
            for tags in values[key]
        ]
    return tuple(map(str, every))


def _list(tags: np.ndarray) -> np.ndarray:
    """Returns space-separated tags as an array; a list stays, except that an empty one gets a dtype."""
    if tags.dtype == object:
        tags = np.array(tags.item().split(), str)
    return tags if tags.size else np.zeros(0, np.int32)


def encode(tokenizer: Tokenizer, texts: Sequence[str], tags: Ids, key: str) -> tuple[Ids, Ids]:
    """Returns the token ids of every text, and the tag of every token.

    Raises:
        UserError: the numbers of words and tags of a text differ.
    """
    for text, values in zip(texts, tags, strict=True):
        if len(text.split()) != len(values):
            raise UserError(f"data.tags: {key!r} has {len(values)} tags for the {len(text.split())} words {text!r}")
    encodings = encode_words(tokenizer, texts)
    at_tokens = []
    for encoding, values in zip(encodings, tags, strict=True):
        at = np.full(len(encoding.ids), UNTAGGED, np.int32)
        first = starts(encoding)
        at[first] = values[[encoding.word_ids[i] for i in first]]
        at_tokens.append(at)
    return [np.array(encoding.ids, np.int32) for encoding in encodings], at_tokens


def encode_words(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Encoding]:
    """Returns the tokens of every text; a token lies within one word."""
    return tokenizer.encode_batch([text.split() for text in texts], is_pretokenized=True)


def starts(encoding: Encoding) -> Int32[np.ndarray, "_"]:
    """Returns the positions of the first token of every word."""
    words = np.array([UNTAGGED if word is None else word for word in encoding.word_ids])
    return np.flatnonzero((words != UNTAGGED) & (np.diff(words, prepend=UNTAGGED) != 0)).astype(np.int32)
