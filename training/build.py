"""The model, task and preprocessing of a config: `model.name` names a class, and the other keys are its fields."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree
from ml_collections import ConfigDict

from core import names, traces
from core.calls import parse
from core.errors import UserError, nearest
from core.info import Info, Key
from data.augment.transform import Transform
from tasks.task import Task

ADDED = {"mask": jnp.float32, "index": jnp.int32}  # keys that batching adds, with their types
PARTS = ("arch", "tasks", "data")  # folders of the code that a user adds to
KINDS = {"arch": "model", "tasks": "task"}  # package -> group of its objects
ADAPTER = "adapter"  # key of the group `model`: a module that wraps the network
CHECKOUT = Path(__file__).resolve().parent.parent


def construct(group: ConfigDict, package: str, **derived) -> Any:
    """Returns the object of a `model` or `task` group: class `group.name` with the other keys as fields.

    `group.name` may be a call, "resnet.CifarResNet(depth=20)"; keys of the group override its arguments. `derived` are
    values for fields that the config leaves open, used if the class has them. `group.variant` selects one of the
    class's VARIANTS; all other values override its fields.
    Raises UserError for an unknown class, variant or field, or a value of another type than the field's.
    """
    kind = KINDS[package]
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
    check_fields(group, package)
    for key, value in group.items():
        if key in ("name", "variant") or (kind == "model" and key == ADAPTER):
            continue
        hint, at = hints[key], f"{where}.{key}"
        is_code = isinstance(value, str) and not names.fits(value, hint) and names.takes_objects(hint)
        values[key] = names.resolve(value, package, at, hint) if is_code else names.convert(value, hint, at)
    names.check_sizes(cls, values, where)
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {tree.name} rejects its fields: {error}") from error


def check_fields(group: ConfigDict, package: str) -> None:
    """Raises UserError for an unknown field in a `model` or `task` group."""
    where = f"config.{KINDS[package]}"
    name = parse(group.name, f"{where}.name").name
    fields = names.parameters(names.find(package, name, f"{where}.name"))
    others = ("name", "variant", *(ADAPTER,) * (package == "arch"))
    for key in group:
        if key not in fields and key not in others:
            raise UserError(f"{where}.{key}: {name} has no field {key!r}: {nearest(key, fields)}")


def _variant(cls: type, name: str | int | None, where: str) -> dict[str, Any]:
    """Returns the fields of a variant; an integer stands for a name such as "18" on the command line."""
    variants = getattr(cls, "VARIANTS", {})
    if name is None:
        return {}
    if str(name) not in variants:
        raise UserError(f"{where}.variant: {cls.__name__} has no variant {name!r}: {nearest(str(name), variants)}")
    return dict(variants[str(name)])


def example_batch(info: Info, size: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes and types of a batch from the host, with the keys that batching adds."""
    shapes = {
        key: jax.ShapeDtypeStruct((size, *record.shape), jnp.dtype(record.dtype)) for key, record in info.keys.items()
    }
    return shapes | {key: jax.ShapeDtypeStruct((size,), dtype) for key, dtype in ADDED.items()}


def transformed_batch(transform: Transform, info: Info, rng: Array | None = None) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes and types of a batch of one example, after the augment ops: those of evaluation if `rng` is None.

    Raises UserError for ops that fail.
    """
    try:
        return jax.eval_shape(functools.partial(transform, rng), example_batch(info))
    except Exception as error:  # an op may raise any exception for unsuitable shapes
        ops = ", ".join(op.name for op in transform.ops)
        message = f"config.augment.ops {ops} fail on examples of {info.name}: {first_line(error)}"
        raise UserError(message, trace(error)) from error


def model_inputs(task: Task, transform: Transform, info: Info) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns shapes and types of one example's model inputs, after the augment ops."""
    batch = transformed_batch(transform, info)
    return tuple(batch[name] for name in task.inputs)


def build_task(config: ConfigDict, info: Info, transform: Transform) -> Task:
    """Returns the task, bound to the data set.

    Raises UserError if batches after `transform`, which may add keys, lack a key or fact that the task reads.
    """
    task = construct(config.task, "tasks")
    if not isinstance(task, Task):
        raise UserError(f"config.task.name {config.task.name!r} is not a Task of tasks/task.py")
    available = transformed_batch(transform, info)
    options = [key for key in available if key not in ADDED]
    for key in (*task.inputs, *task.keys):
        if key not in available:
            user = "config.task.inputs" if key in task.inputs else f"config.task.name {config.task.name}"
            raise UserError(f"{user} needs {key!r}, but examples of {info.name} have: {', '.join(options)}")
    return task.bind(info)


