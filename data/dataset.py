"""Loads a data set by name: its splits, ready for batching, and its description `Info`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int
from ml_collections import ConfigDict
from tokenizers import Tokenizer

from core import names
from core.errors import UserError, nearest
from core.info import Info, Key
from core.vocabulary import Vocabulary
from data.preprocess import audio, tags, text
from data.preprocess import columns as tables
from data.preprocess.examples import Batch, Convert, collect, flatten, is_string, stack
from data.preprocess.text import Columns, Texts
from data.preprocess.tokenizers import Fit, vocabulary
from data.preprocess.windows import ForecastSplit
from data.sources import files
from data.sources.source import Source, resolve
from data.sources.tfds import Official

# t: time steps of a series, c: its channels

SAMPLE = 2048  # number of evenly spaced examples from which the statistics of a streamed training split are computed
ROLES = {
    "image": "image",
    "bbox": "boxes",
    "features": "features",
    "frames": "frames",
    "past": "series",
    "future": "series",
    "label": "label",
    "target": "target",
}  # roles of keys that are determined by their name
OWN_FILES = {"csv": files.csv, "parquet": files.parquet, "folder": files.folder, "npz": files.npz}


@runtime_checkable
class Split(Protocol):
    """Examples by random access, one batch at a time."""

    def __len__(self) -> int: ...

    def batch(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Returns the examples at `indices` as arrays with a leading axis."""
        ...


class ArraySplit:
    """Examples decoded once and held in memory; a batch is one gather per key."""

    def __init__(self, arrays: Batch):
        self.arrays = arrays

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def batch(self, indices: Int[np.ndarray, "b"]) -> Batch:
        return {key: values[indices] for key, values in self.arrays.items()}


class StreamSplit:
    """Examples read and converted on access, in the calling process."""

    def __init__(self, examples: Sequence[Any], convert: Callable[[Any], Batch]):
        self.examples, self.convert = examples, convert

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, indices: Int[np.ndarray, "b"]) -> Batch:
        return stack(collect(self.examples, indices, self.convert), lengths={})


def load(config: ConfigDict, data_dir: str | None = None) -> tuple[dict[str, Split], Info]:
    """Returns the splits of the set that `config` (the group `config.data`) names, and its description.

    A set of scalars is a table: its columns become `features`, its target `label` or `target`. The target is the
    column `config.target`, else a column `label` (classes) or `target` (a number). Other sets keep their keys.

    Text: the strings of the keys `config.text` become token ids, the other scalars of a table keep their columns, and
    the target is named as above. With `config.window`, all texts of a split are joined into one, which becomes windows
    `tokens`, `labels` and `labels_mask`. With `config.tags`, each word of the last text has a class
    (`data.preprocess.tags`); `<tags>_mask` is 0 at tokens without one. With `config.horizon`, a set with one `series`
    [t, c] per split becomes `past` and `future`, standardised by the training split.

    Args:
        config: `name` (a TFDS set; csv:, parquet:, folder: or npz: and a path), `splits` (name -> TFDS split
            expression, "" for none), `target`, `target_type` ("class" or "number"), `image_size`, `memory_gb`; `text`,
            `tokenizer`, `max_length`, `tags`, `references`; `window`, `eval_window`, `horizon`; `audio`, the call that
            turns the key `audio` into the key `frames`, such as "LogMel(rate=8000)".
        data_dir: folder of prepared TFDS sets; None is TFDS's default.

    Raises:
        UserError: an unknown set, split or column, or data that fits none of the above.
    """
    recipe = _check(config)
    kind, _, path = config.name.partition(":")
    _check_name(config.name)
    source = OWN_FILES[kind](path) if kind in OWN_FILES and path else Official(config.name, data_dir)
    specs = {name: spec for name, spec in config.splits.items() if spec}
    if "train" not in specs:
        raise UserError("data.splits.train is not set: statistics come from it")
    for spec in specs.values():
        resolve(spec, source.splits)
    if recipe:
        return _load_text(config, source, specs, recipe)
    if config.horizon:
        return _load_series(config, source, specs)
    if source.is_table:
        return _load_table(config, {name: source.frame(spec) for name, spec in specs.items()}, source.classes)
    if config.target:
        raise UserError(f"data.target={config.target!r}, but {config.name} is not a table: leave it empty")
    return _load_examples(config, source, specs)


