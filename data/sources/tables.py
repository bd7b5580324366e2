"""One's own tables: CSV, Parquet and JSONL files. Columns hold numbers, dates, texts, or lists of these."""

import csv
import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from ml_collections import ConfigDict

from core.errors import UserError, nearest
from core.info import Key
from data.preprocess.values import flatten, written
from data.sources import schema
from data.sources.encodings import read_text
from data.sources.files import Columns, existing
from data.sources.source import FileSource

SEPARATORS = ",;\t|"
ROLES = {"number": "number", "date": "number", "text": "text", "list": ""}
BLOCK = 1 << 28  # bytes that Arrow parses at once; a field must fit

Table = dict[str, pa.ChunkedArray]  # column -> its values


class _Rows(Columns):
    """The rows of a file, which messages name."""

    def __init__(self, columns: Mapping[str, Any], file: Path):
        super().__init__(columns)
        self.file = file

    def place(self, index: int) -> str:
        return f"row {index + 1} of {self.file}"


class _Table(FileSource):
    """The rows of one file; one split, "train". `state` has the facts of each column, see `data.sources.schema`.

    Raises UserError for a file that cannot be read, is empty, or has columns without or with the same name, and, with
    `state`, for texts in columns of numbers.
    """

    is_table = True
    is_untyped: ClassVar[bool] = False  # whether all fields are strings

    def __init__(self, path: str, config: ConfigDict, state: Any = None):
        self.file, self.config = existing(path), config
        self.folder, self.files = self.file.parent, [self.file]
        try:
            table = self._read()
        except (OSError, ValueError) as error:  # Arrow's and json's errors are ValueErrors
            if isinstance(error, UserError):
                raise
            raise UserError(f"{self.file} cannot be read ({str(error).strip().splitlines()[0]})") from error
        if not table or not len(next(iter(table.values()))):
            raise UserError(f"{self.file} has no rows")
        self.state = state or self._decided(table)
        self.summary = "" if state else f"{type(self).__name__.lower()}: {schema.summary(self.state, table)}"
        known = [name for name in self.state if name in table]
        if not known:
            raise UserError(f"{self.file} has no column of the training file: {nearest(next(iter(table)), self.state)}")
        columns = {name: self._values(name, table[name]) for name in known}
        schema.check_finite(columns, self.file)
        self.keys = {name: Key(role=_role(self.state[name], columns[name])) for name in known}
        self.is_table = all(self.state[name]["kind"] != "list" for name in known)
        self.rows = {"train": _Rows({name: (values, None) for name, values in columns.items()}, self.file)}

    def fingerprint(self) -> str:
        options = {key: self.config[key] for key in ("separator", "decimal", "encoding", "missing")}
        return f"{super().fingerprint()} {json.dumps([options, self.state], sort_keys=True)}"

    def _read(self) -> Table:
        raise NotImplementedError

    def _decided(self, table: Table) -> dict[str, schema.Facts]:
        """Returns the facts of every column. Classes are texts, named as in the file, and a target has no marks."""
        target = self.config.target or next((name for name in ("label", "target") if name in table), "")
        is_class = self.config.target_type == "class" if self.config.target else target == "label"
        facts = {
            name: schema.decide(column, self.is_untyped, self.config.decimal, allows_marks=name != target)
            for name, column in table.items()
        }
        if is_class and facts.get(target, {"kind": "list"})["kind"] != "list":
            facts[target] = {"kind": "text"}
        return {name: found for name, found in facts.items() if found}

    def _values(self, name: str, column: pa.ChunkedArray) -> Any:
        facts = self.state[name]
        try:
            return schema.read(column, facts, self.config.decimal)
        except schema.Misread as error:
            raise UserError(
                f"{self.file}: row {error.index + 1}: column {name!r} holds {facts['kind']}s in training, but here "
                f"{error.text!r}: correct it, or declare it missing (--config.data.missing=\"('', {error.text!r})\")"
            ) from error


def _role(facts: schema.Facts, values: Any) -> str:
    """Returns the role of a column; lists of strings are texts, word by word."""
    are_words = facts["kind"] == "list" and any(isinstance(value, list) for value in values)
    return "text" if are_words else ROLES[facts["kind"]]


