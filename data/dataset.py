"""Loads a data set by name: its splits, preprocessed and ready for batching, and its description `Info`.

There is one loader for all kinds of data: kinds differ in the source of the examples and in the ops of the recipe.
"""

import dataclasses
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from core.errors import UserError, nearest
from core.info import Info, Key
from data import statistics, store
from data.preprocess import pipeline
from data.preprocess.op import Examples, Op, chunks
from data.preprocess.pipeline import Pipeline
from data.preprocess.values import narrow
from data.sources.named import open_splits
from data.sources.source import Source
from data.splits import ENDINGS, ArraySplit, Column, Split, StreamSplit, companion_of, numbers, strings

INFO = "info.json"
LATER = ("name", "workers", "buckets", "order")  # keys of `config.data` on which processed examples do not depend
PICTURES = ("image", "label_map")  # roles of arrays that never vary in length
RESERVED = ("mask", "index")  # keys that batches get
MAX_CLASSES = 100_000  # more numbers without names are no labels
SAMPLE = 16  # examples from which the size of a set is estimated


def load(config: ConfigDict, data_dir: str | None = None, trained: Info | None = None) -> tuple[dict[str, Split], Info]:
    """Returns the splits of the set that `config` (the group `config.data`) names, and its description.

    Sets up to `config.memory_gb` are held in memory, or in files of the cache if an op's results are worth storing;
    larger ones are read and preprocessed on access. The cache keeps the fitted ops of sets of the last two kinds.

    Args:
        data_dir: folder of prepared TFDS sets; None is TFDS's default.
        trained: description of the data of an earlier run, whose fitted ops and statistics are used; None fits anew.

    Raises UserError for an unknown set, split, column or op, data that an op cannot process, or that lack a key of
    `trained`.
    """
    ops = list(map(pipeline.parse_op, config.preprocess))
    if config.order == "continuous" and not any(op.continues for op in ops):
        raise UserError(
            "data.order 'continuous' needs examples that continue each other: add an op such as "
            "\"windows('text', 100)\" to data.preprocess"
        )
    ordered = any(op.ordered for op in ops)
    source, examples, facts = open_splits(config, data_dir, ordered, trained and trained.state["source"])
    raw = {key: record.role for key, record in source.keys.items()}
    texts, states = (*_target_ops(config, source), *config.preprocess), None
    settings = {key: value for key, value in config.to_dict().items() if key not in LATER}
    determined = [facts, texts, settings, [op.content for op in ops]]
    folder = store.entry(determined)
    stored = _stored(folder, examples)
    if trained:
        _check_raw(raw, trained)
        fitted = trained.state["preprocess"]
        if not stored or stored.state["preprocess"] != fitted:
            folder = store.entry([*determined, fitted])
            stored = _stored(folder, examples)
        texts, states = (tuple(part) for part in zip(*fitted, strict=True)) if fitted else ((), ())
    if stored:
        splits, info = _opened(folder, examples, stored)
    else:
        splits, info = _made(folder, source, examples, texts, config.memory_gb, states)
    content = store.digest([re.sub(r"@[0-9a-f]{64}", "", fact) for fact in facts])
    state = {**info.state, "source": source.state, "columns": source.summary, "raw": raw}
    info = dataclasses.replace(info, name=config.name, state=state, content=content)
    return splits, info.with_statistics(trained) if trained else info


def _check_raw(raw: Mapping[str, str], trained: Info) -> None:
    """Raises UserError unless the set has each key, of the same role, that the set of an earlier run had."""
    for key, role in trained.state["raw"].items():
        if raw.get(key) != role:
            found = f"has the role {raw[key]!r}, not {role!r}" if key in raw else "is missing"
            raise UserError(f"{key!r}, a key of {trained.name!r} in training, {found}: {nearest(key, raw)}")


def describe(texts: Sequence[str], examples: Examples, keys: Mapping[str, Key], name: str) -> Info:
    """Returns the description of examples in memory after the ops, as that of a set without other splits."""
    fitted, splits, processed = pipeline.fit(tuple(texts), {"train": examples}, dict(keys))
    info = Info(name, {}, processed, {"preprocess": fitted.to_json()})
    info = _collected(info, fitted, splits, None)[1]
    raw = {key: record.role for key, record in keys.items()}
    return dataclasses.replace(info, state={**info.state, "source": None, "columns": "", "raw": raw})