def _check_name(name: str) -> None:
    """Raises UserError for a path without its kind, which is never the name of a TFDS set."""
    kind = "folder" if name.startswith((".", "/", "~")) or name.endswith("/") else ""
    kind = Path(name).suffix.lstrip(".") or kind
    if kind in OWN_FILES and ":" not in name:
        raise UserError(f"data.name {name!r} is a path: write '{kind}:{name}'")


def _check(config: ConfigDict) -> Fit | None:
    """Checks all that needs no data; returns the call that fits tokenizers, None without text."""
    size = tuple(config.image_size)
    if len(size) not in (0, 2) or not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(f"data.image_size must be (height, width) or (), not {size}")
    if config.target_type not in ("class", "number"):
        raise UserError(f"data.target_type must be 'class' or 'number', not {config.target_type!r}")
    _audio(config)
    return text.check(config)


def _audio(config: ConfigDict) -> audio.LogMel | None:
    """Returns the configured converter of audio to frames, or None. Raises UserError for an unknown name."""
    return names.call(audio, config.audio, "config.data.audio", inspect.isclass) if config.audio else None


def _load_table(
    config: ConfigDict, frames: dict[str, pd.DataFrame], classes: tuple[str, ...]
) -> tuple[dict[str, Split], Info]:
    train = frames["train"]
    answers, classes = _answers(config, frames, classes)
    if not answers:
        raise UserError(f"data.target is not set: name the column to predict, of {', '.join(map(str, train.columns))}")
    state = tables.fit(train.drop(columns=_target_column(config, train)))
    splits = {
        split: ArraySplit({"features": tables.encode(state, frame)} | answers[split]) for split, frame in frames.items()
    }
    return splits, _info(config.name, splits, splits["train"].arrays, {"label": classes}, state={"table": state})


def _target_column(config: ConfigDict, train: pd.DataFrame) -> str | None:
    """Returns the name of the column to predict, or None. Raises UserError if the configured column does not exist."""
    if config.target and config.target not in train:
        raise UserError(
            f"data.target: the table has no column {config.target!r}: {nearest(config.target, train.columns)}"
        )
    return config.target or next((name for name in ("label", "target") if name in train), None)


def _answers(
    config: ConfigDict, frames: Mapping[str, pd.DataFrame], classes: tuple[str, ...]
) -> tuple[dict[str, Batch], tuple[str, ...]]:
    """Returns `label` or `target` of every split, and the names of the classes; ({}, ()) without a target.

    Args:
        classes: names of the values of a column `label`, if the set defines them.
    """
    name = _target_column(config, frames["train"])
    if name is None:
        return {}, ()
    kind = config.target_type if config.target else {"label": "class", "target": "number"}[name]
    columns = {split: frame[name] for split, frame in frames.items()}
    if kind == "number":
        return {split: {"target": tables.targets(column)} for split, column in columns.items()}, ()
    classes = classes if name == "label" and classes else tables.class_names(list(columns.values()))
    return {split: {"label": tables.labels(column, classes)} for split, column in columns.items()}, classes


