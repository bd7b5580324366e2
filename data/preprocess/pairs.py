"""Two texts as one sequence: pairs of sentences, and questions with the text that holds the answer."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int32
from tokenizers import Encoding

from core.errors import UserError
from core.info import Key
from core.vocabulary import load_tokenizer
from data.preprocess.op import Chunk, Examples, Keys, Op, check_keys, column
from data.preprocess.tokenize import as_ids, check_texts, tokens_key
from data.preprocess.tokenizers import RECIPES, Recipe, mark

# t: tokens of both texts

SECOND = 1  # segment of the second text
RAGGED = {"tokens": "tokens", "segments": "", "offsets": ""}  # key of a result -> its role


@dataclasses.dataclass(frozen=True)
class Pair(Op):
    """Joins two texts: begin, first text, separator, second text, end, with the tokenizer's own special tokens.

    Results: `tokens` [t]; `segments` int32 [t], 0 in the first text and 1 in the second; `offsets` int32 [t, 2], where
    each token of the second text begins and ends in that string, in characters, and 0 elsewhere. With answers also
    `start` and `end`, the first and last token of the answer, both 0 if truncation cuts it off. The tokens i to j are
    text[offsets[i, 0] : offsets[j, 1]], up to white space around it. The two strings keep their keys.

    Args:
        first, second: keys of the texts.
        tokenizer: of `data.preprocess.tokenizers`; it learns from both texts of the training split.
        max_length: longer pairs are truncated to this number of tokens, always the longer text first; 0 = never.
        answer: key of the answer, a part of the second text; the first one counts in a list of several.
        answer_start: key of the position of the answer's first character, a number or a list.

    Raises UserError for a key without strings, missing texts, and answers that are not in the second text.
    """

    first: str
    second: str
    tokenizer: Recipe
    max_length: int = 0
    answer: str = ""
    answer_start: str = ""

    stored: ClassVar[bool] = True
    functions: ClassVar[Mapping[str, Any]] = RECIPES

    def __post_init__(self):
        if self.max_length and self.max_length < 5:
            raise ValueError(f"max_length must be 0 or at least 5, as special tokens count, not {self.max_length}")
        if bool(self.answer) != bool(self.answer_start):
            raise ValueError("answer and answer_start go together")

    @property
    def touched(self) -> frozenset[str]:
        answers = {self.answer, self.answer_start, "start", "end"} if self.answer else set()
        return frozenset({self.first, self.second, *RAGGED, *answers})

    @property
    def reads(self) -> Mapping[str, str]:
        answers = dict.fromkeys(filter(None, (self.answer, self.answer_start)), "")
        return {self.first: "text", self.second: "text", **answers}

    @property
    def content(self) -> str:
        return self.tokenizer.content

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> str:
        """Returns the tokenizer's JSON."""
        check_keys("pair", (self.first, self.second), keys, ("text",))
        check_keys("pair", tuple(filter(None, (self.answer, self.answer_start))), keys)
        if taken := (RAGGED.keys() | ({"start", "end"} if self.answer else set())) & keys.keys():
            raise UserError(f"data.preprocess: pair: the set already has a key {min(taken)!r}: rename or drop it first")
        tokenizer = self.tokenizer(self._training_texts(splits["train"]))
        mark(tokenizer)
        if self.max_length:
            tokenizer.enable_truncation(self.max_length, strategy="longest_first")
        return tokenizer.to_str()

    def _training_texts(self, examples: Examples) -> Iterator[str]:
        for key in (self.first, self.second):
            yield from (text for text in column(examples, key) if isinstance(text, str))

    def describe(self, keys: Keys, state: str) -> Keys:
        keys |= {key: Key(role=role, ragged=True) for key, role in RAGGED.items()}
        keys["tokens"] = tokens_key(load_tokenizer(state))
        if self.answer:
            keys = {key: record for key, record in keys.items() if key != self.answer_start}
        return keys

    def __call__(self, chunk: Chunk, state: str) -> Chunk:
        if self.first not in chunk or self.second not in chunk:
            return chunk
        for key in (self.first, self.second):
            check_texts("pair", key, chunk)
        tokenizer = load_tokenizer(state)
        encodings = tokenizer.encode_batch(list(zip(chunk[self.first], chunk[self.second], strict=True)))
        offsets = list(map(_offsets, encodings))
        chunk = chunk | {
            "tokens": [as_ids(tokenizer, encoding.ids) for encoding in encodings],
            "segments": [np.array(encoding.type_ids, np.int32) for encoding in encodings],
            "offsets": offsets,
        }
        if self.answer in chunk and self.answer_start in chunk:
            positions = chunk.pop(self.answer_start)
            rows = zip(chunk[self.second], chunk[self.answer], positions, offsets, strict=True)
            spans = np.array([self._span(*row) for row in rows], np.int32)
            chunk |= {"start": spans[:, 0], "end": spans[:, 1]}
        return chunk

    def _span(self, text: str, answer: Any, start: Any, offsets: Int32[np.ndarray, "t 2"]) -> tuple[int, int]:
        """Returns the first and last token of the answer."""
        answers, starts = list(np.atleast_1d(answer)), list(np.atleast_1d(start))
        if not answers:  # a question without an answer
            return 0, 0
        begin, end = int(starts[0]), int(starts[0]) + len(answers[0])
        if text[begin:end] != answers[0]:
            raise UserError(
                f"data.preprocess: pair: {self.answer!r} {str(answers[0])!r} does not begin at character {begin} of "
                f"{self.second!r}, where {text[begin:end]!r} stands"
            )
        inside = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > begin))
        is_cut = not len(inside) or offsets[:, 1].max() < len(text[:end].rstrip())
        return (0, 0) if is_cut else (int(inside[0]), int(inside[-1]))


def _offsets(encoding: Encoding) -> Int32[np.ndarray, "t 2"]:
    offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
    return np.where(np.array(encoding.sequence_ids, object)[:, None] == SECOND, offsets, 0).astype(np.int32)