def _target_ops(config: ConfigDict, source: Source) -> list[str]:
    """Returns the op that turns the configured column, or a table's column `label` or `target`, into the answer."""
    if config.target:
        return [f"answer({config.target!r}, {config.target_type!r})"]
    if source.is_table and "label" in source.keys:
        return ["answer('label', 'class')"]
    has_target = source.is_table and source.keys.get("target", Key(role="text")).role != "text"
    return ["answer('target', 'number')"] * has_target


def _made(
    folder: Path,
    source: Source,
    examples: Mapping[str, Examples],
    texts: Sequence[str],
    memory_gb: float,
    states: Sequence[Any] | None,
) -> tuple[dict[str, Split], Info]:
    """Fits the ops unless `states` are given, processes the examples or prepares their streaming, and stores what takes
    long in `folder`."""
    raw = examples
    fitted, examples, keys = pipeline.fit(tuple(texts), raw, dict(source.keys), states)
    info = Info("", {}, keys, {"preprocess": fitted.to_json()})
    is_streamed = _arranging(fitted) is None and _bytes(examples) > memory_gb * 1e9
    if not is_streamed and not any(op.stored for op in fitted.ops):
        return _collected(info, fitted, examples, None)
    files = _times(fitted, raw)
    with store.new_entry(folder) as part:
        splits, info = (_streamed if is_streamed else _collected)(info, fitted, examples, part)
        if part:
            (part / INFO).write_text(json.dumps({"info": info.to_json(), "files": files}))
    return splits, info


def _times(fitted: Pipeline, examples: Mapping[str, Examples]) -> str:
    """Returns a hash of the sizes and times of the files that the examples name."""
    facts = []
    for file in fitted.files(examples):
        found = file.stat() if file.exists() else None
        facts.append([str(file), found and [found.st_size, found.st_mtime_ns]])
    return store.digest(facts)


def _stored(folder: Path, examples: Mapping[str, Examples]) -> Info | None:
    """Returns the description in an entry of the cache; None without one. If files that the examples name have changed
    since, the entry is removed."""
    if not store.exists(folder):
        return None
    fields = json.loads((folder / INFO).read_text())
    info = Info.from_json(fields["info"])
    if _times(Pipeline.from_json(info.state["preprocess"]), examples) == fields["files"]:
        return info
    store.remove(folder)
    return None


def _opened(folder: Path, examples: Mapping[str, Examples], info: Info) -> tuple[dict[str, Split], Info]:
    """Returns the splits and description of an entry of the cache."""
    fitted = Pipeline.from_json(info.state["preprocess"])
    lengths = {split: store.load_lengths(folder / split) for split in examples}
    if lengths["train"] is not None:
        ragged = lengths["train"].keys()
        blank = {key: np.zeros(info.keys[key].shape, info.keys[key].dtype) for key in ragged}
        return _streams(fitted.applied(examples), blank, lengths), info
    loaded = {split: store.load(folder / split) for split in examples}
    columns, texts = ({split: pair[i] for split, pair in loaded.items()} for i in range(2))
    return _arranged(fitted, columns, texts), info


def _arranging(fitted: Pipeline) -> Op | None:
    """Returns the op that makes examples of its own, or None."""
    return next((op for op in fitted.ops[-1:] if op.arranges), None)


def _bytes(examples: Mapping[str, Examples]) -> float:
    """Returns an estimate of the size of all splits in memory, from a few examples of the training split."""
    train = examples["train"]
    chunk = train.chunk(statistics.spread(len(train), SAMPLE))
    sample = numbers(chunk)
    if not sample:
        raise UserError(
            "the examples hold only text: add an op such as \"tokenize('text', bpe(8000))\" to data.preprocess"
        )
    mean = sum(np.mean([np.asarray(value).nbytes for value in values]) for values in sample.values())
    mean += sum(np.mean([len(str(value)) for value in values]) for values in strings(chunk).values())
    return float(mean) * sum(map(len, examples.values()))


