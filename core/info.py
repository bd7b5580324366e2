"""Info: the description of a loaded data set. A checkpoint stores it, so that predictions need no data set."""

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any, SupportsIndex

from core.errors import UserError
from core.vocabulary import Vocabulary

ROLES = (
    "image",  # pixels [h, w, c]
    "label_map",  # a class per pixel
    "region",  # the part of a canvas that an image fills [ymin, xmin, ymax, xmax]
    "boxes",
    "points",
    "tokens",  # ids of `vocabulary`
    "frames",  # spectra of a sound
    "wave",  # samples of a sound
    "series",
    "volume",  # images one above the other [d, h, w, c]
    "video",  # images one after the other [t, h, w, c]
    "features",  # the encoded columns of a table
    "label",  # one class per example or object
    "target",  # one number per example
    "number",  # a column of numbers or dates, before preprocessing
    "text",  # strings, before preprocessing
    "tags",  # one class per token
    "mask",  # weights of another key's positions
    "lengths",  # numbers of another key's real positions
    "",  # none of these
)
PIXELS = ("image", "volume", "video")  # roles of pixels [..., h, w, c]


@dataclasses.dataclass(frozen=True)
class Key:
    """The description of one key of an example.

    Attributes:
        shape: without the batch axis; () before preprocessing.
        dtype: name of the NumPy dtype; "" before preprocessing.
        role: meaning of the values, one of `ROLES`.
        classes: names of the values 0, 1, ...; () if they are not classes.
        vocabulary: of token ids.
        statistics: of the training split: "mean" and "std", numbers or a list with one number per channel.
        ragged: whether the length of the first axis varies; `shape` then has the padded length.
        columns: of features, column of the table -> how many of the features encode it, in order.
    """

    shape: tuple[int, ...] = ()
    dtype: str = ""
    role: str = ""
    classes: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    statistics: dict[str, Any] = dataclasses.field(default_factory=dict)
    ragged: bool = False
    columns: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.role not in ROLES:
            raise ValueError(f"unknown role {self.role!r}")

    @property
    def num_classes(self) -> int:
        """Number of tokens or classes that a value can be; 0 if neither is known."""
        return self.vocabulary.size if self.vocabulary else len(self.classes)

    def name(self, value: SupportsIndex) -> str:
        """Returns the name of a class or token, or its number if it has no name."""
        if self.vocabulary:
            return self.vocabulary.token(value)
        return self.classes[value] if self.classes else str(int(value))


@dataclasses.dataclass(frozen=True)
class Info:
    """The description of a loaded data set.

    Attributes:
        name: `config.data.name`.
        sizes: split -> number of examples.
        keys: key of an example -> its description.
        state: how new inputs are read and preprocessed, as JSON: "source" (see `data.sources.source`); "columns", how
            the columns of a table were read; "raw", the role of each key before preprocessing; "preprocess", the fitted
            ops (see `data.preprocess.pipeline`).
        content: hash of the files that were read.
    """

    name: str
    sizes: dict[str, int]
    keys: dict[str, Key]
    state: dict[str, Any] = dataclasses.field(default_factory=dict)
    content: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns plain dicts, lists, strings and numbers."""
        fields = dataclasses.asdict(self)
        for record in fields["keys"].values():
            record |= {"shape": list(record["shape"]), "classes": list(record["classes"])}
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Info":
        """Inverse of `to_json`. Raises UserError for the format of an older version."""
        if "keys" not in fields:
            raise UserError("the checkpoint was written by an older version of OneStep: train again")
        return cls(**{**fields, "keys": {key: _key(record) for key, record in fields["keys"].items()}})

    def with_statistics(self, other: "Info") -> "Info":
        """Returns this description with the statistics of another one."""
        keys = {
            key: dataclasses.replace(record, statistics=other.keys[key].statistics) if key in other.keys else record
            for key, record in self.keys.items()
        }
        return dataclasses.replace(self, keys=keys)

    def difference(self, other: "Info") -> list[str]:
        """Returns "PATH: this -> other" per value that differs by more than rounding, a long value shortened."""
        before, after = (json.loads(json.dumps(info.to_json() | {"content": ""})) for info in (self, other))
        changed = ["the content of the data has changed"] if self.content != other.content else []
        return changed + list(_differences(before, after))

    def key_difference(self, other: "Info") -> list[str]:
        """Returns the differences, as `difference`, in what a trained model depends on: keys with their types, classes
        and vocabularies. Padded lengths and statistics may differ."""
        return _models_view(self).difference(_models_view(other))


def _models_view(info: Info) -> Info:
    keys = {
        key: dataclasses.replace(record, shape=record.shape[record.ragged :], statistics={})
        for key, record in info.keys.items()
        if record.role not in ("mask", "lengths")
    }
    return Info("", {}, keys)


def _differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Yields the differences of two JSON values; numbers are equal up to rounding: machines sum in another order."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            yield from _differences(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    elif not _equal(a, b):
        yield f"{path}: {_shortened(a)} -> {_shortened(b)}"


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return not any(_differences(a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6) or (math.isnan(a) and math.isnan(b))
    return a == b


def _shortened(value: Any, limit: int = 80) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def _key(record: dict[str, Any]) -> Key:
    vocabulary = Vocabulary(**record["vocabulary"]) if record["vocabulary"] else None
    tuples = {name: tuple(record[name]) for name in ("shape", "classes")}
    return Key(**{**record, **tuples, "vocabulary": vocabulary})
