"""From names in a config to objects: `mixer.MLPMixer` is class MLPMixer of arch/mixer.py, and its other keys are its
fields.

No registry: what is found is what stands in the folder.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import typing
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from beartype.door import is_bearable
from ml_collections import ConfigDict

from data import augment, calls
from data.calls import parse_call
from data.dataset import Info
from data.errors import UserError, nearest
from data.transform import Transform

CHECKOUT = Path(__file__).resolve().parent.parent
OUTSIDE = {"nn": nn, "jnp": jnp}  # what a name in a config may start with, besides files of its package


def resolve(text: str, package: str, where: str) -> Any:
    """Returns what `text` names: "nn.gelu", "resnet.Block" of arch/resnet.py, "nn.initializers.normal(0.02)".

    A call whose arguments are complete is made (initialisers, augmentations); one that still lacks some fixes those
    given.
    Raises UserError naming the nearest thing there is.
    """
    name, args, kwargs = parse_call(text, where)
    *path, last = name.split(".")
    owner = _owner(path, package, name, where)
    if not hasattr(owner, last):
        raise UserError(f"{where} {name!r} does not exist: {nearest(last, _public(owner))}")
    target = getattr(owner, last)
    if not args and not kwargs and not text.rstrip().endswith(")"):
        return target
    calls.check_arguments(target, text, where, args, kwargs, partial=True)
    try:
        inspect.signature(target).bind(*args, **kwargs)
    except TypeError:
        return functools.partial(target, *args, **kwargs)
    if inspect.isclass(target):
        return functools.partial(target, *args, **kwargs)
    return calls.make(target, text, where, args, kwargs)


def _owner(path: list[str], package: str, name: str, where: str):
    """Returns the module or class that the dotted `path` leads to."""
    if path and path[0] in OUTSIDE:
        owner, rest = OUTSIDE[path[0]], path[1:]
    else:
        module, rest = _module(path, package)
        if module is None:
            options = [f"{file}.{item}" for file, item in available(package)]
            raise UserError(f"{where} {name!r} does not exist in {package}/: {nearest(name, options)}")
        owner = module
    for part in rest:
        owner = getattr(owner, part, None)
        if owner is None:
            raise UserError(f"{where} {name!r} does not exist: no {part!r} in it")
    return owner


def _module(path: list[str], package: str):
    """Returns the longest module of `package` along `path`, and the rest of the path; None if there is none."""
    for end in range(len(path), 0, -1):
        try:
            return importlib.import_module(".".join([package, *path[:end]])), path[end:]
        except ModuleNotFoundError as error:
            if error.name is None or not error.name.startswith(package + "."):
                raise  # the file is there and one of its own imports is not
    return None, path


def _public(owner) -> list[str]:
    return [name for name in vars(owner) if not name.startswith("_")]


def available(package: str) -> list[tuple[str, str]]:
    """Returns (file, class) of every public class defined in the files of `package`."""
    folder = importlib.import_module(package)
    found = []
    for entry in pkgutil.iter_modules(folder.__path__):
        if entry.ispkg:
            continue
        module = importlib.import_module(f"{package}.{entry.name}")
        found += [
            (entry.name, name)
            for name, value in vars(module).items()
            if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
        ]
    return found


def construct(group: ConfigDict, package: str, **derived) -> Any:
    """Returns the object of a `model` or `task` group: class `group.name` with the other keys as fields.

    `derived` are values for fields that the config leaves open, used if the class has them.
    Raises UserError for an unknown class or field, or a value that is not of the field's type.
    """
    kind = {"arch": "model", "tasks": "task"}[package]
    where = f"config.{kind}"
    cls = resolve(group.name, package, f"{where}.name")
    if not dataclasses.is_dataclass(cls):
        options = [f"{file}.{item}" for file, item in available(package)]
        raise UserError(f"{where}.name {group.name!r} is no {kind}: {nearest(group.name, options)}")
    fields = [field.name for field in dataclasses.fields(cls) if field.init and field.name not in ("parent", "name")]
    hints = typing.get_type_hints(cls)
    values = {key: value for key, value in derived.items() if key in fields}
    for key, value in group.items():
        if key == "name":
            continue
        if key not in fields:
            raise UserError(f"{where}.{key} is no field of {group.name}: {nearest(key, fields)}")
        values[key] = _field_value(value, hints[key], package, f"{where}.{key}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {group.name} refused its fields: {error}") from error


def _field_value(value: Any, hint: Any, package: str, where: str) -> Any:
    """Returns `value` as the field wants it: strings become what they name unless the field holds strings."""
    if isinstance(value, str) and where.endswith(".dtype"):
        try:
            return jnp.dtype(value)
        except TypeError as error:
            raise UserError(f"{where} {value!r} is no dtype: float32, bfloat16 or float16") from error
    if _fits(value, hint):
        return value
    if isinstance(value, str) and is_bearable(print, hint):  # a field that takes functions or classes
        return resolve(value, package, where)
    if isinstance(value, int) and is_bearable(float(value), hint):
        return float(value)
    raise UserError(f"{where} must be {getattr(hint, '__name__', hint)}, not {type(value).__name__} {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; unlike `is_bearable`, which draws one item at random, looks at all of a tuple."""
    if typing.get_origin(hint) is tuple and isinstance(value, tuple) and typing.get_args(hint)[1:] == (...,):
        return all(_fits(item, typing.get_args(hint)[0]) for item in value)
    return is_bearable(value, hint)


