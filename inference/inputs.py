"""New inputs of a trained run, from files and lines of text, as a batch."""

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

import data.preprocess.encode
from core import names
from core.errors import UserError, nearest
from core.info import Info
from data.preprocess import audio
from data.preprocess.examples import stack
from tasks.task import Task

READ_FROM_FILES = ("image", "features", "frames")  # batch keys
TABLES = {".csv": pd.read_csv, ".parquet": pd.read_parquet}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Names of the inputs, and their batch: arrays with a leading axis of inputs, including `mask` and `index`."""

    names: list[str]
    batch: dict[str, np.ndarray]


def encode(config: ConfigDict, info: Info, task: Task, files: list[str], lines: list[str]) -> Inputs:
    """Returns files (images, tables, sounds) or lines of text, encoded as in training.

    Raises UserError for inputs that cannot be read, or are of another kind than the run reads.
    """
    key = task.conditions[0]
    vocabulary = info.keys[key].vocabulary
    reads_text = bool(vocabulary and vocabulary.tokenizer)
    if reads_text and config.data.window:
        raise UserError(f"this run is a language model of {info.name}: give --prompt, and no files or lines")
    if not reads_text and key not in READ_FROM_FILES:
        raise UserError(
            f"this run reads {key!r} of {info.name}, which cannot be given: only images, tables, sounds, text"
        )
    if bool(lines) != reads_text or bool(files) == reads_text:
        wanted = "lines of text on standard input" if reads_text else "files"
        raise UserError(f"this run reads {key!r} of {info.name}: give {wanted}")
    if lines:
        return _masked(lines, data.preprocess.encode.encode_text(info, key, lines, words=bool(config.data.tags)))
    for text in files:
        _check_file(text)
    if config.data.audio:
        features = names.call(audio, config.data.audio, "config.data.audio", inspect.isclass)
        frames = [features.of_file(path) for path in files]
        return _masked(files, stack({"frames": frames}, {"frames": max(map(len, frames))}))
    rows, batches = [], []
    for text in files:
        name, batch = _encode_file(info, text)
        rows += name
        batches.append(batch)
    if len({tuple(batch) for batch in batches}) > 1:
        raise UserError("give either images or tables, not both")
    return _masked(rows, {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]})


def _masked(names: list[str], batch: dict[str, np.ndarray]) -> Inputs:
    added = {"mask": np.ones(len(names), np.float32), "index": np.arange(len(names), dtype=np.int32)}
    return Inputs(list(names), batch | added)


def _check_file(text: str) -> None:
    path = Path(text)
    if path.is_dir():
        raise UserError(f"{text} is a folder: name its files, such as {path}/*.png")
    if not path.is_file():
        beside = [str(found) for found in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"file {text} does not exist: {nearest(text, beside)}")


def _encode_file(info: Info, text: str) -> tuple[list[str], dict[str, np.ndarray]]:
    path = Path(text)
    if path.suffix not in TABLES:
        return [text], data.preprocess.encode.encode(info, path)
    try:
        frame = TABLES[path.suffix](path)
    except Exception as error:  # pandas and pyarrow raise any exception for a broken file
        raise UserError(f"{text} cannot be read as {path.suffix}: {error}") from error
    if frame.empty:
        raise UserError(f"{text} has no rows")
    return [f"{text}:{row}" for row in range(1, len(frame) + 1)], data.preprocess.encode.encode(info, frame)
