"""Overrides of config keys: the layers recipe < experiment row < command line, each a mapping of dotted keys.

A later layer wins, and drops the keys that an earlier one set for a replaced model, task or optimizer (`override`).
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from core import names
from core.calls import parse
from core.errors import UserError, nearest
from core.recipes import load
from training.config import OPEN_GROUPS, default, leaves

Changes = Mapping[str, Any]  # dotted key -> value
EXCLUSIVE = (("train.steps", "train.epochs"), ("train.batch_size", "train.batch_tokens"))  # one of each pair is set


def recipe(text: str) -> ConfigDict:
    """Returns the config of "FILE.py[:ARGUMENT]". Raises UserError, also for a complete experiment."""
    config = load(text)
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config {text} is not the config of one run; python -m experiments.run runs an experiment")
    return config


def override(config: ConfigDict, changes: Changes) -> tuple[ConfigDict, str]:
    """Returns a copy of `config` with `changes`, and one line on the keys that they dropped or kept ("" = none).

    - A new `model.name` drops the other keys of `model`, a new `optimizer.name` the arguments of the old function, a
      new `task.name` the keys that the new task lacks, and `model.variant` the keys that the variant sets.
    - `train.steps` and `train.epochs` replace each other, as do `train.batch_size` and `train.batch_tokens`.

    Keys in `changes` are never dropped. Raises UserError for an unknown task, or an unknown model with a variant.
    """
    result = config.copy_and_resolve_references()
    notes = []
    with result.unlocked(), result.ignore_type():
        for group, dropped in _stale(config, changes):
            for key in dropped:
                del result[group][key]
            notes += _note(group, dropped, config, changes)
        for key, other in EXCLUSIVE + tuple((other, key) for key, other in EXCLUSIVE):
            if changes.get(key) and other not in changes and (old := _get(config, other)):
                _set(result, other, type(old)(0))
                notes.append(f"{key}={changes[key]} replaces {other}={old}")
        for key, value in changes.items():
            _set(result, key, value)
    return result, "; ".join(notes)


def variant(config: ConfigDict, variants: Mapping[str, Changes], name: str) -> ConfigDict:
    """Returns a recipe's config with the overrides of `variants[name]`. Raises UserError with the nearest name."""
    if name not in variants:
        raise UserError(f"unknown argument {name!r}: {nearest(name, variants)}")
    return override(config, variants[name])[0]


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Returns {"train.steps": 40} for ("train.steps=40",): dotted keys and values from a command line.

    A value is a Python literal, true, false or else a string; always a string if the key's default is one.
    Raises UserError for a text without "=".
    """
    strings = {key for key, value in leaves(default()) if isinstance(value, str)}
    changes = {}
    for text in texts:
        key, given, value = text.partition("=")
        if not key or not given:
            raise UserError(f"--set {text}: write --set KEY=VALUE, such as --set train.steps=100")
        changes[key] = value if key in strings else _literal(value)
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


def _set(config: ConfigDict, dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for name in path:
        if name not in config:
            config[name] = ConfigDict()  # of an unknown group: `validate` refuses it
        config = config[name]
        if not isinstance(config, ConfigDict):
            raise UserError(f"config.{dotted} is not a key: {nearest(dotted, dict(leaves(default())))}")
    config[last] = value