def build_task(config: ConfigDict, info: Info) -> Any:
    """Returns the task, with the target's mean and deviation of the training split, the names of the classes, and what
    makes text of its tokens.
    Raises UserError if the data lacks what it reads.
    """
    target = info.statistics.get("target", {"mean": 0.0, "std": 1.0})
    statistics = {"mean": float(target["mean"]), "std": float(target["std"])}
    task = construct(config.task, "tasks", classes=tuple(info.classes), **statistics)
    if getattr(task, "detokenize", ()) is None:
        task = dataclasses.replace(task, detokenize=info.detokenize(task.target))
    for key in (*task.inputs, *task.needs):
        if key not in info.shapes:
            what = "config.task.inputs names" if key in task.inputs else f"config.task.name {config.task.name} needs"
            raise UserError(f"{what} {key!r}, but examples of {info.name} have: {', '.join(info.shapes)}")
    return task


def build_model(config: ConfigDict, task: Any, info: Info, axis_name: tuple[str, ...] | None = None) -> nn.Module:
    """Returns the model; head width, sizes of vocabularies (of the first input and of the target, where they are text)
    and BatchNorm's axes are filled in unless the config sets them.
    """
    tokens = {"vocab_size": task.inputs[0], "target_vocab_size": getattr(task, "target", "")}
    sizes = {field: size for field, key in tokens.items() if (size := info.vocabulary_size(key)) is not None}
    model = construct(config.model, "arch", num_classes=task.outputs_width(info), axis_name=axis_name, **sizes)
    if not isinstance(model, nn.Module):
        raise UserError(f"config.model.name {config.model.name!r} is no Flax module")
    return model


def build_transform(config: ConfigDict, info: Info) -> Transform:
    """Returns preprocessing with the training split's statistics and the augmentations of `augment.ops`."""
    ops = tuple(calls.call(augment, text, "config.augment.ops") for text in config.augment.ops)
    try:
        return Transform(ops, info.statistics)
    except ValueError as error:
        raise UserError(f"config.augment.ops: {error}") from error


def check_checkout() -> None:
    """Raises UserError when `arch`, a common name, was imported from elsewhere than this checkout."""
    import arch

    if Path(arch.__file__).resolve().parent.parent != CHECKOUT:
        raise UserError(f"another package named arch shadows this one: {arch.__file__}; run from the checkout")
