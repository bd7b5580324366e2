"""Passages of a running text between special tokens, one or two per example, for the pretraining of encoders."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from core.errors import UserError
from core.info import Key
from core.vocabulary import Vocabulary
from data.preprocess.op import Chunk, Examples, Keys, Op, check_keys
from data.preprocess.tokenize import tokens_key
from data.preprocess.tokenizers import mark
from data.preprocess.windows import RunningText, WindowSplit
from data.splits import ArraySplit, Batch, Lengths, text_key

# b: batch, t: tokens of an example

Special = Mapping[str, int]  # "bos", "sep", "eos" -> id
FOLLOWS = ("follows", "random")  # classes of `next`


@dataclasses.dataclass(frozen=True)
class Passages(Op):
    """Cuts the running text of a split, all rows in order, into passages: begin, passage, end. Results: `tokens` int32
    [t], `tokens_lengths`, `segments` int32 [t]; other keys are dropped.

    With `pairs` an example has two passages, each followed by an end or separator token; `segments` is 0 in the
    first and 1 in the second, and `next` is 0 ("follows") or 1 ("random"). In half of the examples the second
    passage follows the first one in the text, in the others it is from anywhere in the split (BERT: Devlin et al. 2019,
    arXiv 1810.04805, section 3.1, task 2).

    In training, passages begin at any token; an epoch has each beginning once. In other splits they are adjacent.

    Args:
        key: of the tokens, which have no begin and end: tokenize(..., special=False).
        size: t, with the special tokens.
        pairs: whether examples have two passages.

    Raises UserError for a key without tokens, and for a vocabulary without tokens for begin and end.
    """

    key: str
    size: int
    pairs: bool = False

    ordered: ClassVar[bool] = True
    arranges: ClassVar[bool] = True
    reads_inputs: ClassVar[bool] = True

    def __post_init__(self):
        if self.size < (least := 3 + 2 * self.pairs):
            raise ValueError(f"size must be at least {least}, as special tokens count, not {self.size}")

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({self.key, text_key(self.key), "tokens"})

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> dict[str, int]:
        """Returns the ids of the tokens for begin, between two passages, and end."""
        check_keys("passages", (self.key,), keys, ("tokens",))
        vocabulary = keys[self.key].vocabulary or Vocabulary(0)
        if vocabulary.bos is None or vocabulary.eos is None:
            raise UserError(f"data.preprocess: passages: {self.key!r} has no tokens for begin and end")
        between = vocabulary.eos if vocabulary.sep is None else vocabulary.sep
        return {"bos": vocabulary.bos, "sep": between, "eos": vocabulary.eos}

    def describe(self, keys: Keys, state: Special) -> Keys:
        follows = {"next": Key(role="label", classes=FOLLOWS)} if self.pairs else {}
        tokenizer = Tokenizer.from_str(keys[self.key].vocabulary.tokenizer)
        mark(tokenizer)
        tokens = dataclasses.replace(tokens_key(tokenizer), ragged=False)
        return {"tokens": tokens, "tokens_lengths": Key(role="lengths"), "segments": Key(), **follows}

    def __call__(self, chunk: Chunk, state: Special) -> Chunk:
        return {"tokens": chunk[self.key]} if self.key in chunk else chunk

    def single(self, chunk: Chunk, state: Special) -> Chunk:
        """Returns each text as one passage, cut off at `size`."""
        if "tokens" not in chunk:
            return chunk
        rows = [np.asarray(row, np.int32)[: self.size - 2] for row in chunk["tokens"]]
        lengths = np.array([len(row) for row in rows])
        tokens = np.stack([np.pad(row, (0, self.size - 2 - len(row))) for row in rows])
        real = np.arange(self.size - 2) < lengths[:, None]
        return enclosed([(tokens, real)], state)

    def arrange(self, split: ArraySplit, state: Special, is_training: bool) -> "PassageSplit":
        return PassageSplit(RunningText(split.columns["tokens"], []), self.size, self.pairs, state, is_training)


class PassageSplit(WindowSplit):
    """The examples of a split; see `Passages`.

    Args:
        special: the ids of the tokens around passages.
        every: whether passages begin at any token.
    """

    def __init__(self, tokens: RunningText, size: int, pairs: bool, special: Special, every: bool):
        super().__init__(tokens, size - 2 - pairs, every)
        self.pairs, self.special = pairs, special

    def batch(self, indices: Int[np.ndarray, "b"], padded: Lengths | None = None) -> Batch:
        """Returns the examples at `indices`. The last passage of a split may be shorter, and is then padded."""
        window = super().batch(indices)
        tokens, real = window["tokens"], window["labels_mask"] > 0
        if not self.pairs:
            return enclosed([(tokens, real)], self.special)
        half = self.size // 2
        is_random, other, there = self._random(np.asarray(indices), self.size - half)
        second = np.where(is_random[:, None], other, tokens[:, half:])
        is_real = np.where(is_random[:, None], there, real[:, half:])
        batch = enclosed([(tokens[:, :half], real[:, :half]), (second, is_real)], self.special)
        return batch | {"next": is_random.astype(np.int32)}

    def _random(self, indices: Int[np.ndarray, "b"], size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns whether each example takes a passage from elsewhere, that passage, and its real tokens: functions of
        the example's index alone."""
        draws = np.array([np.random.default_rng(index).random(2) for index in indices.tolist()]).reshape(-1, 2)
        starts = (draws[:, 1] * max(self.tokens.size - size, 1)).astype(np.int64)
        positions = starts[:, None] + np.arange(size)
        real = positions < self.tokens.size
        ids, _ = self.tokens(np.minimum(positions, self.tokens.size - 1))
        return draws[:, 0] < 0.5, np.where(real, ids, 0), real


def enclosed(passages: list[tuple[np.ndarray, np.ndarray]], special: Special) -> Batch:
    """Returns passages between special tokens; padding comes last.

    Args:
        passages: the tokens int32 [b, w] and their masks bool [b, w] of the first, and perhaps of the second.
    """
    count = len(passages[0][0])
    columns, segments = [np.full((count, 1), special["bos"])], [np.zeros((count, 1))]
    kept = [np.ones((count, 1), bool)]
    for number, (tokens, real) in enumerate(passages):
        end = special["eos" if number + 1 == len(passages) else "sep"]
        columns += [tokens, np.full((count, 1), end)]
        kept += [real, np.ones((count, 1), bool)]
        segments.append(np.full((count, tokens.shape[1] + 1), number))
    mask = np.concatenate(kept, 1)
    order = np.argsort(~mask, axis=1, kind="stable")  # real tokens first
    found = (np.take_along_axis(np.concatenate(x, 1), order, 1) for x in (columns, segments))
    real = np.take_along_axis(mask, order, 1)
    tokens, numbers = (np.where(real, x, 0).astype(np.int32) for x in found)
    return {"tokens": tokens, "tokens_lengths": mask.sum(1).astype(np.int32), "segments": numbers}
