"""Preprocess op: the contract of this folder. An op changes examples on the host, before they are batched.

A recipe lists ops as calls, `config.data.preprocess = ("log_mel(bands=40)", "tokenize('text', bpe(4000))")`. An op is
one class of a file in this folder; its name in a recipe is the class's name in snake case. `predict.py` runs the same
ops with the same state on new inputs.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from core.errors import UserError, nearest
from core.info import Key

FOLDER = "folder/"  # key of the folder against which an example's relative paths resolve, given by sources of files
CHUNK = 512  # examples per call of an op: enough to encode texts on all cores, few enough for little memory

# Examples as columns: key -> one value per example, as a list or as an array with a leading axis. Every value is a
# string, a list of strings, a number or an array; missing ones of a table are None or NaN.
Chunk = dict[str, Sequence | np.ndarray]
Indices = Sequence[int] | np.ndarray
Keys = dict[str, Key]  # key -> its description


@runtime_checkable
class Examples(Protocol):
    """Examples by random access, as columns."""

    def __len__(self) -> int: ...

    def chunk(self, indices: Indices, keys: Collection[str] | None = None) -> Chunk:
        """Returns the examples at `indices`. With `keys`, other keys may be left out, which saves decoding them."""
        ...


@dataclasses.dataclass(frozen=True)
class Op:
    """Base class of all preprocess ops: a frozen dataclass whose fields are the arguments in the recipe.

    Attributes:
        ordered: whether the order of the examples has a meaning; the rows of one's own files then keep theirs.
        stored: whether results take long to compute, so that they are stored in the cache.
        arranges: whether the op makes examples of its own from all examples of a split, by `arrange`; it is the last.
        reads_inputs: whether such an op also makes an example of a new input, by `single`.
        continues: whether each of these examples continues the one before, as `data.order` "continuous" needs.
        functions: name -> function that arguments may call, such as the tokenizers of `tokenize`.
    """

    ordered: ClassVar[bool] = False
    stored: ClassVar[bool] = False
    arranges: ClassVar[bool] = False
    reads_inputs: ClassVar[bool] = False
    continues: ClassVar[bool] = False
    functions: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @property
    def touched(self) -> frozenset[str] | None:
        """Keys that the op reads or changes; None for all of them."""
        return None

    @property
    def reads(self) -> Mapping[str, str]:
        """The role of each key that an op for texts reads: "text", or that of an answer, which new inputs lack."""
        return MappingProxyType({})

    @property
    def rate(self) -> int:
        """Samples per second of the sounds that the op reads; 0 for any."""
        return 0

    @property
    def content(self) -> str:
        """A hash of the files that the op reads besides the examples, which then determine the results, too."""
        return ""

    @property
    def opens(self) -> tuple[str, str] | None:
        """The key that holds paths of files, and the role of the key that the op makes from these files."""
        return None

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> Any:
        """Returns the state that the op needs, as JSON. Statistics and vocabularies come from splits["train"] only.

        Raises UserError for examples that the op cannot process.
        """
        del splits, keys
        return None

    def __call__(self, chunk: Chunk, state: Any) -> Chunk:
        """Returns the changed examples. Keys that a chunk lacks are ignored: new inputs lack the answers."""
        del state
        return chunk

    def check(self, chunk: Chunk, state: Any) -> None:
        """Raises UserError for new inputs, all of one file, that the op can change but that make no sense together."""
        del chunk, state

    def arrange(self, split: Any, state: Any, is_training: bool) -> Any:
        """Returns the split (see `data.splits`) whose examples the op makes from those of `split`."""
        raise NotImplementedError

    def single(self, chunk: Chunk, state: Any) -> Chunk:
        """Returns new inputs, after `__call__`, each as one example like those of `arrange`."""
        del state
        return chunk

    def describe(self, keys: Keys, state: Any) -> Keys:
        """Returns the description of the changed examples: roles, classes, vocabularies, statistics."""
        del state
        return keys


class Mapped:
    """Examples changed by an op on access."""

    def __init__(self, examples: Examples, op: Op, state: Any):
        self.examples, self.op, self.state = examples, op, state

    def __len__(self) -> int:
        return len(self.examples)

    def chunk(self, indices: Indices, keys: Collection[str] | None = None) -> Chunk:
        touched = self.op.touched
        if keys is None or touched is None:
            return self.op(self.examples.chunk(indices), self.state)
        if touched.isdisjoint(keys):
            return self.examples.chunk(indices, keys)
        return self.op(self.examples.chunk(indices, touched.union(keys)), self.state)

    def place(self, index: int) -> str:
        return place(self.examples, index)


def place(examples: Examples, index: int) -> str:
    """Returns where an example stands, for a message: "row 7 of people.csv" if the source knows it."""
    find = getattr(examples, "place", None)
    return find(index) if find else f"example {index}"


def chunks(examples: Examples, keys: Collection[str] | None = None, size: int = CHUNK) -> Iterator[Chunk]:
    """Yields all examples in order, `size` at a time."""
    for start in range(0, len(examples), size):
        yield examples.chunk(np.arange(start, min(start + size, len(examples))), keys)


def column(examples: Examples, key: str) -> Iterator[Any]:
    """Yields the values of one key."""
    for chunk in chunks(examples, (key,)):
        yield from chunk[key]


def check_keys(op: str, wanted: Collection[str], keys: Keys, roles: Collection[str] = ()) -> None:
    """Raises UserError unless each of the `wanted` keys exists and, if given, has one of the `roles`."""
    fitting = [key for key, record in keys.items() if not roles or record.role in roles]
    for key in wanted:
        if key not in fitting:
            what = f"is not {' or '.join(roles)}" if key in keys else "does not exist"
            raise UserError(f"data.preprocess: {op}: {key!r} {what}: {nearest(key, fitting)}")
