"""Overrides of config keys: the layers recipe < experiment row < command line, each a mapping of dotted keys.

A later layer wins, and drops the keys that an earlier one set for a replaced model, task or optimizer (`override`).
Where a layer sets `init_from` to published weights, their model is a layer below it.
"""

import ast
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from arch.pretrained.family import FREE
from core import names
from core.calls import Call, Name, parse, parse_argument, source
from core.errors import UserError, nearest
from core.recipes import load
from training import pretrained
from training.config import OPEN_GROUPS, default, leaves

Changes = Mapping[str, Any]  # dotted key -> value
OPS = {"augment.ops": "data.augment", "data.preprocess": "data.preprocess"}  # key of a tuple of calls -> their package
EXCLUSIVE = (("train.steps", "train.epochs"), ("train.batch_size", "train.batch_tokens"))  # one of each pair is set


def recipe(text: str) -> ConfigDict:
    """Returns the config of "FILE.py[:ARGUMENT]". Raises UserError, also for a complete experiment."""
    config = load(text)
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config {text} is not the config of one run; python -m experiments.run runs an experiment")
    return with_published_model(config, config.get("init_from", ""))[0]


def with_published_model(config: ConfigDict, init_from: str) -> tuple[ConfigDict, str]:
    """Returns the config with the model of published weights, "hf:FOLDER", and a note on the keys that it dropped; the
    same config for another start. Keys that do not change a network's function stay, and those of the task's head.
    Raises UserError."""
    if not pretrained.is_published(init_from):
        return config, ""
    result = config.copy_and_resolve_references()
    found = pretrained.published(init_from)
    model = {key: value for key, value in found.model.items() if key not in found.family.of_task}
    kept = {key: value for key, value in config.model.items() if key in FREE | found.family.of_task}
    dropped = [key for key in config.model if key not in {*kept, *model}]
    with result.unlocked(), result.ignore_type():
        result.model = ConfigDict({**model, **kept})
    return result, f"init_from={init_from} sets the model; dropped {', '.join(dropped)}" if dropped else ""


def override(config: ConfigDict, changes: Changes) -> tuple[ConfigDict, str]:
    """Returns a copy of `config` with `changes`, and one line on the keys that they dropped or kept ("" = none).

    - A new `model.name` drops the other keys of `model`, a new `optimizer.name` the arguments of the old function, a
      new `task.name` the keys that the new task lacks, and `model.variant` the keys that the variant sets.
    - `train.steps` and `train.epochs` replace each other, as do `train.batch_size` and `train.batch_tokens`.
    - "augment.ops.padded_crop.padding" replaces an argument of a call in the tuple `augment.ops`, by its text.

    - `init_from="hf:FOLDER"` sets the keys of `model`.

    Keys in `changes` are never dropped. Raises UserError for an unknown task, an unknown model with a variant, an op or
    argument that does not exist, and published weights that cannot be read.
    """
    config, note = with_published_model(config, changes.get("init_from", ""))
    notes = [note] if note else []
    result = config.copy_and_resolve_references()
    with result.unlocked(), result.ignore_type():
        for group, dropped in _stale(config, changes):
            for key in dropped:
                del result[group][key]
            notes += _note(group, dropped, config, changes)
        for key, other in EXCLUSIVE + tuple((other, key) for key, other in EXCLUSIVE):
            if changes.get(key) and other not in changes and (old := _get(config, other)):
                _set(result, other, type(old)(0))
                notes.append(f"{key}={changes[key]} replaces {other}={old}")
        for key, value in sorted(
            changes.items(), key=lambda change: bool(_op_list(change[0]))
        ):  # a list before its ops
            _set(result, key, value)
        if result.get("init_from"):
            result.data.preprocess = tuple(_with_start(text, result.init_from) for text in result.data.preprocess)
    return result, "; ".join(notes)


def _with_start(text: str, init_from: str) -> str:
    """Returns the text of an op in which start(...) has the tokenizer of `init_from`."""
    if "start(" not in text:
        return text
    if pretrained.is_published(init_from):
        tokenizer = Call("file", (str(pretrained.published(init_from).folder / pretrained.TOKENIZER),), {})
    else:
        tokenizer = Call("run", (init_from,), {})

    def replaced(node: Any) -> Any:
        match node:
            case Call(name="start"):
                return node._replace(args=(tokenizer,), kwargs={})
            case Call():
                kwargs = {key: replaced(value) for key, value in node.kwargs.items()}
                return node._replace(args=tuple(map(replaced, node.args)), kwargs=kwargs)
        return node

    return source(replaced(parse(text, "config.data.preprocess")))


