"""Schema: the kinds of a table's columns, decided once, stored, and used for every later file of the same table.

A column is an Arrow array. Its facts are JSON: {"kind": "number" | "date" | "text" | "list"}, "format" of dates, and
"marks", the words among numbers or dates that are read as missing. The value of a field depends on the field and on
these facts, never on other fields of its file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from core.errors import UserError
from data.preprocess.values import NUMBER, written

# n: rows

Facts = dict[str, Any]

CODE = r"^[+-]?0\d+$"  # "007" is a code or a month, not the number 7
MARKS = 10  # more different words among numbers are texts
CATEGORIES = 20  # up to so many different numbers among words are names of categories, such as "1", "2", "unknown"
ISO = "ISO8601"
DAYS = ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d %B %Y")
DAYS += ("%B %d, %Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y")
TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
ISO_DATE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.]\d+)?)? ?(Z|UTC|[+-]\d{2}:?\d{2})?)?$"
SAMPLE = 100  # different texts that decide whether a format of dates is tried on all


def decide(column: pa.ChunkedArray, is_untyped: bool, decimal: str = ".", allows_marks: bool = True) -> Facts | None:
    """Returns the facts of a column; None for a type that is not read, such as bytes.

    Args:
        is_untyped: whether strings may be numbers, as in a CSV file.
        allows_marks: whether a few words among numbers may be missing values. Else such a column is text.
    """
    if _is_list(column.type):
        return {"kind": "list"}
    if pa.types.is_temporal(column.type):
        return {"kind": "date", "format": ISO, "marks": []}
    if _is_number(column.type):
        return {"kind": "number", "marks": []}
    if pa.types.is_null(column.type):
        return {"kind": "text"}
    if not _is_string(column.type):
        return None
    counts = column.drop_null().value_counts()
    values, counts = pa.chunked_array([counts.field("values")], column.type), counts.field("counts").to_numpy()
    if is_untyped and not pc.any(pc.match_substring_regex(values, CODE)).as_py():
        marks = _marks(values, counts, np.isnan(_numbers(values, decimal)), allows_marks)
        if marks is not None:
            return {"kind": "number", "marks": marks}
    read = {shape: np.isnan(_dates(values, shape)) for shape in _date_formats(values)}
    for shape, is_word in sorted(read.items(), key=lambda item: item[1].sum()):  # stable: the order of `_date_formats`
        marks = _marks(values, counts, is_word, allows_marks)
        if marks is not None:
            return {"kind": "date", "format": shape, "marks": marks}
    return {"kind": "text"}


def read(column: pa.ChunkedArray, facts: Facts, decimal: str = ".") -> np.ndarray | list:
    """Returns the values of a column of these facts: float64 with NaN where missing (dates in seconds since 1970, UTC),
    strings with None where missing, or lists of strings and arrays of numbers.

    Raises `Misread` for the first field that is neither a number or date nor missing.
    """
    if facts["kind"] == "list" and _is_list(column.type):
        return _lists(column)
    if facts["kind"] in ("list", "text"):  # a list in another format of file: words separated by spaces
        values = column.to_pylist()
        return values if _is_string(column.type) else [None if value is None else written(value) for value in values]
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_temporal(column.type):
        return _seconds(column)
    if not _is_string(column.type):
        return column.cast(pa.float64(), safe=False).to_numpy()
    numbers = _numbers(column, decimal) if facts["kind"] == "number" else _dates(column, facts["format"])
    unread = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, pa.array(facts["marks"], column.type))))
    wrong = np.flatnonzero(np.isnan(numbers) & unread.to_numpy())
    if len(wrong):
        raise Misread(int(wrong[0]), column[int(wrong[0])].as_py())
    return numbers


class Misread(ValueError):
    """A text, at the 0-based row `index`, in a column of numbers or dates."""

    def __init__(self, index: int, text: str):
        self.index, self.text = index, text


def summary(schema: Mapping[str, Facts], columns: Mapping[str, pa.ChunkedArray]) -> str:
    """Returns how columns were read, in one line: "3 numbers, 1 date, 1 text of 48 values"."""
    parts = []
    for kind in ("number", "date", "text", "list"):
        if found := [name for name, facts in schema.items() if facts["kind"] == kind]:
            sizes = _sizes([columns[name] for name in found]) if kind == "text" else ""
            parts.append(f"{len(found)} {kind}{'s' * (len(found) > 1)}{sizes}")
    marked = {name: facts["marks"] for name, facts in schema.items() if facts.get("marks")}
    if marks := sorted({mark for found in marked.values() for mark in found}):
        declared = repr(("", *marks))
        parts.append(
            f"{', '.join(map(repr, marks))} in {', '.join(map(repr, marked))} read as missing (declare it: "
            f'--config.data.missing="{declared}")'
        )
    if american := [name for name, facts in schema.items() if facts.get("format", "").startswith("%m/%d")]:
        parts.append(f"{', '.join(map(repr, american))} read as month/day")
    if left_out := [name for name in columns if name not in schema]:
        parts.append(f"left out: {', '.join(map(repr, left_out))}, neither numbers nor texts")
    return ", ".join(parts)


def _sizes(columns: Sequence[pa.ChunkedArray]) -> str:
    sizes = sorted(len(column.drop_null().unique()) for column in columns)
    shown = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 3 else " and ".join(map(str, sizes))
    return f" of {shown} value{'s' * (sizes != [1])}"


def _marks(values: pa.ChunkedArray, counts: np.ndarray, is_word: np.ndarray, allows_marks: bool) -> list[str] | None:
    """Returns the words among different values that are mostly numbers or dates; None if the values are texts."""
    if not len(values) or is_word.all():
        return None
    if not is_word.any():
        return []
    few_words = is_word.sum() <= MARKS and counts[is_word].sum() < counts[~is_word].sum()
    if not (allows_marks and few_words and (~is_word).sum() > CATEGORIES):
        return None
    return sorted(values.filter(pa.array(is_word)).to_pylist())


def _numbers(column: pa.ChunkedArray, decimal: str) -> Float64[np.ndarray, "n"]:
    """Returns strings as numbers, NaN for missing and for other strings."""
    text = pc.utf8_trim_whitespace(column)
    if decimal != ".":
        text = pc.replace_substring(pc.replace_substring(text, ".", "?"), decimal, ".")
    is_number = pc.match_substring_regex(text, f"^{NUMBER}$")
    digits = pc.if_else(is_number, text, pa.scalar(None, text.type))
    return digits.to_numpy().astype(np.float64)  # None becomes NaN


def _dates(column: pa.ChunkedArray, shape: str) -> Float64[np.ndarray, "n"]:
    """Returns strings as seconds since 1970, NaN for missing and for other strings. Without a zone, UTC is meant."""
    text = pc.utf8_trim_whitespace(column)
    if shape == ISO:
        text = pc.if_else(pc.match_substring_regex(text, ISO_DATE), text, pa.scalar(None, text.type))
    times = pd.to_datetime(pd.Series(text.to_pylist(), dtype=object), format=shape, errors="coerce", utc=True)
    return ((times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)).to_numpy(np.float64)


def _date_formats(values: pa.ChunkedArray) -> list[str]:
    """Returns the formats that read more than half of a sample of texts as dates, the best first.

    Month/day comes before day/month where both read the same texts.
    """
    sample = values.slice(0, SAMPLE)
    if not len(sample) or not pc.any(pc.match_substring_regex(sample, r"\d")).as_py():
        return []
    shapes = [ISO, *(day + time for day in DAYS for time in TIMES)]
    read = {shape: np.isfinite(_dates(sample, shape)).sum() for shape in shapes}
    return sorted((shape for shape in shapes if read[shape] > len(sample) / 2), key=lambda shape: -read[shape])


def _seconds(column: pa.ChunkedArray) -> Float64[np.ndarray, "n"]:
    """Returns times since 1970 (UTC), times of day and durations in seconds, NaN where missing."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    scale = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.type.unit]
    width = pa.int32() if pa.types.is_time32(column.type) else pa.int64()
    return column.cast(width).cast(pa.float64(), safe=False).to_numpy() / scale


def _lists(column: pa.ChunkedArray) -> list:
    inner = column.type.value_type
    values = column.to_pylist()
    if _is_string(inner):
        return values
    dtype = inner.to_pandas_dtype() if _is_number(inner) else None
    return [None if value is None else np.array(value, dtype) for value in values]


def _is_list(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    inner = kind.value_type
    return _is_number(inner) or _is_string(inner) or pa.types.is_null(inner) or _is_list(inner)


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def check_finite(columns: Mapping[str, Sequence | np.ndarray], file: Any) -> None:
    """Raises UserError for lists of numbers with missing or infinite ones."""
    for name, values in columns.items():
        for row, value in enumerate(values if isinstance(values, list) else (), 1):
            if isinstance(value, np.ndarray) and (value.dtype == object or not np.isfinite(value).all()):
                raise UserError(f"{file}: row {row}: {name!r} holds NaN, infinite or missing numbers")