def _collected(
    info: Info, fitted: Pipeline, examples: Mapping[str, Examples], folder: Path | None
) -> tuple[dict[str, Split], Info]:
    """Processes all examples; the columns lie in memory or, with `folder`, in files there."""
    writers = {}
    for split, values in examples.items():
        part = folder / split if folder else None
        if part:
            part.mkdir()
        writers[split] = store.Writer(part, keeps_strings=not _arranging(fitted))
        for chunk in chunks(values):
            writers[split].add(chunk)
    ragged = _ragged([writer.lengths for writer in writers.values()], info)
    columns = {split: writer.columns(ragged) for split, writer in writers.items()}
    texts = {split: writer.strings for split, writer in writers.items()}
    _check_names(columns["train"], ragged, info)
    if folder:
        for split in columns:
            store.save(folder / split, columns[split], texts[split])
    splits = _arranged(fitted, columns, texts)
    labels = {} if _arranging(fitted) else {split: values.get("label") for split, values in columns.items()}
    return splits, _described(info, splits, labels)


def _ragged(lengths: Sequence[Mapping[str, Sequence[int]]], info: Info) -> set[str]:
    """Returns the keys whose lengths vary, within a split or between two, or are declared to vary.

    Args:
        lengths: of each split: key -> the length of every example.
    """
    sizes: dict[str, set[int]] = {}
    for each in lengths:
        for key, values in each.items():
            sizes.setdefault(key, set()).update(values)
    for key, record in info.keys.items():
        if record.role in PICTURES and len(sizes.get(key, ())) > 1:
            raise UserError(f"{key!r} has different shapes: add 'resize(HEIGHT, WIDTH)' to data.preprocess")
    return {key for key in sizes if len(sizes[key]) > 1 or info.keys.get(key, Key()).ragged}


def _arranged(
    fitted: Pipeline, columns: Mapping[str, Mapping[str, Column]], texts: Mapping[str, Mapping[str, Sequence]]
) -> dict[str, Split]:
    """Returns splits in memory. All of them share padded lengths, and with these one compiled step."""
    longest = _longest({split: ArraySplit(values) for split, values in columns.items()})
    splits: dict[str, Split] = {split: ArraySplit(values, longest, texts[split]) for split, values in columns.items()}
    if op := _arranging(fitted):
        splits = {split: op.arrange(values, fitted.states[-1], split == "train") for split, values in splits.items()}
    return splits


def _longest(splits: Mapping[str, Split]) -> dict[str, int]:
    longest: dict[str, int] = {}
    for split in splits.values():
        for key, lengths in split.lengths.items():
            longest[key] = max(longest.get(key, 1), int(lengths.max()))  # models may refuse an empty axis
    return longest


def _streamed(
    info: Info, fitted: Pipeline, examples: Mapping[str, Examples], folder: Path | None
) -> tuple[dict[str, Split], Info]:
    """Prepares splits that are read and preprocessed on access. Lengths are found by reading all examples once."""
    train = examples["train"]
    sample = numbers(train.chunk(statistics.spread(len(train), SAMPLE)))
    pictures = {key for key, record in info.keys.items() if record.role in PICTURES}
    sequences = {key for key, values in sample.items() if np.ndim(values[0])} - pictures
    is_numbered = "label" in sample.keys() - sequences and not info.keys.get("label", Key()).classes
    measured = {split: _Measured(values, sequences, is_numbered) for split, values in examples.items()}
    ragged = _ragged([part.lengths for part in measured.values()], info)
    lengths = {
        split: {key: np.array(part.lengths[key], np.int32) for key in ragged} for split, part in measured.items()
    }
    blank = {}
    for key in ragged:
        longest = max(1, *(int(part[key].max()) for part in lengths.values()))  # models may refuse an empty axis
        empty = max((part.empty[key] for part in measured.values()), key=np.ndim)
        blank[key] = np.zeros((longest, *empty.shape[1:]), narrow(empty).dtype)
    _check_names(sample, ragged, info)
    if folder:
        for split, part in lengths.items():
            (folder / split).mkdir()
            store.save_lengths(folder / split, part)
    splits = _streams(examples, blank, lengths)
    labels = {split: np.array(part.labels) for split, part in measured.items() if is_numbered}
    return splits, _described(info, splits, labels)


