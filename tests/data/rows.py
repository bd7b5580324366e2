"""Examples in memory, and splits made of them by the ops of a recipe."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from core.info import Info, Key
from data import dataset
from data.preprocess import pipeline
from data.preprocess.op import Chunk, Examples


class Rows:
    """Examples given as columns."""

    def __init__(self, **columns: Sequence):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def chunk(self, indices: Sequence[int], keys: Collection[str] | None = None) -> Chunk:
        return {key: [values[i] for i in indices] for key, values in self.columns.items()}


def processed(ops: Sequence[str], roles: Mapping[str, str], folder=None, **splits: Rows):
    """Returns the splits after the ops, and their description; with `folder`, their arrays are files there.

    Args:
        roles: key -> its role before preprocessing.
    """
    keys = {key: Key(role=role) for key, role in roles.items()}
    fitted, examples, keys = pipeline.fit(tuple(ops), splits, keys)
    info = Info("made up", {}, keys, {"preprocess": fitted.to_json()})
    return dataset._collected(info, fitted, examples, folder)


def new(info: Info, **columns: Sequence) -> Chunk:
    """Returns new inputs after the fitted ops."""
    return pipeline.Pipeline.from_json(info.state["preprocess"])({key: list(x) for key, x in columns.items()})


def listed(examples: Examples) -> list[dict[str, Any]]:
    """Returns the examples of a source one by one, each as key -> value."""
    chunk = examples.chunk(np.arange(len(examples)))
    return [dict(zip(chunk, values, strict=True)) for values in zip(*chunk.values(), strict=True)]


def all_of(split) -> dict[str, np.ndarray]:
    """Returns all examples as one batch."""
    return split.batch(np.arange(len(split)))