class Csv(_Table):
    """`csv:FILE`: a header and one row per example. The separator is found from the header unless it is given.

    Fields are text until the kind of their column is decided; those in `config.missing` are missing.
    """

    is_untyped = True

    def _read(self) -> Table:
        text = read_text(self.file, self.config.encoding)
        separator = self.config.separator or max(SEPARATORS, key=lambda mark: len(_header(text, mark)))
        if len(separator) != 1:
            raise UserError(f"data.separator must be one character, not {separator!r}")
        if len(self.config.decimal) != 1:
            raise UserError(f"data.decimal must be one character, not {self.config.decimal!r}")
        header = _header(text, separator)
        _check_names(self.file, header)
        wrong = []

        def note(row: pa.csv.InvalidRow) -> str:
            wrong.append(row)
            return "skip"

        table = pa.csv.read_csv(
            pa.BufferReader(text.encode()),
            pa.csv.ReadOptions(use_threads=False, block_size=BLOCK),  # with threads, rows have no numbers
            pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=note),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                null_values=list(self.config.missing),
                strings_can_be_null=True,
            ),
        )
        if wrong:
            raise UserError(
                f"{self.file}: row {wrong[0].number - 1} has {wrong[0].actual_columns} fields, but the header has "
                f"{len(header)}, separated by {separator!r}: a field that holds it needs quotes"
            )
        return dict(zip(table.column_names, table.columns, strict=True))


def _header(text: str, separator: str) -> list[str]:
    return next(filter(None, csv.reader(io.StringIO(text[: 1 << 20]), delimiter=separator)), [])


def _check_names(file: Path, columns: Collection[str]) -> None:
    """Raises UserError for columns without a name and for two of the same name."""
    seen = set()
    for number, name in enumerate(columns, 1):
        if not name.strip():
            raise UserError(f"{file}: column {number} has no name: give it one in the header")
        if name in seen:
            raise UserError(f"{file}: two columns are named {name!r}: rename one")
        seen.add(name)


class Parquet(_Table):
    """`parquet:FILE`. Nested columns are joined with "/"."""

    def _read(self) -> Table:
        table = pa.parquet.read_table(self.file)
        columns = list(zip(table.column_names, table.columns, strict=True))
        flat = []
        while columns:
            name, column = columns.pop(0)
            if pa.types.is_struct(column.type):
                fields = [field.name for field in column.type]
                columns = [(f"{name}/{field}", pc.struct_field(column, field)) for field in fields] + columns
            elif not name.startswith("__index_level_"):  # pandas' row numbers
                flat.append((name, column))
        _check_names(self.file, [name for name, _ in flat])
        return {name: _plain(column) for name, column in flat}


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns categories as what they stand for."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


class Jsonl(_Table):
    """`jsonl:FILE`: one JSON object per line. Nested objects are joined with "/"; null and absent keys are missing."""

    def _read(self) -> Table:
        rows = []
        for number, line in enumerate(read_text(self.file, self.config.encoding).split("\n"), 1):
            if line.strip():
                rows.append(dict(flatten(_object(self.file, number, line))))
        columns = dict.fromkeys(name for row in rows for name in row)
        return {name: self._column(name, [row.get(name) for row in rows]) for name in columns}

    def _column(self, name: str, values: list) -> pa.ChunkedArray:
        try:
            return pa.chunked_array([pa.array(values)])
        except (pa.ArrowException, OverflowError) as error:  # values of different types, or large integers
            if lists := [value for value in values if isinstance(value, list)]:
                other = next((value for value in values if not isinstance(value, list | None)), lists[-1])
                raise UserError(
                    f"{self.file}: {name!r} holds values of different types, such as {lists[0]!r} and {other!r}"
                ) from error
            return pa.chunked_array([[None if value is None else written(value) for value in values]], pa.string())


def _object(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise UserError(f"{file}: line {number} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f'{file}: line {number} is not an object, such as {{"text": "a film", "label": "good"}}')
    return value
