"""The columns of a table as one vector, `features`; all state is fitted on the training rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from core.errors import UserError, nearest
from core.info import Key
from data.preprocess.numbers import Scaling, encode_numbers, fit_numbers, numbers_width
from data.preprocess.op import FOLDER, Chunk, Examples, Keys, Op, check_keys, column
from data.splits import text_key

# n: rows, f: features

MAX_CATEGORIES = 1000  # texts with more values are names, ids or free text: one-hot vectors only memorise them
MOST_BINS = 2**16  # a larger number is a slip, for which the memory would not suffice
ROLES = ("number", "text", "label", "target")  # of columns before preprocessing


@dataclasses.dataclass(frozen=True)
class Features(Op):
    """Joins the columns of numbers, dates and categories that no earlier op processed into `features` float32 [f].

    Numbers are standardised; missing and infinite ones become the mean, and a 1 in an extra feature if training rows
    had some. Texts are one-hot; a text that the training rows lack is all zeros. Columns that do not vary are left out.
    The key's `columns` tell a model which features belong together.

    Attributes:
        keep: the columns to use; () is all of them.
        drop: columns that stay as they are.
        scaling: of numbers: "standard", or "quantile", the normal score of their rank among the training rows.
        bins: a scaled number becomes the shares of up to so many quantile bins that lie below it (piecewise-linear
            encoding: Gorishniy et al. 2022, arXiv 2203.05556); 0: one feature.

    Raises UserError for unknown columns, too many different texts, a table that does not vary, and, in new rows, a
    column that is missing, holds text instead of numbers, or holds only unknown texts.
    """

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    scaling: Scaling = "standard"
    bins: int = 0

    def __post_init__(self):
        if not 0 <= self.bins <= MOST_BINS:
            raise ValueError(f"bins is {self.bins}: give a number of bins, at most {MOST_BINS}, or 0")

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> Any:
        originals = {text_key(key) for key, record in keys.items() if record.role == "tokens"}
        columns = {
            key: record
            for key, record in keys.items()
            if record.role in ROLES and not record.dtype and key not in originals
        }
        check_keys("features", (*self.keep, *self.drop), columns)
        used = [key for key in columns if key not in self.drop and (not self.keep or key in self.keep)]
        state = [self._fit_column(key, list(column(splits["train"], key))) for key in used]
        state = {"used": used, "columns": [facts for facts in state if facts]}
        if not state["columns"]:
            raise UserError(f"no column varies over the training rows: {', '.join(used)}")
        for split, examples in splits.items():
            if split != "train":
                _check_columns([facts["name"] for facts in state["columns"]], examples.chunk(np.arange(1)), split)
                texts = [facts["name"] for facts in state["columns"] if "values" in facts]
                self.check({key: list(column(examples, key)) for key in texts}, state)
        return state

    def __call__(self, chunk: Chunk, state: Any) -> Chunk:
        _check_columns([facts["name"] for facts in state["columns"]], chunk, "")
        parts = [_encoded(facts, chunk[facts["name"]]) for facts in state["columns"]]
        others = {key: values for key, values in chunk.items() if key not in state["used"]}
        return others | {"features": np.concatenate(parts, axis=1)}

    def describe(self, keys: Keys, state: Any) -> Keys:
        others = {key: record for key, record in keys.items() if key not in state["used"]}
        sizes = {facts["name"]: _width(facts) for facts in state["columns"]}
        return others | {"features": Key(role="features", columns=sizes)}

    def check(self, chunk: Chunk, state: Any) -> None:
        for facts in state["columns"]:
            texts = _texts(chunk.get(facts["name"], ())) if "values" in facts else []
            if len(texts) > 1 and set(texts).isdisjoint(facts["values"]):
                known = nearest(str(texts[0]), [value for value in facts["values"] if value is not None])
                raise UserError(
                    f"column {facts['name']!r} holds only texts that the training rows lack, such as {texts[0]!r}: "
                    f"{known}"
                )

    def _fit_column(self, name: str, values: Sequence | np.ndarray) -> dict[str, Any] | None:
        """Returns the state of numbers, or the sorted values of texts, with None for missing; None if they do not
        vary."""
        if any(isinstance(value, list) for value in values):
            raise UserError(
                f"column {name!r} holds lists of words: leave it out, features(drop=({name!r},)), or process it by "
                "another op before"
            )
        if any(isinstance(value, str) for value in values):
            seen = set(_texts(values))
            if len(seen) > MAX_CATEGORIES:
                raise UserError(
                    f"column {name!r} has {len(seen)} different texts: leave it out, features(drop=({name!r},)), or "
                    "process it by another op before"
                )
            return {"name": name, "values": sorted(seen - {None}) + [None] * (None in seen)} if len(seen) > 1 else None
        state = fit_numbers(_numbers(name, values), self.scaling, self.bins)
        return state and {"name": name, **state}


def _check_columns(names: Sequence[str], chunk: Chunk, split: str) -> None:
    """Raises UserError for examples without one of the columns. `split`: their name; "": they are of a new table."""
    if missing := [name for name in names if name not in chunk]:
        where = f"the split {split!r}" if split else "the table"
        raise UserError(f"{where} has no column {missing[0]!r}: {nearest(missing[0], chunk.keys() - {FOLDER})}")


def _width(facts: Mapping[str, Any]) -> int:
    """Returns how many features encode a column."""
    return len(facts["values"]) if "values" in facts else numbers_width(facts)


def _encoded(facts: Mapping[str, Any], values: Sequence | np.ndarray) -> Float32[np.ndarray, "n _"]:
    if "values" in facts:
        index = {text: number for number, text in enumerate(facts["values"])}
        numbers = np.array([index.get(text, -1) for text in _texts(values)])
        return (numbers[:, None] == np.arange(len(index))).astype(np.float32)
    return encode_numbers(_numbers(facts["name"], values), facts).astype(np.float32)


def _numbers(name: str, values: Sequence | np.ndarray) -> Float64[np.ndarray, " n"]:
    """Returns numbers with NaN for missing and infinite ones. Raises UserError for a text."""
    if text := next((value for value in values if isinstance(value, str)), ""):
        raise UserError(f"column {name!r} holds numbers in training, but here {text!r}")
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    return np.where(np.isinf(numbers), np.nan, numbers)


def _texts(values: Sequence | np.ndarray) -> list[str | None]:
    """Returns categories as texts, None where missing; numbers are the names of categories, too."""
    return [None if value is None or value != value else str(value) for value in values]