def variant(config: ConfigDict, variants: Mapping[str, Changes], name: str) -> ConfigDict:
    """Returns a recipe's config with the overrides of `variants[name]`. Raises UserError with the nearest name."""
    if name not in variants:
        raise UserError(f"unknown argument {name!r}: {nearest(name, variants)}")
    return override(config, variants[name])[0]


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Returns {"train.steps": 40} for ("train.steps=40",): dotted keys and values from a command line.

    A value is a Python literal, true, false or else a string; always a string if the key's default is one. An argument
    of an op stays a text.
    Raises UserError for a text without "=".
    """
    strings = {key for key, value in leaves(default()) if isinstance(value, str)}
    changes = {}
    for text in texts:
        key, given, value = text.partition("=")
        if not key or not given:
            raise UserError(f"--set {text}: write --set KEY=VALUE, such as --set train.steps=100")
        changes[key] = value if key in strings or _op_list(key) else _literal(value)
    return changes


def to_text(key: str, value: Any) -> str:
    """Inverse of `assignments` for one key."""
    return f"{key}={value if isinstance(value, str) else repr(value)}"


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _stale(config: ConfigDict, changes: Changes) -> Iterator[tuple[str, list[str]]]:
    """Yields (group, keys that `changes` drop from it) for each group whose name or variant changes."""
    for group in OPEN_GROUPS:
        old = config.get(group, {})
        name = changes.get(f"{group}.name", old.get("name"))
        if name != old.get("name"):
            kept = _kept(group, name)
            dropped = [key for key in old if key not in kept]
        elif group == "model" and "model.variant" in changes:
            variants = getattr(_class("arch", name), "VARIANTS", {})
            dropped = [key for key in variants.get(str(changes["model.variant"]), {}) if key in old]
        else:
            continue
        yield group, [key for key in dropped if f"{group}.{key}" not in changes]


def _kept(group: str, name: str) -> set[str]:
    """Returns the keys of a group that stay when its name changes to `name`."""
    match group:
        case "optimizer":
            return set(default().optimizer)
        case "task":
            return {"name", *names.parameters(_class("tasks", name))}
    return {"name"}


def _note(group: str, dropped: list[str], config: ConfigDict, changes: Changes) -> list[str]:
    """Returns the note on a group, or nothing if no key was dropped or kept."""
    parts = [f"dropped {', '.join(dropped)}"] if dropped else []
    if group == "optimizer":
        plain = default().optimizer
        kept = {key: x for key, x in config.optimizer.items() if key in plain and f"optimizer.{key}" not in changes}
        shown = [f"{key}={x!r}" for key, x in kept.items() if key in ("learning_rate", "schedule") or x != plain[key]]
        parts += [f"kept {', '.join(shown)}"] if shown else []
    chosen = next(key for key in (f"{group}.name", f"{group}.variant") if key in changes)
    return [f"{to_text(chosen, changes[chosen])}: {'; '.join(parts)}"] if parts else []


def _class(package: str, name: str) -> Any:
    where = {"arch": "config.model.name", "tasks": "config.task.name"}[package]
    return names.find(package, parse(name, where).name, where)


def _get(config: ConfigDict, dotted: str) -> Any:
    group, _, key = dotted.partition(".")
    return config.get(group, {}).get(key)


def _op_list(dotted: str) -> str:
    """Returns the key of the tuple of calls that a dotted key goes into, "" for any other key."""
    return next((key for key in OPS if dotted.startswith(f"{key}.")), "")


def with_argument(texts: tuple[str, ...], key: str, change: str, value: Any) -> tuple[str, ...]:
    """Returns calls, such as ("flip()", "padded_crop(4)"), with an argument of one of them changed.

    Args:
        key: of the config, which has the calls: "augment.ops".
        change: "OP.ARGUMENT"; a positional argument of that name is replaced, too.
        value: the argument's text ("2", "'image'", "bpe(4000)"), or a value that is not a string.

    Raises UserError for an op that the calls lack or that occurs twice, and for an unknown argument.
    """
    name, _, argument = change.partition(".")
    where = f"config.{key}.{change}"
    trees = [parse(text, f"config.{key}") for text in texts]
    found = [place for place, tree in enumerate(trees) if tree.name == name]
    if len(found) != 1:
        reason = f"{name!r} occurs {len(found)} times" if found else nearest(name, [tree.name for tree in trees])
        raise UserError(f"{where}: config.{key} is {texts!r}: {reason}")
    operations = names.subclasses(OPS[key], importlib.import_module(f"{OPS[key]}.op").Op)
    if name not in operations:
        raise UserError(f"{where}: {name!r} does not exist: {nearest(name, operations)}")
    known = list(names.parameters(operations[name]))
    if argument not in known:
        raise UserError(f"{where}: {name} has no argument {argument!r}: {nearest(argument, known)}")
    new = parse_argument(value, where) if isinstance(value, str) else value
    changed = _with_argument(trees[found[0]], known.index(argument), argument, new)
    return (*texts[: found[0]], source(changed), *texts[found[0] + 1 :])


def _with_argument(tree: Name | Call, place: int, name: str, value: Any) -> Call:
    args, kwargs = (tree.args, tree.kwargs) if isinstance(tree, Call) else ((), {})
    if place < len(args):
        return Call(tree.name, (*args[:place], value, *args[place + 1 :]), kwargs)
    return Call(tree.name, args, {**kwargs, name: value})


def _set(config: ConfigDict, dotted: str, value: Any) -> None:
    if key := _op_list(dotted):
        change = dotted.removeprefix(f"{key}.")
        _set(config, key, with_argument(_get(config, key) or (), key, change, value))
        return
    *path, last = dotted.split(".")
    for name in path:
        if name not in config:
            config[name] = ConfigDict()  # of an unknown group: `validate` refuses it
        config = config[name]
        if not isinstance(config, ConfigDict):
            raise UserError(f"config.{dotted} is not a key: {nearest(dotted, dict(leaves(default())))}")
    config[last] = value
