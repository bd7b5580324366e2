"""A made-up data set for any task: it has the keys that the task declares, and outputs of the shape that it scores."""

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from core.info import Info, Key
from core.vocabulary import Vocabulary
from tasks.task import Task
from tests.tasks.words import tokenizer

EXAMPLES, LENGTH = 8, 6  # LENGTH is that of every sequence, padding included
QUERIES = 7  # predictions of a detector per image
WORDS = {word: index for index, word in enumerate(("<pad>", "<bos>", "<eos>", "<unk>", "<mask>", "a", "b", "c"))}
VOCABULARY = Vocabulary(len(WORDS), pad=0, bos=1, eos=2, unk=3, mask=4, tokenizer=tokenizer(WORDS))

BY_ROLE = {
    "image": Key((4, 4, 3), "float32", "image"),
    "label_map": Key((4, 4), "int32", "label_map", ("a", "b", "c")),
    "boxes": Key((LENGTH, 4), "float32", "boxes"),
    "points": Key((LENGTH, 2), "float32", "points"),
    "tokens": Key((LENGTH,), "int32", "tokens", vocabulary=VOCABULARY, statistics={"rate": 100}),
    "frames": Key((LENGTH, 5), "float32", "frames"),
    "wave": Key((16,), "float32", "wave"),
    "series": Key((LENGTH, 2), "float32", "series", statistics={"mean": [0.0, 0.0], "std": [1.0, 1.0]}),
    "volume": Key((4, 4, 4, 1), "float32", "volume"),
    "video": Key((2, 4, 4, 3), "float32", "video"),
    "features": Key((5,), "float32", "features"),
    "label": Key((), "int32", "label", ("a", "b", "c")),
    "target": Key((), "float32", "target", statistics={"mean": 2.0, "std": 3.0}),
    "tags": Key((LENGTH,), "int32", "tags", ("O", "B-X", "I-X")),
    "mask": Key((LENGTH,), "float32", "mask"),
    "lengths": Key((), "int32", "lengths"),
    "next": Key((), "int32", "label", ("follows", "random")),
    "segments": Key((LENGTH,), "int32"),
    "places": Key((LENGTH,), "int32"),
    "offsets": Key((LENGTH, 2), "int32"),
    "objects": Key((LENGTH,), "int32", "label", ("a", "b", "c")),
    "start": Key((), "int32"),
    "end": Key((), "int32"),
}
TEXT = "a b c d e f"  # word i is the token i
SPANS = {"start": (1, 3), "end": (2, 4)}  # lowest number, and the first that is too high
BY_NAME = {  # roles of keys that are named otherwise
    "audio": "frames",
    "future": "series",
    "labels": "tokens",
    "notes": "series",
    "objects/bbox": "boxes",
    "objects/label": "objects",
    "past": "series",
    "source": "tokens",
    "text": "tokens",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A task with its data: `batch` has the rows of EXAMPLES examples, `outputs` are random."""

    task: Task
    info: Info
    batch: dict[str, np.ndarray]
    outputs: Any

    @property
    def examples(self) -> "Examples":
        """The split of the batch."""
        return Examples(self.batch)


class Examples:
    """A split of these arrays, whose text is given, or else that of its tokens."""

    def __init__(self, arrays: dict[str, np.ndarray], **texts: list):
        self.arrays, self.texts = arrays, texts

    def __len__(self) -> int:
        return len(next(iter((self.arrays or self.texts).values())))

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {key: values[indices] for key, values in self.arrays.items()}

    def text(self, key: str, indices: np.ndarray) -> list:
        texts = self.texts.get(key) or list(self._texts(key))
        return [texts[i] for i in indices]

    def _texts(self, key: str) -> Iterator[str]:
        if key in self.arrays:
            yield from map(VOCABULARY.text, self.arrays[key])
        elif key == "answer":
            for start, end in zip(self.arrays["start"], self.arrays["end"], strict=True):
                yield TEXT[2 * start : 2 * end + 1]
        else:
            yield from [TEXT] * len(self)


def make(cls: type[Task], seed: int = 0) -> Case:
    """Returns the case of a task with its default fields."""
    task = cls(**{"queries": QUERIES} if "queries" in cls.__dataclass_fields__ else {})
    names = dict.fromkeys((*task.inputs, *task.keys))
    keys = {name: _key(name, task) for name in names}
    padded = [name for name, key in keys.items() if key.shape[:1] == (LENGTH,)]
    keys |= {f"{name}_mask": BY_ROLE["mask"] for name in padded if not name.endswith("_mask")}
    info = Info("made up", {"train": EXAMPLES}, keys)
    random = np.random.default_rng(seed)
    lengths = random.integers(4, LENGTH + 1, EXAMPLES).astype(np.int32)
    batch = {name: _values(random, name, key, lengths) for name, key in keys.items()}
    batch["mask"] = np.ones(EXAMPLES, np.float32)
    if "places" in batch:  # one of its tokens is hidden
        batch[task.inputs[0]][:, 1] = VOCABULARY.mask
    task = task.bind(info)
    return Case(task, info, batch, _outputs(random, task, info))


def _key(name: str, task: Task) -> Key:
    """Returns the description of a key: by the end of its name, or by its role; the target of a task with a vocabulary
    is a text.
    """
    for role in ("mask", "lengths"):
        if name.endswith(f"_{role}"):
            return BY_ROLE[role]
    fields = {field.name for field in dataclasses.fields(task)}
    if "vocabulary" in fields and name == task.target:
        return BY_ROLE["tokens"]
    return BY_ROLE[BY_NAME.get(name, name)]


def _values(random: np.random.Generator, name: str, key: Key, lengths: np.ndarray) -> np.ndarray:
    if key.role == "lengths":
        return lengths
    if key.role == "mask":
        return (np.arange(LENGTH) < lengths[:, None]).astype(np.float32)
    if key.role == "tokens":
        return _sentences(random, lengths)
    if name in SPANS:
        return random.integers(*SPANS[name], EXAMPLES).astype(np.int32)
    if name == "offsets":
        places = 2 * np.arange(LENGTH)[:, None] + np.array([0, 1])
        return np.where(np.arange(LENGTH)[:, None] < lengths[:, None, None], places, 0).astype(np.int32)
    shape = (EXAMPLES, *key.shape)
    if key.role == "boxes":
        return np.sort(random.random((*shape[:-1], 2, 2), np.float32), -2).reshape(shape)
    if key.classes:
        return (random.permutation(np.arange(np.prod(shape))) % len(key.classes)).reshape(shape).astype(np.int32)
    if name == "notes":
        return (random.random(shape) < 0.5).astype(np.float32)
    return random.normal(size=shape).astype(key.dtype)


def _sentences(random: np.random.Generator, lengths: np.ndarray) -> np.ndarray:
    """Returns sequences of words between begin and end, padded."""
    ids = np.full((EXAMPLES, LENGTH), VOCABULARY.pad, np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = [VOCABULARY.bos, *random.integers(5, VOCABULARY.size, length - 2), VOCABULARY.eos]
    return ids


def _outputs(random: np.random.Generator, task: Task, info: Info) -> Any:
    """Returns outputs of the shapes that annotate the first argument of `score`."""
    annotation = typing.get_type_hints(task.score)[next(iter(inspect.signature(task.score).parameters))]
    shape = info.keys[getattr(task, "target", task.keys[0])].shape
    if typing.is_typeddict(annotation):
        hints = typing.get_type_hints(annotation)
        if hasattr(task, "queries"):
            sizes = {"b": EXAMPLES, "l": 2, "q": QUERIES, "k": task.output_size(info) + 1, "4": 4}
            shapes = {name: [sizes[axis] for axis in hint.dim_str.split()] for name, hint in hints.items()}
            return {name: jnp.asarray(random.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
        if not any("*" in hint.dim_str for hint in hints.values()):  # an axis of their own, longer than the target's
            shape = (2 * LENGTH, *shape[1:])
        return {name: _array(random, hint, shape, task.output_size(info)) for name, hint in hints.items()}
    first = typing.get_args(annotation)[0] if typing.get_args(annotation) else annotation
    return _array(random, first, shape, task.output_size(info))


def _array(random: np.random.Generator, annotation: Any, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Returns an array of the rank of a jaxtyping annotation: the batch, the target's axes and the outputs of each."""
    axes = annotation.dim_str.split()
    if axes == ["b"]:  # lengths
        return jnp.full(EXAMPLES, shape[0], jnp.int32)
    if axes[-1].isdigit() and axes[1:-1] in ([], ["t"]):
        return jnp.asarray(random.normal(size=(EXAMPLES, *[LENGTH] * len(axes[1:-1]), int(axes[-1]))), jnp.float32)
    variadic = any(axis.startswith("*") for axis in axes)
    last = (size,) if variadic or len(axes) == len(shape) + 2 else ()
    return jnp.asarray(random.normal(size=(EXAMPLES, *shape, *last)), jnp.float32)