def _load_text(
    config: ConfigDict, source: Source, specs: Mapping[str, str], recipe: Fit
) -> tuple[dict[str, Split], Info]:
    """Loads a set with text; it is held in memory completely."""
    read = _text_rows if source.is_table else _text_examples
    texts, columns, answers, classes = read(config, source, specs)
    if config.window:
        sizes = config.window, config.eval_window or config.window
        running = {split: part[config.text[0]] for split, part in texts.items()}
        windows, tokenizer = text.windows(recipe, running, *sizes)
        splits = {split: ArraySplit(arrays) for split, arrays in windows.items()}
        vocabularies = dict.fromkeys(("tokens", "labels"), vocabulary(tokenizer))
        return splits, _info(config.name, splits, splits["train"].arrays, vocabularies=vocabularies)
    references = {split: part.pop(config.references) for split, part in texts.items() if config.references}
    if config.tags:
        classes = tags.number(columns, config.tags, source.names.get(config.tags, ()))
    training = texts["train"] | {key: tags.words(texts["train"][key]) for key in config.text[-1:] if config.tags}
    fitted = text.fit(recipe, training, config.max_length)
    for split, part in texts.items():
        if config.tags:
            columns[split] |= _tagged(config, fitted[config.text[-1]], part, columns[split])
        columns[split] |= {key: text.encode(fitted[key], values) for key, values in part.items()}
    lengths = _lengths(columns, source.ragged | {*fitted, config.tags}, source.images)
    text.check_size(columns, {key: lengths[key] for key in fitted}, config.memory_gb)
    arrays = {name: stack(values, lengths) | answers.get(name, {}) for name, values in columns.items()}
    if config.tags:
        for part in arrays.values():
            part[f"{config.tags}_mask"] *= part[config.tags] != tags.UNTAGGED
    if config.references:
        for split, ids in text.encode_lines(fitted[config.text[-1]], references).items():
            arrays[split][config.references] = ids
    splits = {split: ArraySplit(values) for split, values in arrays.items()}
    named = {config.tags: classes} if config.tags else {"label": _classes(splits, classes)}
    vocabularies = {key: vocabulary(tokenizer) for key, tokenizer in fitted.items()}
    if config.references:
        vocabularies[config.references] = vocabularies[config.text[-1]]
    return splits, _info(config.name, splits, splits["train"].arrays, named, vocabularies)


def _tagged(config: ConfigDict, tokenizer: Tokenizer, texts: Texts, columns: Columns) -> Columns:
    """Returns the ids of the last text, which is removed from `texts`, and the tags of `columns` at its tokens."""
    ids, at_tokens = tags.encode(tokenizer, texts.pop(config.text[-1]), columns[config.tags], config.tags)
    return {config.text[-1]: ids, config.tags: at_tokens}


def _text_rows(
    config: ConfigDict, source: Source, specs: Mapping[str, str]
) -> tuple[dict[str, Texts], dict[str, Columns], dict[str, Batch], tuple[str, ...]]:
    """Returns texts, other columns and targets of every split of a table, and the names of the classes."""
    frames = {split: source.frame(spec) for split, spec in specs.items()}
    texts = {split: text.of_frame(frame, text.keys(config)) for split, frame in frames.items()}
    tagged = {split: text.of_frame(frame, tuple(filter(None, (config.tags,)))) for split, frame in frames.items()}
    frames = {split: frame.drop(columns=[*text.keys(config), *tagged[split]]) for split, frame in frames.items()}
    answers, classes = ({}, ()) if config.tags else _answers(config, frames, source.classes)
    unused = [_target_column(config, frames["train"])] if answers else []
    columns = {split: text.numbers(frame.drop(columns=unused)) for split, frame in frames.items()}
    for split, part in tagged.items():
        columns[split] |= {key: [np.array(value, dtype=object) for value in values] for key, values in part.items()}
    return texts, columns, answers, classes


