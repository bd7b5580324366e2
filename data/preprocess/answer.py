"""The answer of a set: one column becomes `label` (a class) or `target` (a number)."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from core.errors import UserError, nearest
from core.info import Key
from data.preprocess.op import Chunk, Examples, Keys, Op, column, place
from data.preprocess.values import NUMBER, written

MAX_CLASSES = 1000  # more values are measurements, names or ids
OFFSET = 100  # standard deviations between 0 and the mean, from where float32 loses digits that the errors need


@dataclasses.dataclass(frozen=True)
class Answer(Op):
    """Turns the column `key` into `label` int32, the number of its class, or `target` float64, a number.

    Classes are the names that the set defines, else the values of all splits in order: a class that the training rows
    happen to lack then counts as an error of the model. A target far from 0 is stored minus `offset`, its mean, so that
    32 bits keep its digits; see the key's statistics.

    Raises UserError for missing values, texts in place of numbers, fractions or too many values as classes, names of
    classes that differ only by case or spaces, and an answer that is the same for all training examples.
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
            raise UserError(f"data.target: {self.key!r} does not exist: {nearest(self.key, keys)}")
        if self.name != self.key and self.name in keys:
            raise UserError(f"data.target: {self.key!r} becomes {self.name!r}, but there is such a column: rename it")
        values = {split: self._values(split, examples) for split, examples in splits.items()}
        fit = self._fit_classes if self.kind == "class" else self._fit_numbers
        return fit(splits, values, keys[self.key].classes)

    def __call__(self, chunk: Chunk, state: Any) -> Chunk:
        if self.key not in chunk:
            return chunk
        chunk = dict(chunk)
        values = chunk.pop(self.key)
        if self.kind == "number":
            numbers = np.array([np.nan if value is None else value for value in values], np.float64)
            return chunk | {self.name: numbers - state["offset"]}
        if state["are_positions"]:
            return chunk | {self.name: np.asarray(values)}
        index = {name: number for number, name in enumerate(state["classes"])}
        # only new inputs have classes that the set lacks
        labels = [index.get(written(value), -1) for value in values]
        return chunk | {self.name: np.array(labels, np.int32)}

    def describe(self, keys: Keys, state: Any) -> Keys:
        keys = {key: record for key, record in keys.items() if key != self.key}
        if self.kind == "class":
            return keys | {self.name: Key(dtype="int32", role="label", classes=tuple(state["classes"]))}
        return keys | {self.name: Key(dtype="float64", role="target", statistics=dict(state))}

    def _values(self, split: str, examples: Examples) -> list:
        if self.key not in examples.chunk([0], (self.key,)):
            raise UserError(f"target {self.key!r} does not exist in the file of {split!r}")
        return list(column(examples, self.key))

    def _fit_classes(
        self, splits: Mapping[str, Examples], values: Mapping[str, list], classes: tuple[str, ...]
    ) -> dict[str, Any]:
        are_positions = bool(classes) and not any(isinstance(value, str) for value in values["train"])
        for split, part in values.items():
            missing = [i for i, value in enumerate(part) if _is_missing(value) or (are_positions and value == -1)]
            self._refuse_missing(splits[split], missing, len(part))
        every = [value if are_positions else written(value) for part in values.values() for value in part]
        names = classes or class_names(every, self.key)
        known: dict[str, str] = {}
        for name in names:
            other = known.setdefault(_normal(name), name)
            if other != name and not are_positions:
                where = next(
                    place(splits[split], part.index(value))
                    for split, part in values.items()
                    for value in part
                    if written(value) == name
                )
                raise UserError(
                    f"target {self.key!r}: classes {other!r} and {name!r} ({where}) differ only by case or spaces: "
                    "write them alike"
                )
        if len(set(values["train"])) == 1:
            raise UserError(f"target {self.key!r} is {values['train'][0]!r} in all training rows: nothing to learn")
        return {"classes": list(names), "are_positions": are_positions}

    def _fit_numbers(self, splits: Mapping[str, Examples], values: Mapping[str, list], _: Any) -> dict[str, float]:
        for split, part in values.items():
            examples = splits[split]
            missing = [i for i, value in enumerate(part) if _is_missing(value)]
            self._refuse_missing(examples, missing, len(part))
            texts = [i for i, value in enumerate(part) if isinstance(value, str)]
            if texts:
                first = next((i for i in texts if not re.fullmatch(NUMBER, part[i])), texts[0])
                raise UserError(
                    f"target {self.key!r} holds text such as {part[first]!r} ({place(examples, first)}): "
                    "set data.target_type='class', or correct the file"
                )
            if infinite := [i for i, value in enumerate(part) if not np.isfinite(value)]:
                raise UserError(f"target {self.key!r} is {part[infinite[0]]} in {place(examples, infinite[0])}")
        train = np.array(values["train"], np.float64)
        if np.ptp(train) == 0:
            raise UserError(f"target {self.key!r} is {train[0]} in all training rows: nothing to learn")
        mean, std = float(train.mean()), float(train.std())
        return {"mean": mean, "std": std, "offset": mean if abs(mean) > OFFSET * std else 0.0}

    def _refuse_missing(self, examples: Examples, missing: list[int], size: int) -> None:
        if missing:
            first = place(examples, missing[0])
            raise UserError(f"target {self.key!r} is missing in {len(missing)} of {size} rows, such as {first}")


def class_names(values: Sequence[str], key: str) -> tuple[str, ...]:
    """Returns the names of classes: numbers in numeric order, then texts.

    Raises UserError if the values are measurements and not classes.
    """
    names = set(values)
    numbers = {name: float(name) for name in names if re.fullmatch(NUMBER, name)}
    fractions = [name for name in sorted(names) if name in numbers and numbers[name] != round(numbers[name])]
    if fractions and len(numbers) == len(names):
        raise UserError(f"target {key!r} holds fractions such as {fractions[0]}: set data.target_type='number'")
    if len(names) > MAX_CLASSES:
        raise UserError(f"target {key!r} has {len(names)} different values: classes should repeat")
    return tuple(sorted(names, key=lambda name: (name not in numbers, numbers.get(name, 0.0), name)))


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def _normal(name: str) -> str:
    """Returns what two spellings of one class have in common. "m" and "M" are two letters."""
    return name.strip().casefold() if len(name.strip()) > 1 else name.strip()
