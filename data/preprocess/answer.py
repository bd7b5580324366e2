"""The answer of a set: one column becomes `label` (a class) or `target` (a number)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from core.errors import UserError
from core.info import Key
from data.preprocess.op import Chunk, Examples, Keys, Op, check_keys, column

MAX_CLASSES = 1000  # more values are measurements, names or ids


@dataclasses.dataclass(frozen=True)
class Answer(Op):
    """Turns the column `key` into `label` int32, the number of its class, or `target` float, a number.

    Classes are the names that the set defines, else the values of all splits in order: a class that the training rows
    happen to lack then counts as an error of the model.

    Raises UserError for missing values, text in place of numbers, and fractions or too many values as classes.
    """

    key: str
    kind: Literal["class", "number"] = "class"

    @property
    def name(self) -> str:
        """The key of the result."""
        return {"class": "label", "number": "target"}[self.kind]

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({self.key, self.name})

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> Any:
        if self.key not in keys:
            check_keys("data.target", [self.key], keys)
        values = {split: list(column(examples, self.key)) for split, examples in splits.items()}
        for split, part in values.items():
            if missing := sum(map(is_missing, part)):
                raise UserError(f"target {self.key!r} is missing in {missing} of {len(part)} rows of {split!r}")
        every = [value for part in values.values() for value in part]
        if self.kind == "number":
            if texts := [value for value in every if isinstance(value, str)]:
                raise UserError(f"target {self.key!r} holds text such as {texts[0]!r}: set data.target_type='class'")
            return None
        return list(keys[self.key].classes or class_names(every, self.key))

    def __call__(self, chunk: Chunk, state: Any) -> Chunk:
        if self.key not in chunk:
            return chunk
        values = chunk.pop(self.key)
        if self.kind == "number":
            return chunk | {self.name: np.asarray(values, np.float64)}
        index = {name: number for number, name in enumerate(state)}
        is_numbered = not isinstance(values[0], str)
        ...
        return chunk