def _text_examples(
    config: ConfigDict, source: Source, specs: Mapping[str, str]
) -> tuple[dict[str, Texts], dict[str, Columns], dict[str, Batch], tuple[str, ...]]:
    """Returns the same for a set that is not a table, such as images with captions."""
    examples = {split: source.examples(spec) for split, spec in specs.items()}
    leaves = dict(flatten(examples["train"][0]))
    text.check_keys(text.keys(config), [key for key, value in leaves.items() if is_string(value)], leaves)
    strings = frozenset({*text.keys(config), config.target, config.tags} - {""})
    convert = Convert(source.images, tuple(config.image_size), strings, _audio(config))
    if _decoded_bytes(examples, convert) > config.memory_gb * 1e9:
        raise UserError(f"{config.name} is above data.memory_gb={config.memory_gb}: sets with text are held in memory")
    columns = {split: collect(values, np.arange(len(values)), convert) for split, values in examples.items()}
    texts = {split: text.taken(values, text.keys(config), len(examples[split])) for split, values in columns.items()}
    if not config.target or (config.target == "label" and source.classes):
        return texts, columns, {}, source.classes
    scalars = [key for key, values in columns["train"].items() if values[0].ndim == 0]
    frames = {
        split: pd.DataFrame({key: [value.item() for value in values[key]] for key in scalars})
        for split, values in columns.items()
    }
    answers, classes = _answers(config, frames, ())
    for values in columns.values():
        del values[config.target]
    return texts, columns, answers, classes


def _load_series(config: ConfigDict, source: Source, specs: Mapping[str, str]) -> tuple[dict[str, Split], Info]:
    """Loads a set of one long series per split, for forecasts."""
    series = {split: _one_series(config.name, source, spec) for split, spec in specs.items()}
    mean, std = (function(series["train"], axis=0, dtype=np.float64) for function in (np.mean, np.std))
    std = np.where(std > 0, std, 1.0)
    splits: dict[str, Split] = {
        split: ForecastSplit(((values - mean) / std).astype(np.float32), config.window, config.horizon)
        for split, values in series.items()
    }
    statistics = {key: {"mean": mean.tolist(), "std": std.tolist()} for key in ("past", "future")}
    return splits, _info(config.name, splits, splits["train"].batch(np.arange(1)), statistics=statistics)


def _one_series(name: str, source: Source, spec: str) -> Float32[np.ndarray, "t c"]:
    examples = [] if source.is_table else source.examples(spec)
    values = Convert(frozenset())(examples[0]).get("series") if len(examples) == 1 else None
    if values is None or values.ndim != 2 or not np.issubdtype(values.dtype, np.number):
        raise UserError(f"data.horizon: {name} ({spec}) is not one example with a `series` [steps, channels]")
    return values.astype(np.float32)


def _load_examples(config: ConfigDict, source: Source, specs: Mapping[str, str]) -> tuple[dict[str, Split], Info]:
    convert = Convert(source.images, tuple(config.image_size), audio=_audio(config))
    examples = {name: source.examples(spec) for name, spec in specs.items()}
    if _decoded_bytes(examples, convert) > config.memory_gb * 1e9:
        splits: dict[str, Split] = {name: StreamSplit(values, convert) for name, values in examples.items()}
        sample = splits["train"].batch(_spread(len(examples["train"]), SAMPLE))
        _check_scalars(sample)
        classes = {**source.names, "label": source.classes}
        return splits, _info(config.name, splits, sample, classes, source.vocabularies)
    columns = {name: collect(values, np.arange(len(values)), convert) for name, values in examples.items()}
    lengths = _lengths(columns, source.ragged, source.images)
    splits = {name: ArraySplit(stack(values, lengths)) for name, values in columns.items()}
    _check_scalars(splits["train"].arrays)
    classes = {**source.names, "label": _classes(splits, source.classes)}
    return splits, _info(config.name, splits, splits["train"].arrays, classes, source.vocabularies)


def _check_scalars(arrays: Batch) -> None:
    """Raises UserError for labels or targets of shape [n, 1] instead of [n]: against [n] they would broadcast."""
    for key in ("label", "target"):
        if key in arrays and arrays[key].shape[1:] == (1,):
            raise UserError(f"{key!r} has the shape {arrays[key].shape}: one number per example has the shape (n,)")


def _spread(size: int, count: int) -> np.ndarray:
    return np.unique(np.linspace(0, size - 1, min(size, count)).astype(np.int64))


