"""Made-up sources and ops in memory, for tests of the loader."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pytest

from core.info import Key
from data import dataset
from data.preprocess import pipeline
from data.preprocess.op import Indices, Op
from data.sources.source import Source


class Rows:
    """Examples from columns; counts the examples that were read."""

    def __init__(self, columns: Mapping[str, Sequence]):
        self.columns, self.read = columns, 0

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def chunk(self, indices: Indices, keys: Collection[str] | None = None) -> dict[str, list]:
        self.read += len(indices)
        wanted = self.columns.keys() if keys is None else keys & self.columns.keys()
        return {key: [self.columns[key][i] for i in indices] for key in wanted}


@dataclasses.dataclass(frozen=True)
class Words(Op):
    """Numbers of the words of `key`, by their length; `fitted` counts calls of `fit`."""

    key: str
    stored = True
    fitted = []

    @property
    def touched(self):
        return frozenset({self.key})

    def fit(self, splits, keys):
        self.fitted.append(self.key)
        return {"most": max(len(value.split()) for value in splits["train"].chunk(range(3), (self.key,))[self.key])}

    def __call__(self, chunk, state):
        if self.key not in chunk:
            return chunk
        ids = [np.array([len(word) for word in text.split()], np.uint16) for text in chunk[self.key]]
        return chunk | {self.key: ids, f"{self.key}_text": chunk[self.key]}

    def describe(self, keys, state):
        return keys | {self.key: Key(role="tokens", ragged=True)}


@dataclasses.dataclass(frozen=True)
class Lengths(Words):
    """The same, not worth storing."""

    stored = False


@dataclasses.dataclass(frozen=True)
class Tags(Op):
    """A class for each word of `key`, with a mask of its own that is 0 at the first word."""

    key: str

    def __call__(self, chunk, state):
        sizes = [len(value) for value in chunk[self.key]]
        masks = [(np.arange(size) > 0).astype(np.float32) for size in sizes]
        return chunk | {"tags": [np.arange(size) for size in sizes], "tags_mask": masks}

    def describe(self, keys, state):
        return keys | {"tags": Key(role="tags", ragged=True), "tags_mask": Key(role="mask", ragged=True)}


@dataclasses.dataclass(frozen=True)
class Doubled(Op):
    """Each example twice."""

    arranges = True
    continues = True

    def arrange(self, split, state, is_training):
        return Twice(split)


class Twice:
    lengths: Mapping = {}

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return 2 * len(self.split)

    def batch(self, indices, padded=None):
        return {"number": self.split.batch(np.asarray(indices) // 2)["number"]}

    def text(self, key, indices):
        raise NotImplementedError


OPS = {"words": Words, "lengths": Lengths, "tags": Tags, "doubled": Doubled}


@pytest.fixture
def make_set(monkeypatch):
    """Returns a maker of a set: split=columns -> its examples by split; `dataset.load` then reads it."""
    monkeypatch.setattr(pipeline, "operations", lambda: OPS)
    Words.fitted.clear()

    def make(keys: Mapping[str, Key] | None = None, content: str = "hash", **splits: Mapping[str, Sequence]):
        source = Source()
        source.keys = keys or {}
        examples = {split: Rows(columns) for split, columns in splits.items()}
        facts = [content, *splits]
        monkeypatch.setattr(dataset, "open_splits", lambda *_: (source, examples, facts))
        return examples

    return make
