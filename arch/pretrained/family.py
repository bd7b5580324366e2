"""The description of one `model_type` of Hugging Face's format: names of weights and keys of config.json.

Each description is data that is read in both directions, so that import and export cannot disagree. This package reads
no files (`training.pretrained` does), and imports neither jax nor transformers.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from core import names
from core.errors import UserError, nearest

Config = Mapping[str, Any]  # of a config.json
Fields = Mapping[str, Any]  # of an architecture: texts as in a config, or objects
Shapes = Mapping[str, tuple[int, ...]]  # by path of a parameter or batch statistic
Arrays = Mapping[str, np.ndarray]  # by name in a checkpoint, or by path of a parameter ("trunk/block1/...")

CLASSES = "single_label_classification"  # the value of `problem_type` for one class per text or token

# Fields of all architectures that no config.json has.
FREE = frozenset({"drop_path", "remat", "scan", "dtype", "pad_vocabulary"})


class Change(NamedTuple):
    """How an array changes on import and on export."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]


SAME = Change(np.asarray, np.asarray)
TRANSPOSED = Change(np.transpose, np.transpose)  # the weight of torch.nn.Linear is (out, in), ours (in, out)
ROW = Change(lambda x: x[0], lambda x: x[None])  # a vector that has a leading axis in the checkpoint


class Parts(NamedTuple):
    """How one array of a checkpoint is divided into several of ours, and united on export."""

    divide: Callable[[np.ndarray, int], Sequence[np.ndarray]]
    unite: Callable[[Sequence[np.ndarray]], np.ndarray]


SIDE_BY_SIDE = Parts(lambda x, count: np.split(x, count, axis=-1), lambda parts: np.concatenate(parts, axis=-1))