def build_model(config: ConfigDict, task: Task, info: Info) -> nn.Module:
    """Returns the model.

    Unless the config sets them, these fields are filled in: `num_classes`; `vocab_size` or `columns` (how many features
    encode each column of a table) of the first input; the task's `model_fields`, such as `bos_id`.
    `config.model.adapter` names a module that wraps it.
    Raises UserError for a model that does not compute in `config.train.dtype`.
    """
    first = info.keys.get(task.inputs[0], Key())
    derived = {**task.model_fields} | ({"vocab_size": first.vocabulary.size} if first.vocabulary else {})
    if first.columns:
        derived["columns"] = tuple(first.columns.values())
    dtype = jnp.dtype(config.train.dtype)
    model = construct(config.model, "arch", num_classes=task.output_size(info), dtype=dtype, **derived)
    if not isinstance(model, nn.Module):
        raise UserError(f"config.model.name {config.model.name!r} is not a Flax module")
    if (used := jnp.dtype(getattr(model, "dtype", None) or jnp.float32)) != dtype:
        raise UserError(
            f"config.train.dtype is {dtype}, but config.model ({config.model.name}) computes in {used}: set only "
            "config.train.dtype, which needs a field dtype of the model"
        )
    return _adapter(config.model)(model)


def _adapter(group: ConfigDict) -> Callable[[nn.Module], nn.Module]:
    """Returns the function that wraps the network. Raises UserError for a name of another kind of object."""
    if ADAPTER not in group:
        return lambda network: network
    where = f"config.model.{ADAPTER}"
    adapter = names.resolve(group[ADAPTER], "arch", where, Callable)
    if "adapted" not in names.parameters(adapter):
        raise UserError(f"{where} {group[ADAPTER]!r} is not an adapter, such as 'lora.LoRA(rank=8)'")
    return lambda network: adapter(adapted=network)


def parts(config: ConfigDict, info: Info) -> tuple[Transform, Task, nn.Module]:
    """Returns preprocessing, task and model of a config, given the data set. Raises UserError."""
    transform = Transform.create(config.augment.ops, info)
    task = build_task(config, info, transform)
    return transform, task, build_model(config, task, info)


def frozen(model: nn.Module) -> tuple[str, ...]:
    """Returns regular expressions of the paths of the parameters that the model never trains."""
    return getattr(model, "frozen", ())


def is_wrapper(group: Mapping[str, Any]) -> bool:
    """Whether the network of a `model` group is trained as a part of another one."""
    name = parse(group["name"], "config.model.name").name
    return ADAPTER in group or hasattr(names.find("arch", name, "config.model.name"), "deployed")


def deployed(model: nn.Module, variables: PyTree) -> tuple[nn.Module, PyTree]:
    """Returns the network that predicts, with its variables: those of the model, or of the one that it wraps."""
    return model.deployed(variables) if hasattr(model, "deployed") else (model, variables)


def check_keys(info: Info) -> None:
    """Raises UserError for a data set with a key that batching adds."""
    for key in ADDED:
        if key in info.keys:
            raise UserError(f"{info.name} has a key {key!r}, which batches use for themselves: rename it")


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, shortened, with its place in a file of a model, task or op."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    place = traces.place(error, _is_part).removeprefix(f"{CHECKOUT}/")
    return lines[0][:300] + f" ({place})" * bool(place)


def trace(error: Exception) -> str:
    """Returns the traceback of an error that is a mistake in a model, task or op; "" for one that its inputs cause."""
    return traces.trace(error, _is_part) if isinstance(error, traces.BUGS) else ""


def _is_part(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(CHECKOUT) and path.relative_to(CHECKOUT).parts[0] in PARTS


def check_checkout() -> None:
    """Raises UserError if `arch`, a common name, was imported from outside this checkout."""
    import arch

    if Path(arch.__file__).resolve().parent.parent != CHECKOUT:
        raise UserError(f"another package named arch shadows this one: {arch.__file__}; run from the checkout")
