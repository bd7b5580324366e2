"""Windows of a running text, for language models. A window is gathered when it is read: the text may be a file."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int, Int32

from core.errors import UserError
from core.vocabulary import load_tokenizer
from data.preprocess.op import Chunk, Examples, Keys, Op, check_keys
from data.splits import ArraySplit, Batch, Lengths, Ragged, text_key

# n: tokens of the text, r: rows of the set that make the text, b: batch, w: tokens of a window, p: positions

MOST_STARTS = 2**22  # examples of an epoch: their random order is held in memory


@dataclasses.dataclass(frozen=True)
class Windows(Op):
    """Cuts the running text of a split, all rows in order, into `tokens` int32 [w] and `labels` int32 [w], the token
    after each; `labels_mask` float32 [w] is 0 at padding. Other keys are dropped.

    A line feed separates the rows of a text whose rows do not end with one.

    Args:
        key: of the tokens.
        size: tokens of a window.
        evaluation: tokens of a window of other splits than "train"; 0 = `size`.
        offsets: "fixed": adjacent windows without overlap; every token but the first is a label exactly once, so that
            a sum over the windows is a sum over the text. "random": in training, a window begins at any token, as in
            nanoGPT; an epoch has each beginning once, or 2^22 evenly spaced ones of a longer text.
        documents: whether rows are documents, packed with an end token between them. `documents` int32 [w] then has the
            number of each token's document within the window, so that attention can stay within it; -1 is padding.

    Raises UserError for a key without tokens, or a text of fewer than two tokens.
    """

    key: str
    size: int
    evaluation: int = 0
    offsets: Literal["fixed", "random"] = "fixed"
    documents: bool = False

    ordered: ClassVar[bool] = True
    arranges: ClassVar[bool] = True

    def __post_init__(self):
        if self.size < 1 or self.evaluation < 0:
            raise ValueError(f"size must be at least 1, and evaluation at least 0, not {self.size}, {self.evaluation}")

    @property
    def continues(self) -> bool:
        return self.offsets == "fixed"

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({self.key, text_key(self.key), "tokens"})

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> list[int]:
        """Returns the tokens between two rows."""
        check_keys("windows", (self.key,), keys, ("tokens",))
        vocabulary, train = keys[self.key].vocabulary, splits["train"]
        if vocabulary is None:
            raise UserError(f"data.preprocess: windows: {self.key!r} has no vocabulary")
        if self.documents:
            if vocabulary.eos is None:
                raise UserError(f"data.preprocess: windows: {self.key!r} has no end token, which separates documents")
            return [vocabulary.eos]
        if len(train) == 1 or not vocabulary.tokenizer:
            return []
        texts = train.chunk(np.arange(min(len(train) - 1, 16)), (text_key(self.key),))[text_key(self.key)]
        if all(text.endswith("\n") for text in texts):
            return []
        return load_tokenizer(vocabulary.tokenizer).encode("\n", add_special_tokens=False).ids

    def describe(self, keys: Keys, state: list[int]) -> Keys:
        record = dataclasses.replace(keys[self.key], ragged=False)
        return {"tokens": record, "labels": record}

    def __call__(self, chunk: Chunk, state: list[int]) -> Chunk:
        return {"tokens": chunk[self.key]} if self.key in chunk else chunk

    def arrange(self, split: ArraySplit, state: list[int], is_training: bool) -> "WindowSplit":
        size = self.size if is_training else self.evaluation or self.size
        text = RunningText(split.columns["tokens"], state)
        return WindowSplit(text, size, every=is_training and self.offsets == "random", documents=self.documents)


class RunningText:
    """Rows of token ids as one sequence, with a separator between rows.

    Attributes:
        size: number of tokens, n.
    """

    def __init__(self, rows: Ragged | np.ndarray, separator: Sequence[int]):
        if isinstance(rows, np.ndarray):  # rows of equal length
            rows = Ragged(rows.reshape(-1), np.arange(len(rows) + 1) * rows.shape[1])
        self.values, self.separator = rows.values, np.array(separator, np.int32)
        self.extra = np.arange(len(rows)) * len(separator)  # tokens of separators before each row
        self.starts, self.stops = rows.offsets[:-1] + self.extra, rows.offsets[1:] + self.extra
        self.size = int(self.stops[-1])

    def __call__(self, positions: Int[np.ndarray, "*p"]) -> tuple[Int32[np.ndarray, "*p"], Int[np.ndarray, "*p"]]:
        """Returns the tokens at positions of the sequence, and the number of the row of each."""
        if not len(self.separator):
            return self.values[positions].astype(np.int32), np.zeros_like(positions)
        row = np.searchsorted(self.starts, positions, side="right") - 1
        after = positions - self.stops[row]  # at least 0 in the separator
        places = np.minimum(positions - self.extra[row], len(self.values) - 1)
        ids = np.where(after < 0, self.values[places], self.separator[np.maximum(after, 0)])
        return ids.astype(np.int32), row


class WindowSplit:
    """The windows of a text; see `Windows`.

    Args:
        size: tokens of a window.
        every: whether windows begin at any token.
        documents: whether batches tell documents apart.
    """

    lengths: Mapping[str, Any] = {}
    longest: Lengths = {}

    def __init__(self, tokens: RunningText, size: int, every: bool = False, documents: bool = False):
        if tokens.size < 2:
            raise UserError(f"data.preprocess: windows: a text needs at least 2 tokens, and this one has {tokens.size}")
        self.tokens, self.size, self.documents = tokens, size, documents
        self.starts = max(tokens.size - size, 1) if every else 0  # 0: adjacent windows

    def __len__(self) -> int:
        return min(self.starts, MOST_STARTS) or -(-(self.tokens.size - 1) // self.size)

    def batch(self, indices: Int[np.ndarray, "b"], padded: Lengths | None = None) -> Batch:
        """Returns the windows at `indices`; the last adjacent window is padded with zeros."""
        indices = np.asarray(indices, np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"windows {indices.min()} to {indices.max()} of {len(self)}")
        starts = indices * self.starts // len(self) if self.starts else indices * self.size
        positions = starts[:, None] + np.arange(self.size + 1)
        real = positions[:, 1:] < self.tokens.size
        ids, rows = self.tokens(np.minimum(positions, self.tokens.size - 1))
        batch = {
            "tokens": np.where(real, ids[:, :-1], 0),
            "labels": np.where(real, ids[:, 1:], 0),
            "labels_mask": real.astype(np.float32),
        }
        if self.documents:
            batch["documents"] = np.where(real, rows[:, :-1] - rows[:, :1], -1).astype(np.int32)
        return batch

    def text(self, key: str, indices: Int[np.ndarray, "b"]) -> list:
        raise UserError(f"{key!r} holds no text: windows of a running text have tokens only")