class Weight(NamedTuple):
    """One array of a checkpoint, a row of the table of weights.

    Attributes:
        theirs: its name, with {} for the number of the block, from 0; "a|b": the first is written, each is read.
        ours: path of the parameter, with {} for the number of the block, from 1, or several paths.
        only: fields and the values with which the checkpoint has the array.
        parts: how the changed array contains several parameters.
    """

    theirs: str
    ours: tuple[str, ...]
    change: Change = SAME
    only: Mapping[str, Any] = {}
    parts: Parts = SIDE_BY_SIDE

    def fits(self, fields: Fields) -> bool:
        return all(fields[key] == value for key, value in self.only.items())

    def to_ours(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the parameters by path."""
        return dict(zip(self.ours, self.parts.divide(self.change.to_ours(array), len(self.ours)), strict=True))

    def to_theirs(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the checkpoint's array of the parameters `ours`."""
        return self.change.to_theirs(self.parts.unite(arrays))

    def of_block(self, number: int) -> "Weight":
        ours = tuple(path.format(number + 1) for path in self.ours)
        return self._replace(theirs=self.theirs.replace("{}", str(number)), ours=ours)


def norm(theirs: str, ours: str) -> tuple[Weight, ...]:
    """Returns the rows of a norm; RMSNorm has no bias. Checkpoints converted from TensorFlow name them otherwise."""
    scale = Weight(f"{theirs}.weight|{theirs}.gamma", (f"{ours}/scale",))
    return scale, Weight(f"{theirs}.bias|{theirs}.beta", (f"{ours}/bias",))


def dense(theirs: str, *ours: str, change: Change = TRANSPOSED) -> tuple[Weight, ...]:
    """Returns the rows of a dense layer, or of several that are one in the checkpoint."""
    kernels, biases = (tuple(f"{path}/{name}" for path in ours) for name in ("kernel", "bias"))
    return Weight(f"{theirs}.weight", kernels, change), Weight(f"{theirs}.bias", biases)


class Key:
    """One or several keys of config.json and the fields that they determine."""

    def read(self, config: Config) -> Fields:
        """Returns the fields as values of a config. Raises UserError, which names the key, for a value without one."""
        raise NotImplementedError

    def write(self, fields: Fields) -> Config:
        """Inverse of `read`; the fields are objects. What a key cannot express is found by comparison (`Family`)."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Value(Key):
    """A number or a switch that is the same in both; `default` is the value where config.json lacks the key."""

    theirs: str
    ours: tuple[str, ...]
    default: Any

    def read(self, config):
        return dict.fromkeys(self.ours, config.get(self.theirs, self.default))

    def write(self, fields):
        value = fields[self.ours[0]]
        return {self.theirs: self.default if value is None else value}


@dataclasses.dataclass(frozen=True)
class Fixed(Key):
    """A key for which the architecture has one value alone."""

    theirs: str
    value: Any

    def read(self, config):
        if (found := config.get(self.theirs, self.value)) != self.value:
            raise refusal(self.theirs, found, f"only {self.value!r}")
        return {}

    def write(self, fields):
        return {self.theirs: self.value}


@dataclasses.dataclass(frozen=True)
class Choice(Key):
    """A name that stands for a function; the first name of a function is written."""

    theirs: str
    ours: str
    default: str
    options: Mapping[str, str]  # theirs -> the function's name in a config

    def read(self, config):
        chosen = config.get(self.theirs, self.default)
        if chosen not in self.options:
            raise refusal(self.theirs, chosen, nearest(str(chosen), self.options))
        return {self.ours: self.options[chosen]}

    def write(self, fields):
        for name, text in self.options.items():
            if comparable(names.resolve(text, "arch", self.ours)) == comparable(fields[self.ours]):
                return {self.theirs: name}
        return {self.theirs: self.default}


@dataclasses.dataclass(frozen=True)
class Argument(Key):
    """An argument of the function or class that a field names."""

    theirs: str
    ours: str
    default: float
    call: str  # such as "layers.norm.layer_norm"
    argument: str

    def read(self, config):
        return {self.ours: f"{self.call}({self.argument}={float(config.get(self.theirs, self.default))!r})"}

    def write(self, fields):
        return {self.theirs: arguments(fields[self.ours]).get(self.argument, self.default)}


class Classes(Key):
    """The number of classes, which a run takes from its own data."""

    def read(self, config: Config) -> Fields:
        return {}

    def write(self, fields: Fields) -> Config:
        return {"id2label": {str(i): name for i, name in enumerate(unnamed_classes(fields["num_classes"]))}}


@dataclasses.dataclass(frozen=True)
class Family:
    """A `model_type`.

    Attributes:
        model_type: in config.json.
        architecture: the class of transformers that is written in config.json.
        model: the architecture's name in a config, such as "gpt.GPT".
        reads: keys of the texts that the model is for; () if the recipe's ops make the inputs.
        image: config.json -> height, width and channels of the images that the model is for; None for texts alone.
        processor: the class of transformers that prepares images.
        prefix: of names in a checkpoint of a complete model; checkpoints without a head lack it.
        headed: beginnings of names that never have the prefix.
        weights: the table, or a function of the fields, as values of a config, that returns it.
        keys: of config.json.
        fields: that differ from the architecture's defaults for all models of the type, as values of a config.
        missing: field -> what None stands for, given the other fields.
        free: fields that may differ, as they do not change the function of a trained network.
        of_task: fields that a recipe sets for its task, whatever the checkpoint has: those of the head.
        ignored: regular expressions of names of a checkpoint that are constants.
        of_shapes: keys of config.json that the shapes of our parameters, by path, determine, given the other keys.
    """

    model_type: str
    architecture: str
    model: str
    prefix: str
    weights: tuple[Weight, ...] | Callable[[Fields], Iterable[Weight]]
    keys: tuple[Key, ...]
    fields: Fields = dataclasses.field(default_factory=dict)
    reads: tuple[str, ...] = ("text",)
    image: Callable[[Config], tuple[int, int, int]] | None = None
    processor: str = "ViTImageProcessor"
    missing: Mapping[str, Callable[[Fields], Any]] = dataclasses.field(default_factory=dict)
    free: frozenset[str] = FREE
    of_task: frozenset[str] = frozenset()
    headed: tuple[str, ...] = ("lm_head.weight",)
    ignored: tuple[str, ...] = ()
    of_shapes: Callable[[Shapes, Config], Config] = lambda shapes, config: {}

    def read_config(self, config: Config) -> dict[str, Any]:
        """Returns the fields of a config.json, as values of a config. Raises UserError, which names the key, for a
        value that the architecture cannot represent."""
        fields = dict(self.fields)
        for key in self.keys:
            fields |= key.read(config)
        implied = [name for name, f in self.missing.items() if name in fields and fields[name] == f(fields)]
        return {name: value for name, value in fields.items() if value is not None and name not in implied}

    def write_config(self, fields: Fields) -> dict[str, Any]:
        """Returns the config.json for the fields of a model, which are objects; see `differences`."""
        complete = self._complete(fields)
        config = {"model_type": self.model_type, "architectures": [self.architecture]}
        for key in self.keys:
            config |= key.write(complete)
        return config

    def differences(self, fields: Fields, others: Fields) -> list[str]:
        """Returns the fields in which two models of this type compute differently; all values are objects."""
        ours, theirs = self._complete(fields), self._complete(others)
        return [
            name
            for name in ours
            if name not in self.free and "dropout" not in name and comparable(ours[name]) != comparable(theirs[name])
        ]

    def read_weights(self, arrays: Arrays, fields: Fields) -> tuple[dict[str, np.ndarray], list[str]]:
        """Returns the parameters and batch statistics by path, and the names of a checkpoint that have no place in the
        model.

        Args:
            fields: as returned by `read_config`.
        """
        theirs = {name.removeprefix(self.prefix): x for name, x in arrays.items()}
        found, known = {}, set()
        for weight in self._rows(fields, r"\.(\d+)\.", theirs, first=0):
            aliases = weight.theirs.split("|")
            known.update(aliases)
            name = next((alias for alias in aliases if alias in theirs), None)
            if name and weight.fits(fields):
                found |= weight.to_ours(theirs[name])
        constant = re.compile("|".join(self.ignored) or "$^")
        return found, [name for name in theirs if name not in known and not constant.fullmatch(name)]

    def write_weights(self, params: Arrays, fields: Fields) -> dict[str, np.ndarray]:
        """Inverse of `read_weights`. Raises UserError for a parameter without a name in a checkpoint."""
        ours, result = dict(params), {}
        for weight in self._rows(fields, r"block(\d+)/", ours, first=1):
            if weight.fits(fields) and all(path in ours for path in weight.ours):
                name = weight.theirs.partition("|")[0]
                array = weight.to_theirs([ours.pop(path) for path in weight.ours])
                result[name if name.startswith(self.headed) else self.prefix + name] = array
        if ours:
            raise UserError(f"parameter {min(ours)} has no name in checkpoints of {self.model_type}")
        return result

    def _rows(self, fields: Fields, pattern: str, found: Arrays, first: int) -> Iterator[Weight]:
        """Yields the table with numbers of blocks, as many as the names of `found` have."""
        numbers = [int(number) for name in found for number in re.findall(pattern, name)]
        for weight in self.weights(fields) if callable(self.weights) else self.weights:
            is_numbered = "{}" in weight.theirs
            yield from map(weight.of_block, range(1 + max(numbers, default=-1) - first)) if is_numbered else [weight]

    def _complete(self, fields: Fields) -> dict[str, Any]:
        return {**fields, **{name: f(fields) for name, f in self.missing.items() if fields.get(name) is None}}


@dataclasses.dataclass(frozen=True)
class Part(Key):
    """The config.json of a part of the network, within that of the whole, and the field with the call that makes it.

    Attributes:
        family: of the part.
        fields: of the part that differ from those of its family, as values of a config.
    """

    theirs: str
    ours: str
    family: Family
    fields: Fields = dataclasses.field(default_factory=dict)

    def read(self, config):
        found = config.get(self.theirs) or {}
        if (kind := found.get("model_type", self.family.model_type)) != self.family.model_type:
            raise refusal(f"model_type of {self.theirs}", kind, f"only {self.family.model_type!r}")
        fields = self.family.read_config(found) | self.fields
        values = (f"{key}={value if isinstance(value, str) else repr(value)}" for key, value in fields.items())
        return {self.ours: f"{self.family.model}({', '.join(values)})"}

    def write(self, fields):
        """A part of another family becomes one without sizes, which is found by comparison."""
        target, _ = comparable(fields[self.ours])
        if target is not names.resolve(self.family.model, "arch", self.ours):
            return {self.theirs: {"model_type": self.family.model_type}}
        written = self.family.write_config(arguments(fields[self.ours]))
        return {self.theirs: {key: x for key, x in written.items() if key not in ("architectures", "id2label")}}


@functools.cache
def families() -> dict[str, Family]:
    """Returns model_type -> description, from all files of this folder."""
    folder = importlib.import_module(__package__)
    modules = [
        importlib.import_module(f"{__package__}.{entry.name}") for entry in pkgutil.iter_modules(folder.__path__)
    ]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Family)]
    return {family.model_type: family for family in found}


def class_names(config: Config) -> tuple[str, ...]:
    """Returns the names of the classes of a classifier, two without names if config.json lacks them.

    Raises UserError for a head with other outputs, such as a number.
    """
    kind = config.get("problem_type") or CLASSES
    if kind != CLASSES:
        raise refusal("problem_type", kind, f"only {CLASSES!r}")
    names = config.get("id2label") or dict(enumerate(unnamed_classes(config.get("num_labels", 2))))
    return tuple(names[key] for key in sorted(names, key=int))


def unnamed_classes(number: int) -> tuple[str, ...]:
    """Returns the names of classes without names."""
    return tuple(f"LABEL_{index}" for index in range(number))


def refusal(key: str, value: Any, hint: str) -> UserError:
    """Returns the error for a value of config.json that the architecture cannot represent."""
    return UserError(f"config.json: {key} {value!r} cannot be represented: {hint}")


def arguments(value: Any) -> dict[str, Any]:
    """Returns the arguments of a function or class with those that are bound, defaults included."""
    bound = isinstance(value, functools.partial)
    target, args, kwargs = (value.func, value.args, value.keywords) if bound else (value, (), {})
    try:
        found = inspect.signature(target).bind_partial(*args, **kwargs)
    except (TypeError, ValueError):  # a function without a signature has no bound arguments
        return {}
    found.apply_defaults()
    return found.arguments


def comparable(value: Any) -> Any:
    """Returns a value that is equal for equal objects: a function with the same arguments, bound or by default."""
    if isinstance(value, tuple):
        return tuple(map(comparable, value))
    if not callable(value):
        return value
    target = value.func if isinstance(value, functools.partial) else value
    return target, tuple((name, comparable(x)) for name, x in arguments(value).items())
