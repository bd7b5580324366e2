"""Transfer learning: initialises a state from the weights of another run, or published ones, as far as they fit."""

import dataclasses
import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree
from ml_collections import ConfigDict

from arch.layers.stacking import stacked, unstacked
from arch.pretrained.table import collections
from core.errors import UserError
from core.info import PIXELS, Info
from data.augment.op import parse_op
from training import build, pretrained, torch_file, vectors
from training import config as config_lib
from training.checkpoint import read_arrays, read_best, steps_in
from training.state import State, averaged

HEAD = "head"  # every architecture's last layer
EMBEDDING = "embedding"  # the parameter of nn.Embed, and of learned positions


def find_checkpoint(path: str, say: Callable[[str], None]) -> tuple[Path, PyTree, dict]:
    """Returns (folder, state, meta) of a checkpoint, of the newest in a folder of checkpoints, or of a workdir as
    `read_best`.

    Raises UserError if the path does not hold a readable checkpoint.
    """
    folder = Path(path)
    if steps := steps_in(folder):
        folder = folder / str(steps[-1])
    try:
        return (folder, *read_arrays(folder)) if (folder / "meta").is_dir() else read_best(folder, say)
    except UserError as error:
        raise UserError(f"config.init_from {path!r}: {error}") from error


def with_start_statistics(info: Info, configs: Sequence[ConfigDict]) -> Info:
    """Returns `info` with the statistics of the runs in `config.init_from`, if an augment op asks for them
    (`normalise(start=True)`). As a part of Info they are stored in checkpoints.

    Raises UserError if no start is set or readable, or if several runs side by side start with different statistics.
    """
    asking = [op.name for op in map(parse_op, configs[0].augment.ops) if op.from_start]
    if not asking:
        return info
    where = f"config.augment.ops: {asking[0]}"
    found = []
    for path in dict.fromkeys(config.init_from for config in configs):
        if not path:
            raise UserError(f"{where} takes statistics from config.init_from, which is empty")
        found.append(_statistics(path, info))
    if any(statistics != found[0] for statistics in found):
        raise UserError(f"{where}: the runs of config.init_from differ in their statistics")
    keys = {
        key: dataclasses.replace(record, statistics=found[0].get(key, record.statistics))
        for key, record in info.keys.items()
        if record.role != "target"  # the task standardises its own target
    }
    return dataclasses.replace(info, keys=info.keys | keys)


def _statistics(path: str, info: Info) -> dict[str, dict[str, Any]]:
    """Returns key -> statistics of a run, or of the images of published weights. Raises UserError."""
    if pretrained.is_published(path):
        statistics = pretrained.published(path).statistics
        keys = (key for key, record in info.keys.items() if record.role in PIXELS)
        return dict.fromkeys(keys, statistics) if statistics else {}
    keys = Info.from_json(find_checkpoint(path, lambda _: None)[2]["info"]).keys
    return {key: record.statistics for key, record in keys.items() if record.statistics}


def is_head(name: str) -> bool:
    """Whether a parameter's path is in the head, or is its kernel or bias, `head_kernel` and `head_bias`."""
    return any(part.partition("_")[0] == HEAD for part in name.split("/"))


def is_table(name: str) -> bool:
    """Whether a parameter's path is that of embedded tokens, not of positions."""
    return EMBEDDING in name.split("/") and "position" not in name


class Start(NamedTuple):
    """Variables of a trained network, from which `init_from` takes those that fit.

    Attributes:
        folder: of the checkpoint or of the published weights.
        collections: name -> tree of variables, such as "params".
        same_classes, same_words: whether the network has the classes and the vocabularies of the data set.
    """

    folder: Path
    collections: dict[str, PyTree]
    same_classes: bool
    same_words: bool


def _trained(path: str, state: State, info: Info, model: nn.Module, notes: list[str]) -> Start:
    """Returns the start from another run."""
    checkpoint, saved, meta = find_checkpoint(path, notes.append)
    there = Info.from_json(meta["info"])
    classes, words = ([fact(each) for each in (there, info)] for fact in (_classes, _vocabularies))
    return Start(checkpoint, _deployed(saved, meta, there), classes[0] == classes[1], words[0] == words[1])


def _classes(info: Info) -> set[tuple[str, ...]]:
    return {record.classes for record in info.keys.values()}


def _vocabularies(info: Info) -> set[tuple]:
    return {record.vocabulary.words() for record in info.keys.values() if record.vocabulary}


def _published(path: str, state: State, info: Info, model: nn.Module, notes: list[str]) -> Start:
    """Returns the start from published weights; vocabularies with additional rows get zeros there."""
    try:
        found = pretrained.published(path)
        same_words = found.has_tokens_of(info)
        shapes = {path: x.shape for path, x in flatten_dict(state.params, sep="/").items()}
        arrays, unknown = found.fitted(shapes)
    except UserError as error:
        raise UserError(f"config.init_from {path!r}: {error}") from error
    notes += [f"{name}: no part of {found.family.model}" for name in unknown]
    same_classes = not found.classes or found.classes in _classes(info)
    variables = {name: unflatten_dict(flat, sep="/") for name, flat in collections(arrays).items()}
    return Start(found.folder, variables, same_classes, same_words)


