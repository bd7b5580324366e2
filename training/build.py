"""The model, task and preprocessing of a config: `model.name` names a class, and the other keys are its fields."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from core import names
from core.calls import parse
from core.errors import UserError, nearest
from core.info import Info
from data.augment import ops as augment
from data.augment.transform import Transform
from tasks.task import Task

CHECKOUT = Path(__file__).resolve().parent.parent


def construct(group: ConfigDict, package: str, **derived) -> Any:
    """Returns the object of a `model` or `task` group: class `group.name` with the other keys as fields.

    `group.name` may be a call, "resnet.CifarResNet(depth=20)"; keys of the group override its arguments. `derived` are
    values for fields that the config leaves open, used if the class has them. `group.variant` selects one of the
    class's VARIANTS; all other values override its fields.
    Raises UserError for an unknown class, variant or field, or a value of another type than the field's.
    """
    kind = {"arch": "model", "tasks": "task"}[package]
    where = f"config.{kind}"
    find = functools.partial(names.find, package)
    tree = parse(group.name, f"{where}.name")
    cls = find(tree.name, f"{where}.name")
    if not dataclasses.is_dataclass(cls):
        options = [f"{file}.{item}" for file, item in names.available(package) if item[0].isupper()]
        raise UserError(f"{where}.name {group.name!r} does not name a {kind}: {nearest(tree.name, options)}")
    fields = names.parameters(cls)
    hints = names.annotations(cls)
    values = _variant(cls, group.get("variant"), where) | {key: x for key, x in derived.items() if key in fields}
    args, kwargs = names.arguments(cls, tree, find, f"{where}.name")
    values |= dict(zip(fields, args, strict=False)) | kwargs
    for key, value in group.items():
        if key in ("name", "variant"):
            continue
        if key not in fields:
            raise UserError(f"{where}.{key}: {tree.name} has no field {key!r}: {nearest(key, fields)}")
        hint, at = hints[key], f"{where}.{key}"
        is_code = isinstance(value, str) and not names.fits(value, hint) and names.takes_objects(hint)
        values[key] = names.resolve(value, package, at, hint) if is_code else names.convert(value, hint, at)
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {tree.name} rejects its fields: {error}") from error


def _variant(cls: type, name: str | int | None, where: str) -> dict[str, Any]:
    """Returns the fields of a variant; an integer stands for a name such as "18" on the command line."""
    variants = getattr(cls, "VARIANTS", {})
    if name is None:
        return {}
    if str(name) not in variants:
        raise UserError(f"{where}.variant: {cls.__name__} has no variant {name!r}: {nearest(str(name), variants)}")
    return dict(variants[str(name)])


def build_task(config: ConfigDict, info: Info) -> Task:
    """Returns the task, bound to the data set. Raises UserError if the data set lacks a key or fact that it reads."""
    task = construct(config.task, "tasks")
    if not isinstance(task, Task):
        raise UserError(f"config.task.name {config.task.name!r} is not a Task of tasks/task.py")
    for key in (*task.inputs, *task.keys):
        if key not in info.keys:
            user = "config.task.inputs" if key in task.inputs else f"config.task.name {config.task.name}"
            raise UserError(f"{user} needs {key!r}, but examples of {info.name} have: {', '.join(info.keys)}")
    return task.bind(info)


def build_model(config: ConfigDict, task: Task, info: Info) -> nn.Module:
    """Returns the model.

    Unless the config sets them, the fields `num_classes`, `vocab_size` (of the first input) and `bos_id` are filled in.
    """
    vocabulary = info.keys[task.inputs[0]].vocabulary
    derived = {"vocab_size": vocabulary.size} if vocabulary else {}
    if task.generates:
        derived["bos_id"] = task.vocabulary.bos
    model = construct(config.model, "arch", num_classes=task.output_size(info), **derived)
    if not isinstance(model, nn.Module):
        raise UserError(f"config.model.name {config.model.name!r} is not a Flax module")
    return model


def build_transform(config: ConfigDict, info: Info) -> Transform:
    """Returns preprocessing with the training split's statistics and the augmentations of `augment.ops`."""
    ops = tuple(names.call(augment, text, "config.augment.ops") for text in config.augment.ops)
    try:
        return Transform(ops, {key: record.statistics for key, record in info.keys.items() if record.statistics})
    except ValueError as error:
        raise UserError(f"config.augment.ops: {error}") from error


def check_checkout() -> None:
    """Raises UserError if `arch`, a common name, was imported from outside this checkout."""
    import arch

    if Path(arch.__file__).resolve().parent.parent != CHECKOUT:
        raise UserError(f"another package named arch shadows this one: {arch.__file__}; run from the checkout")