class _Measured:
    """Facts about all examples of a split, read once.

    Attributes:
        lengths: key -> the length of every example.
        labels: of every example, if wanted.
        empty: key -> an array without positions, of its type and further axes.
    """

    def __init__(self, examples: Examples, sequences: Collection[str], with_labels: bool):
        self.lengths: dict[str, list[int]] = {key: [] for key in sequences}
        self.labels: list[int] = []
        self.empty: dict[str, np.ndarray] = {}
        wanted = {*sequences, *(("label",) if with_labels else ())}
        for chunk in chunks(examples, wanted) if wanted else ():
            found = numbers({key: chunk[key] for key in wanted})
            for key in sequences:
                self.lengths[key] += map(len, found[key])
                typical = max(found[key], key=np.size)  # an empty list lacks its type and further axes
                if typical.size or key not in self.empty:
                    self.empty[key] = typical[:0]
            self.labels += list(found.get("label", ()))


def _streams(
    examples: Mapping[str, Examples],
    blank: Mapping[str, np.ndarray],
    lengths: Mapping[str, Mapping[str, Int[np.ndarray, "n"]]],
) -> dict[str, Split]:
    return {split: StreamSplit(values, blank, lengths[split]) for split, values in examples.items()}


def _described(info: Info, splits: Mapping[str, Split], labels: Mapping[str, Column | None]) -> Info:
    """Returns `info` with the sizes of the splits, and shapes, types and statistics of the training split.

    Args:
        labels: split -> the values of `label`, from which numbered classes are named.
    """
    train = splits["train"]
    examples = {split: values.batch(np.arange(1)) for split, values in splits.items()}
    _check_same_keys(examples)
    keys = {}
    for key, values in examples["train"].items():
        base = companion_of(key, train.lengths)
        record = info.keys.get(key) or Key(role=ENDINGS[key.removeprefix(base)] if base else "")
        keys[key] = dataclasses.replace(
            record,
            shape=values.shape[1:],
            dtype=values.dtype.name,
            ragged=key in train.lengths,
            classes=_classes(labels, record) if key == "label" else record.classes,
            statistics=record.statistics or statistics.of(key, record.role, train),
        )
    return dataclasses.replace(info, sizes={split: len(values) for split, values in splits.items()}, keys=keys)


def _check_names(keys: Collection[str], ragged: Collection[str], info: Info) -> None:
    """Raises UserError for names of the set that belong to companions, unless an op made the key in their place."""
    for key in keys:
        base = companion_of(key, ragged)
        is_own = base and info.keys.get(key, Key()).role == ENDINGS[key.removeprefix(base)]
        if key in RESERVED or (base and not is_own):
            raise UserError(f"the set has a key {key!r}, a reserved name: rename or drop it in data.preprocess")


def _check_same_keys(examples: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Raises UserError for keys that one split lacks, and for labels or targets of shape [n, 1]."""
    train = examples["train"]
    for split, example in examples.items():
        if missing := [*(train.keys() - example.keys()), *(example.keys() - train.keys())]:
            has, lacks = ("train", split) if missing[0] in train else (split, "train")
            raise UserError(f"{missing[0]!r} is a key of the split {has!r}, but not of {lacks!r}")
    for key in ("label", "target"):
        if key in train and train[key].shape[1:] == (1,):
            raise UserError(f"{key!r} has the shape (n, 1): one number per example has the shape (n,)")


def _classes(labels: Mapping[str, Column | None], record: Key) -> tuple[str, ...]:
    """Returns the names of the values of `label`, or the numbers as names if the set defines none; checks the range."""
    if not labels or not all(
        isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu" for values in labels.values()
    ):
        return record.classes
    most = max(int(values.max()) for values in labels.values())
    if not record.classes and most >= MAX_CLASSES:
        raise UserError(f"'label' holds {most}: classes without names are numbers from 0 to {MAX_CLASSES - 1}")
    names = record.classes or tuple(map(str, range(most + 1)))
    for split, values in labels.items():
        if values.min() < 0 or values.max() >= len(names):
            bounds = f"from {values.min()} to {values.max()}"
            raise UserError(f"labels of {split!r} are {bounds}, but classes are from 0 to {len(names) - 1}")
    return names