def _torch(path: str, state: State, info: Info, model: nn.Module, notes: list[str]) -> Start:
    """Returns the start from a file of PyTorch, for the network that the model adapts or is taught by."""
    network = getattr(model, getattr(model, "init_at", "adapted"), model)
    try:
        variables, unknown = torch_file.read(path, network)
    except UserError as error:
        raise UserError(f"config.init_from {path!r}: {error}") from error
    notes += [f"{name}: no part of {type(network).__name__}" for name in unknown]
    return Start(torch_file.file_of(path), variables, True, True)


def _words(path: str, state: State, info: Info, model: nn.Module, notes: list[str]) -> Start:
    """Returns the start from a file of vectors: the tables of embeddings of the only vocabulary."""
    vocabularies = [record.vocabulary for record in info.keys.values() if record.vocabulary]
    tables = {name: np.asarray(x) for name, x in flatten_dict(state.params, sep="/").items() if is_table(name)}
    tables, note = vectors.filled(path, tables, vocabularies[0] if len(vocabularies) == 1 else None)
    notes.append(note)
    return Start(Path(path), {"params": unflatten_dict(tables, sep="/")}, True, True)


FORMATS = {pretrained.PREFIX: _published, torch_file.PREFIX: _torch, vectors.PREFIX: _words}


def init_from(path: str, state: State, info: Info, model: nn.Module) -> tuple[State, list[str]]:
    """Returns `state` with the parameters and mutable collections at `path` that match in path and shape, or that the
    model adapts to its shapes: those of a checkpoint, of published weights, "hf:FOLDER" or "torch:FILE", or the vectors
    of words in "vectors:FILE". Those of a network that wraps another are those of the deployed one. A network that has
    the checkpoint's as a part, such as a backbone, takes them for that part.

    The head is loaded only if the checkpoint has the classes and the vocabularies of this data set, embeddings only if
    it has its vocabularies. The second result is the number of loaded arrays and one line per array that was adapted or
    not loaded. Raises UserError if nothing matches, or if a parameter that never trains is not loaded.
    """
    notes: list[str] = []
    find = next((find for prefix, find in FORMATS.items() if path.startswith(prefix)), _trained)
    checkpoint, variables, same_classes, same_words = find(path, state, info, model, notes)
    part = f"{model.init_at}/" if hasattr(model, "init_at") else _place(state.params, variables.get("params", {}))
    adapt = getattr(model, "adapt", lambda *_: None)
    loaded, kept, adapted = 0, {}, []
    result = {}
    for collection, ours in averaged(state.params, state.mutable).items():
        merged = flatten_dict(ours, sep="/")
        theirs = flatten_dict(variables.get(collection, {}), sep="/")
        theirs = {part + name: x for name, x in theirs.items()}
        theirs = stacked(unstacked(theirs), like=merged)
        for name, value in merged.items():
            if not name.startswith(part):
                continue
            if is_head(name) and not same_classes:
                kept[name] = "the head is new, the classes differ"
            elif (is_head(name) or is_table(name)) and not same_words:
                kept[name] = "new, the vocabularies differ"
            elif name not in theirs:
                kept[name] = "not in the checkpoint"
            else:
                new = theirs[name]
                if new.shape != value.shape and (new := adapt(name, new, value)) is not None:
                    adapted.append(f"{name}: adapted from the shape {theirs[name].shape} to {value.shape}")
                if new is None:
                    kept[name] = f"shape {theirs[name].shape} there, {value.shape} here"
                    continue
                merged[name] = jnp.asarray(np.asarray(new), value.dtype)
                loaded += 1
        kept |= {name: "in the checkpoint only" for name in theirs if name not in merged}
        result[collection] = unflatten_dict(merged, sep="/")
    if not loaded:
        raise UserError(f"config.init_from {path!r}: no parameter of {checkpoint} matches this model")
    _check_frozen(path, model, kept, flatten_dict(state.params, sep="/"))
    params, mutable = result.pop("params"), {**state.mutable, **result}
    ema = None if state.ema is None else jax.tree.map(jnp.copy, averaged(params, mutable))
    notes.append(f"init_from {checkpoint}: {loaded} arrays loaded, {len(kept)} not")
    notes += [f"  {line}" for line in (*adapted, *(f"{name}: {reason}" for name, reason in kept.items()))]
    return state.replace(params=params, mutable=mutable, ema=ema), notes


def _place(params: PyTree, found: PyTree) -> str:
    """Returns the beginning of our names before those of a checkpoint: "" or, where more of them fit, that of a part of
    the model, such as "image_network/" for the network of a classifier of images.
    """
    ours, theirs = flatten_dict(params, sep="/"), flatten_dict(found, sep="/")
    parts = ["", *(f"{name}/" for name in params)]
    return max(parts, key=lambda part: sum(part + name in ours for name in theirs))


def _deployed(saved: PyTree, meta: dict, info: Info) -> dict[str, PyTree]:
    """Returns the variables of a checkpoint's network, without those that only its training needs."""
    variables = {"params": saved["params"], **(saved["mutable"] or {})}
    if not build.is_wrapper(meta["config"]["model"]):
        return variables
    _, _, model = build.parts(config_lib.from_json(json.dumps(meta["config"])), info)
    return build.deployed(model, variables)[1]


def _check_frozen(path: str, model: nn.Module, kept: Mapping[str, str], names: Container[str]) -> None:
    """Raises UserError if a parameter that the model never trains keeps its initial value."""
    for name, reason in kept.items():
        if name in names and any(re.fullmatch(pattern, name) for pattern in build.frozen(model)):
            raise UserError(f"config.init_from {path!r}: {name}: {reason}; it never trains and needs trained values")
