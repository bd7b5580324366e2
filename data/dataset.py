"""Loads a data set by name: its splits, preprocessed and ready for batching, and its description `Info`.

There is one loader for all kinds of data: kinds differ in the source of the examples and in the ops of the recipe.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from core.errors import UserError
from core.info import Info, Key
from data import statistics, store
from data.preprocess import pipeline
from data.preprocess.op import Examples, chunks
from data.preprocess.pipeline import Pipeline
from data.sources.named import open_splits
from data.sources.source import Source
from data.splits import ArraySplit, Column, Split, StreamSplit, numbers

INFO = "info.json"
COMPANIONS = {"_mask": "mask", "_lengths": "lengths"}  # ending of a ragged key's companion -> role


def load(config: ConfigDict, data_dir: str | None = None) -> tuple[dict[str, Split], Info]:
    """Returns the splits of the set that `config` (the group `config.data`) names, and its description.

    Sets up to `config.memory_gb` are held in memory, or in files of the cache if an op's results are worth storing;
    larger ones are read and preprocessed on access.

    Args:
        data_dir: folder of prepared TFDS sets; None is TFDS's default.

    Raises UserError for an unknown set, split, column or op, or data that an op cannot process.
    """
    ops = [pipeline.parse_op(text) for text in config.preprocess]
    source, examples, facts = open_splits(config, data_dir, ordered=any(op.ordered for op in ops))
    texts = (*_target_ops(config, source), *config.preprocess)
    is_stored = any(op.stored for op in ops)
    folder = store.entry([facts, texts, [op.content for op in ops], config.memory_gb]) if is_stored else None
    if folder and folder.exists():
        return _assembled(*_read(folder, examples))
    fitted, examples, keys = pipeline.fit(texts, examples, dict(source.keys))
    raw = {key: record.role for key, record in source.keys.items()}
    state = {"source": source.state, "columns": source.summary, "raw": raw, "preprocess": fitted.to_json()}
    info = Info(config.name, {}, keys, state)
    if not _arranges(fitted) and _bytes(examples) > config.memory_gb * 1e9:
        return _streamed(info, examples)
    if not folder:
        return _assembled(info, *_collected(info, examples))
    with store.new_entry(folder) as part:
        _collected(info, examples, part)
        (part / INFO).write_text(json.dumps(info.to_json()))
    return _assembled(*_read(folder, examples))


def _target_ops(config: ConfigDict, source: Source) -> list[str]:
    """Returns the op that turns the configured column, or a table's column `label` or `target`, into the answer."""
    if config.target:
        return [f"answer({config.target!r}, {config.target_type!r})"]
    kinds = {"label": "class", "target": "number"}
    return [f"answer({name!r}, {kinds[name]!r})" for name in kinds if source.is_table and name in source.keys][:1]


def _arranges(fitted: Pipeline) -> bool:
    return bool(fitted.ops) and fitted.ops[-1].arranges


def _bytes(examples: Mapping[str, Examples]) -> float:
    """Returns an estimate of the size of all splits in memory, from a few examples of the training split."""
    train = examples["train"]
    sample = numbers(train.chunk(statistics.spread(len(train), 16)))
    if not sample:
        raise UserError(
            "the examples hold only text: add an op such as \"tokenize('text', bpe(8000))\" to data.preprocess"
        )
    mean = sum(np.mean([np.asarray(value).nbytes for value in values]) for values in sample.values())
    return float(mean) * sum(map(len, examples.values()))


def _collected(
    info: Info, examples: Mapping[str, Examples], folder: Path | None = None
) -> tuple[dict[str, dict[str, Column]], dict[str, dict[str, Sequence]]]:
    """Returns columns and strings of every split, preprocessed; with `folder`, they are files there."""
    arranges = _arranges(Pipeline.from_json(info.state["preprocess"]))
    writers = {}
    for split, values in examples.items():
        part = folder / split if folder else None
        if part:
            part.mkdir()
        writers[split] = store.Writer(part, keeps_strings=not arranges)
        for chunk in chunks(values):
            writers[split].add(chunk)
    ragged = {key for key, record in info.keys.items() if record.ragged}.union(*(w.ragged for w in writers.values()))
    columns = {split: writer.columns(ragged) for split, writer in writers.items()}
    strings = {split: writer.strings for split, writer in writers.items()}
    if folder:
        for split in columns:
            store.save(folder / split, columns[split], strings[split])
    return columns, strings


def _read(folder: Path, splits: Mapping) -> tuple[Info, dict[str, dict[str, Column]], dict[str, dict[str, Sequence]]]:
    """Returns what an entry of the cache holds."""
    info = Info.from_json(json.loads((folder / INFO).read_text()))
    loaded = {split: store.load(folder / split) for split in splits}
    return info, {split: pair[0] for split, pair in loaded.items()}, {split: pair[1] for split, pair in loaded.items()}


