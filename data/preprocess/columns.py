"""Encodes the columns of a table as `features` and a target; all state is fitted on the training rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int32

from core.errors import UserError, nearest

MAX_CATEGORIES = 1000  # text columns with more values are names, ids or free text: one-hot vectors only memorise them


def fit(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the encoding of columns like those of `frame` (the training rows, without the target), as plain JSON.

    One entry per column that varies. Numbers, booleans and dates: mean, deviation, and whether values were missing;
    text: the sorted values, with None for missing.

    Raises:
        UserError: a text column has too many different values, or no column varies.
    """
    state = []
    for name in frame.columns:
        if _is_number(frame[name]):
            numbers = _numbers(frame[name])
            present = numbers[~np.isnan(numbers)]
            mean, std = (float(present.mean()), float(present.std())) if len(present) else (0.0, 0.0)
            missing = 0 < len(present) < len(numbers)
            if std > 1e-12 * abs(mean) or missing:
                std = std if std > 1e-12 * abs(mean) else 1.0
                state.append({"name": str(name), "mean": mean, "std": std, "missing": missing})
        else:
            seen = set(_texts(frame[name]))
            if len(seen) > MAX_CATEGORIES:
                raise UserError(f"column {name!r} has {len(seen)} different texts: leave it out of the table")
            if len(seen) > 1:
                state.append({"name": str(name), "values": sorted(seen - {None}) + [None] * (None in seen)})
    if not state:
        raise UserError(f"no column varies over the training rows: {', '.join(map(str, frame.columns))}")
    return state


def encode(state: list[dict[str, Any]], frame: pd.DataFrame) -> Float32[np.ndarray, "n f"]:
    """Returns `features`: numbers standardised (missing: the mean, and a 1 in an extra column if training rows had
    missing values), text one-hot (a value not in the training rows: all zeros).

    Raises:
        UserError: a column is missing, or has text where the training rows had numbers.
    """
    features = []
    for column in state:
        name = column["name"]
        if name not in frame.columns:
            raise UserError(f"the table has no column {name!r}: {nearest(name, frame.columns)}")
        if "values" in column:
            texts = _texts(frame[name])
            features += [[text == value for text in texts] for value in column["values"]]
        else:
            numbers = _numbers(frame[name])
            features.append(np.nan_to_num((numbers - column["mean"]) / column["std"]))
            features += [np.isnan(numbers)] * column["missing"]
    return np.stack([np.asarray(values, np.float32) for values in features], axis=1)


def _is_number(column: pd.Series) -> bool:
    kind = pd.api.types.infer_dtype(column, skipna=True)  # looks into columns of Python objects too
    return kind in ("integer", "floating", "mixed-integer-float", "boolean", "decimal", "datetime64", "empty")


def _numbers(column: pd.Series) -> np.ndarray:
    """Returns float64 with NaN for missing and infinite values; dates in seconds."""
    if pd.api.types.is_datetime64_any_dtype(column):
        seconds = column.astype("datetime64[ns]").astype("int64").to_numpy(np.float64) / 1e9
        return np.where(column.isna(), np.nan, seconds)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    text = column[np.isnan(numbers) & column.notna().to_numpy()]
    if len(text):
        raise UserError(f"column {column.name!r} holds numbers in training, but here {text.iloc[0]!r}")
    return np.where(np.isinf(numbers), np.nan, numbers)


def _texts(column: pd.Series) -> list[str | None]:
    return [None if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]


def class_names(columns: Sequence[pd.Series]) -> tuple[str, ...]:
    """Returns the names of a target's classes, numbers in numeric order, over all splits: a class that the training
    rows happen to lack then counts as an error of the model.

    Raises:
        UserError: the values are measurements and not classes, or some are missing.
    """
    for column in columns:
        _refuse_missing(column)
    values = pd.concat(columns).unique()
    name = columns[0].name
    if pd.api.types.is_float_dtype(values) and not np.all(values == np.round(values)):
        raise UserError(f"target {name!r} holds fractions such as {values[0]}: set data.target_type='number'")
    if len(values) > MAX_CATEGORIES:
        raise UserError(f"target {name!r} has {len(values)} different values: classes should repeat")
    return tuple(_class_name(value) for value in sorted(values, key=lambda v: (isinstance(v, str), v)))


def _class_name(value: Any) -> str:
    return str(int(value)) if isinstance(value, float | np.floating) else str(value)


def labels(column: pd.Series, classes: tuple[str, ...]) -> Int32[np.ndarray, "n"]:
    """Returns the positions of a target's values in `classes`. Raises UserError if a value is missing."""
    _refuse_missing(column)
    index: Mapping[str, int] = {name: position for position, name in enumerate(classes)}
    return np.array([index[_class_name(value)] for value in column], np.int32)


def targets(column: pd.Series) -> Float32[np.ndarray, "n"]:
    """Returns a target in its own units. Raises UserError if a value is missing or not a number."""
    _refuse_missing(column)
    if not _is_number(column):
        raise UserError(f"target {column.name!r} holds text such as {column.iloc[0]!r}: set data.target_type='class'")
    return _numbers(column).astype(np.float32)


def _refuse_missing(column: pd.Series) -> None:
    if missing := int(column.isna().sum()):
        raise UserError(f"target {column.name!r} is missing in {missing} of {len(column)} rows")