def _decoded_bytes(examples: Mapping[str, Sequence[Any]], convert: Convert) -> float:
    """Returns an estimate for all splits, from a few examples of the training split."""
    train = examples["train"]
    sample = collect(train, _spread(len(train), 16), convert)
    if not sample:
        raise UserError("the examples contain only text: name its keys in data.text")
    mean = sum(np.mean([value.nbytes for value in values]) for values in sample.values())
    return float(mean) * sum(map(len, examples.values()))


def _lengths(columns: Mapping[str, dict[str, list]], ragged: frozenset[str], images: frozenset[str]) -> dict[str, int]:
    """Returns the padded length of every ragged key; all splits share it, and with it one compiled step."""
    lengths: dict[str, set[int]] = {}
    for values in columns.values():
        for key in values.keys() - images:
            lengths.setdefault(key, set()).update(len(value) if value.ndim else -1 for value in values[key])
    return {key: max(sizes) for key, sizes in lengths.items() if key in ragged or len(sizes) > 1}


def _classes(splits: Mapping[str, ArraySplit], names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names of the values of `label`, or the numbers as names if the set defines none; checks the range."""
    labels = {split: values.arrays["label"] for split, values in splits.items() if "label" in values.arrays}
    if not labels or any(values.ndim > 1 or values.dtype != np.int32 for values in labels.values()):
        return names
    names = names or tuple(str(i) for i in range(max(int(values.max()) for values in labels.values()) + 1))
    for split, values in labels.items():
        if values.min() < 0 or values.max() >= len(names):
            bounds = f"from {values.min()} to {values.max()}"
            raise UserError(f"labels of {split!r} are {bounds}, but classes are from 0 to {len(names) - 1}")
    return names


def _info(
    name: str,
    splits: Mapping[str, Split],
    train: Batch,
    classes: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    vocabularies: Mapping[str, Vocabulary] = MappingProxyType({}),
    statistics: Mapping[str, dict[str, Any]] = MappingProxyType({}),
    state: Mapping[str, Any] = MappingProxyType({}),
) -> Info:
    """Returns the description of a set, from examples of the training split and facts about single keys."""
    keys = {}
    for key, values in train.items():
        role = "tokens" if key in vocabularies else _role(key) or ("tags" if key in classes else "")
        facts = statistics.get(key) or _statistics(key, values)
        shape, dtype = values.shape[1:], values.dtype.name
        keys[key] = Key(shape, dtype, role, tuple(classes.get(key, ())), vocabularies.get(key), facts)
    return Info(name, {split: len(values) for split, values in splits.items()}, keys, dict(state))


def _role(key: str) -> str:
    companions = {"_mask": "mask", "_lengths": "lengths"}
    by_name = ROLES.get(key.rpartition("/")[2], "")
    return next((role for ending, role in companions.items() if key.endswith(ending)), by_name)


def _statistics(key: str, values: np.ndarray) -> dict[str, Any]:
    """Returns mean and standard deviation of images and of numeric targets."""
    if key == "image" and values.ndim == 4:
        return _image_statistics(values)
    if key == "target" and values.ndim == 1:
        target = values.astype(np.float64)
        return {"mean": float(target.mean()), "std": float(target.std()) or 1.0}
    return {}


def _image_statistics(images: np.ndarray) -> dict[str, list[float]]:
    """Returns mean and standard deviation per channel of images in [0, 1], in chunks of 100 to save memory."""
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    total = square = np.zeros(images.shape[-1])
    for start in range(0, len(images), 100):
        part = images[start : start + 100] / scale
        total = total + part.sum(axis=(0, 1, 2), dtype=np.float64)
        square = square + np.square(part).sum(axis=(0, 1, 2), dtype=np.float64)
    count = images.size / images.shape[-1]
    std = np.sqrt(np.maximum(square / count - np.square(total / count), 0))
    return {"mean": (total / count).tolist(), "std": np.where(std > 1e-6, std, 1.0).tolist()}