def _assembled(
    info: Info, columns: Mapping[str, Mapping[str, Column]], strings: Mapping[str, Mapping[str, Sequence]]
) -> tuple[dict[str, Split], Info]:
    """Returns splits in memory, and the complete description. All splits share padded lengths and one compiled step."""
    arrays = {split: ArraySplit(values, strings=strings[split]) for split, values in columns.items()}
    longest = _longest(arrays)
    splits: dict[str, Split] = {split: ArraySplit(values, longest, strings[split]) for split, values in columns.items()}
    fitted = Pipeline.from_json(info.state["preprocess"])
    if _arranges(fitted):
        op, state = fitted.ops[-1], fitted.states[-1]
        splits = {split: op.arrange(values, state, split == "train") for split, values in splits.items()}
    return splits, _described(info, splits)


def _streamed(info: Info, examples: Mapping[str, Examples]) -> tuple[dict[str, Split], Info]:
    """Returns splits that are read and preprocessed on access, and the complete description."""
    train = examples["train"]
    sample = numbers(train.chunk(statistics.spread(len(train), 16)))
    varying = {key for key, values in sample.items() if len({np.shape(value)[:1] for value in values}) > 1}
    images = {key for key, record in info.keys.items() if record.role in ("image", "label_map")}
    ragged = ({key for key, record in info.keys.items() if record.ragged} | varying) & sample.keys() - images
    lengths = {split: _lengths(values, ragged) for split, values in examples.items()}
    longest = {key: max(int(values[key].max()) for values in lengths.values()) for key in ragged}
    splits: dict[str, Split] = {
        split: StreamSplit(values, lengths[split], longest) for split, values in examples.items()
    }
    return splits, _described(info, splits)


def _lengths(examples: Examples, keys: set[str]) -> dict[str, np.ndarray]:
    """Returns the length of every example for each ragged key, by reading all examples once."""
    if not keys:
        return {}
    parts = [{key: list(map(len, chunk[key])) for key in keys} for chunk in chunks(examples, keys)]
    return {key: np.array([size for part in parts for size in part[key]], np.int32) for key in keys}


def _longest(splits: Mapping[str, Split]) -> dict[str, int]:
    longest: dict[str, int] = {}
    for split in splits.values():
        for key, lengths in split.lengths.items():
            longest[key] = max(longest.get(key, 0), int(lengths.max(initial=0)))
    return longest


def _described(info: Info, splits: Mapping[str, Split]) -> Info:
    """Returns `info` with the sizes of the splits, and shapes, types and statistics of the training split."""
    train = splits["train"]
    example = train.batch(np.arange(1))
    _check_names(example, train)
    keys = {}
    for key, values in example.items():
        ending = next((e for e in COMPANIONS if key.endswith(e) and key.removesuffix(e) in train.lengths), "")
        record = Key(role=COMPANIONS[ending]) if ending else info.keys.get(key, Key())
        keys[key] = dataclasses.replace(
            record,
            shape=values.shape[1:],
            dtype=values.dtype.name,
            ragged=key in train.lengths,
            classes=_classes(splits, record) if key == "label" else record.classes,
            statistics=record.statistics or statistics.of(key, record.role, train),
        )
    return dataclasses.replace(info, sizes={split: len(values) for split, values in splits.items()}, keys=keys)


def _check_names(example: Mapping[str, np.ndarray], train: Split) -> None:
    """Raises UserError for names of the set that belong to companions, and for labels or targets of shape [n, 1]."""
    for key in ("mask", "index"):
        if key in example:
            raise UserError(
                f"the set has a key {key!r}, a reserved name: add 'rename({key}2={key!r})' to data.preprocess"
            )
    for key in ("label", "target"):
        if key in example and example[key].shape[1:] == (1,):
            raise UserError(f"{key!r} has the shape {example[key].shape}: one number per example has the shape (n,)")


def _classes(splits: Mapping[str, Split], record: Key) -> tuple[str, ...]:
    """Returns the names of the values of `label`, or the numbers as names if the set defines none; checks the range."""
    labels = {split: values.columns.get("label") for split, values in splits.items() if isinstance(values, ArraySplit)}
    if not labels or any(
        v is None or isinstance(v, str) or np.ndim(v) > 1 or v.dtype.kind not in "iu" for v in labels.values()
    ):
        return record.classes
    names = record.classes or tuple(str(i) for i in range(max(int(values.max()) for values in labels.values()) + 1))
    for split, values in labels.items():
        if values.min() < 0 or values.max() >= len(names):
            bounds = f"from {values.min()} to {values.max()}"
            raise UserError(f"labels of {split!r} are {bounds}, but classes are from 0 to {len(names) - 1}")
    return names


def _are_classes(values: Column | None) -> bool:
    return isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu"
