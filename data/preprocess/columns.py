"""Ops that choose and name the keys of a set: rename, keep and drop."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from core.errors import UserError
from data.preprocess.op import FOLDER, Chunk, Examples, Keys, Op, check_keys

ROLES = {"label": "label", "target": "target"}  # of numbers with these names


@dataclasses.dataclass(frozen=True, init=False)
class Rename(Op):
    """Renames keys: `rename(label="attributes/age")` calls the nested key "attributes/age" `label`.

    Raises UserError for a key that does not exist, or a new name that another key has.
    """

    new_names: Mapping[str, str]

    def __init__(self, **names: str):
        if not names or not all(isinstance(name, str) for name in names.values()):
            raise ValueError("write NEW='OLD' for each key")
        if len(set(names.values())) < len(names):
            raise ValueError("a key has two new names")
        object.__setattr__(self, "new_names", {old: new for new, old in names.items()})

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({*self.new_names, *self.new_names.values()})

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> None:
        check_keys("rename", list(self.new_names), keys)
        for new in self.new_names.values():
            if new in keys and new not in self.new_names:
                raise UserError(f"data.preprocess: rename: there is another key {new!r}: rename or drop it, too")

    def __call__(self, chunk: Chunk, state: Any) -> Chunk:
        return {self.new_names.get(key, key): values for key, values in chunk.items()}

    def describe(self, keys: Keys, state: Any) -> Keys:
        renamed = {}
        for key, record in keys.items():
            new = self.new_names.get(key, key)
            is_number = key in self.new_names and record.role == "number"
            renamed[new] = dataclasses.replace(record, role=ROLES.get(new, "number")) if is_number else record
        return renamed


@dataclasses.dataclass(frozen=True, init=False)
class _Selection(Op):
    """Keeps some of the keys that no earlier op processed. The state is the list of those to remove."""

    names: tuple[str, ...]

    def __init__(self, *keys: str):
        if not keys or not all(isinstance(key, str) for key in keys):
            raise ValueError("name at least one key, as 'age'")
        object.__setattr__(self, "names", keys)

    @property
    def touched(self) -> frozenset[str]:
        return frozenset()  # nobody asks for a removed key

    def __call__(self, chunk: Chunk, state: Any) -> Chunk:
        return {key: values for key, values in chunk.items() if key not in state}

    def describe(self, keys: Keys, state: Any) -> Keys:
        return {key: record for key, record in keys.items() if key not in state}


class Keep(_Selection):
    """Removes all other keys, but for the answer and other results of earlier ops: `keep("age", "city")`.

    Raises UserError for a key that does not exist.
    """

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> list[str]:
        check_keys("keep", self.names, keys)
        return [key for key, record in keys.items() if key not in self.names and key != FOLDER and not record.dtype]


class Drop(_Selection):
    """Removes keys: `drop("id", "name")`. Raises UserError for a key that does not exist."""

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> list[str]:
        check_keys("drop", self.names, keys)
        return list(self.names)
