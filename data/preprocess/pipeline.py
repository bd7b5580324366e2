"""The preprocess ops of a recipe in order: parsed from text, fitted on the training split, run on new inputs."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import names
from core.calls import parse
from core.errors import UserError
from data.preprocess.op import FOLDER, Chunk, Examples, Keys, Mapped, Op, chunks
from data.preprocess.paths import paths

WHERE = "config.data.preprocess"


def parse_op(text: str) -> Op:
    """Returns the op of a call. Raises UserError for an unknown op or argument, and suggests the nearest."""
    options = operations()
    name = parse(text, WHERE).name
    functions = options[name].functions if name in options else {}
    return names.call_option(options, text, WHERE, functions)


def operations() -> Mapping[str, type[Op]]:
    """Returns name -> class of every op in this folder."""
    return names.subclasses("data.preprocess", Op)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Fitted ops in order.

    Attributes:
        texts: the calls, as in the recipe.
        states: of each op, as JSON.
    """

    texts: tuple[str, ...]
    states: tuple[Any, ...]

    @functools.cached_property
    def ops(self) -> tuple[Op, ...]:
        return tuple(map(parse_op, self.texts))

    @property
    def rate(self) -> int | None:
        """Samples per second of the sounds that the ops were fitted on; None if no op reads sounds."""
        return next((state["rate"] for state in self.states if isinstance(state, dict) and "rate" in state), None)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Returns the changed examples, new inputs that were read together."""
        for op, state in zip(self.ops, self.states, strict=True):
            op.check(chunk, state)
            chunk = op.single(op(chunk, state), state)
        return chunk

    def applied(self, splits: Mapping[str, Examples]) -> dict[str, Examples]:
        """Returns the splits with all ops applied on access."""
        for op, state in zip(self.ops, self.states, strict=True):
            splits = {name: Mapped(examples, op, state) for name, examples in splits.items()}
        return dict(splits)

    def files(self, splits: Mapping[str, Examples]) -> list[Path]:
        """Returns the files that the examples name and the ops open."""
        found = []
        for op, state in zip(self.ops, self.states, strict=True):
            if op.opens:
                key = op.opens[0]
                for examples in splits.values():
                    found += [path for chunk in chunks(examples, (key, FOLDER)) for path in paths(chunk, key)]
            splits = {name: Mapped(examples, op, state) for name, examples in splits.items()}
        return found

    def to_json(self) -> list[list[Any]]:
        return [list(pair) for pair in zip(self.texts, self.states, strict=True)]

    @classmethod
    def from_json(cls, pairs: list[list[Any]]) -> "Pipeline":
        """Inverse of `to_json`."""
        return cls(tuple(text for text, _ in pairs), tuple(state for _, state in pairs))


def fit(
    texts: tuple[str, ...], splits: Mapping[str, Examples], keys: Keys, states: Sequence[Any] | None = None
) -> tuple[Pipeline, dict[str, Examples], Keys]:
    """Fits each op on the results of those before it, or takes the `states` of ops fitted on other data.

    Returns the fitted ops, the splits with all ops applied on access, and their description.
    """
    found = []
    for number, text in enumerate(texts):
        op = parse_op(text)
        if op.arranges and text != texts[-1]:
            raise UserError(f"data.preprocess: {text} makes new examples: it must be the last op")
        try:
            state = op.fit(splits, keys) if states is None else states[number]
            keys = op.describe(dict(keys), state)
        except UserError as error:
            prefix = "" if str(error).startswith("data.") else f"{WHERE.removeprefix('config.')}: {text}: "
            raise UserError(f"{prefix}{error}") from error
        splits = {name: Mapped(examples, op, state) for name, examples in splits.items()}
        found.append(state)
    return Pipeline(tuple(texts), tuple(found)), dict(splits), keys
