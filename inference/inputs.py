"""New inputs of a trained run, from files and lines of text, as a batch: read and preprocessed as in training."""

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from core.errors import UserError, nearest
from core.info import Info, Key
from data.preprocess.op import Chunk
from data.preprocess.pipeline import Pipeline
from data.preprocess.values import as_image, narrow
from data.sources.images import read_image
from data.sources.named import kinds
from data.sources.sounds import read_sound
from data.splits import numbers, pad, stack
from tasks.task import Task

READABLE = ("image", "text", "wave", "number")  # roles of keys that files and lines can give
SOUNDS = (".wav",)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Names of the inputs, and their batch: arrays with a leading axis of inputs, including `mask` and `index`."""

    names: list[str]
    batch: dict[str, np.ndarray]


def encode(config: ConfigDict, info: Info, task: Task, files: list[str], lines: list[str]) -> Inputs:
    """Returns files (images, tables, sounds) or lines of text, encoded as in training.

    Raises UserError for inputs that cannot be read, or are of another kind than the run reads.
    """
    key, raw = task.conditions[0], info.state["raw"]
    reads = f"this run reads {key!r} of {info.name}"
    fitted = Pipeline.from_json(info.state["preprocess"])
    arranges = bool(fitted.ops) and fitted.ops[-1].arranges
    if arranges and info.keys[key].vocabulary:
        raise UserError(f"this run is a language model of {info.name}: give --prompt, and no files or lines")
    if arranges or raw.get(key, "text") not in READABLE:
        raise UserError(f"{reads}, which cannot be given: only images, tables, sounds, text")
    is_text = raw.get(key) == "text"
    if not files and not is_text:
        raise UserError(f"{reads}: give files")
    for text in files:
        _check_file(text)
    read = [_lines(key, lines)] if lines else [_file(config, info, fitted, text, reads, is_text) for text in files]
    if len({frozenset(chunk) for _, chunk in read}) > 1:
        raise UserError("give either images or tables, not both")
    names = [name for part, _ in read for name in part]
    chunk = {name: [value for _, part in read for value in part[name]] for name in read[0][1]}
    added = {"mask": np.ones(len(names), np.float32), "index": np.arange(len(names), dtype=np.int32)}
    return Inputs(names, batch(info, fitted(chunk)) | added)


def batch(info: Info, chunk: Chunk) -> dict[str, np.ndarray]:
    """Returns preprocessed examples as a batch; ragged keys are padded to the longest of these."""
    columns = numbers(chunk)
    for key, record in info.keys.items():
        if record.role == "image" and key in columns:
            columns[key] = [_fitted_image(image, record, info.name) for image in columns[key]]
    found: dict[str, np.ndarray] = {}
    for key, values in columns.items():
        if key in info.keys and info.keys[key].ragged:
            longest = max(values, key=np.size)
            found |= pad(key, values, max(1, *map(len, values)), like=longest)
        else:
            found[key] = narrow(stack(key, values))
    return found


def _fitted_image(image: np.ndarray, record: Key, name: str) -> np.ndarray:
    """Returns an image in the size and type of the set's images."""
    if image.shape[-1] != record.shape[-1]:
        raise UserError(f"an image has {image.shape[-1]} channels, {name} has {record.shape[-1]}")
    image = as_image(image, record.shape[:2])
    return image.astype(np.float32) / 255 if record.dtype == "float32" and image.dtype == np.uint8 else image


def _lines(key: str, lines: list[str]) -> tuple[list[str], Chunk]:
    return list(lines), {key: list(lines)}


def _file(
    config: ConfigDict, info: Info, fitted: Pipeline, text: str, reads: str, is_text: bool
) -> tuple[list[str], Chunk]:
    """Returns the names and values of the inputs in a file: the rows of a table, one image, or one sound."""
    path, raw = Path(text), info.state["raw"]
    suffix = path.suffix.lower()
    tables = {f".{kind}": cls for kind, cls in kinds().items() if cls.is_table}
    by_role: dict[str, str] = {role: key for key, role in raw.items()}
    if suffix in tables:
        table = tables[suffix](text, config.data, info.state["source"])
        rows = table.examples("+".join(table.splits), ordered=True)
        return [f"{text}:{row}" for row in range(1, len(rows) + 1)], rows.chunk(np.arange(len(rows)))
    if "wave" in by_role and suffix in SOUNDS:
        return [text], {by_role["wave"]: [read_sound(path, fitted.rate)]}
    if "image" in by_role:
        return [text], {by_role["image"]: [read_image(path, info.keys[by_role["image"]].shape[-1])]}
    wanted = "lines of text on standard input" if is_text else " or ".join([*tables, *SOUNDS * ("wave" in by_role)])
    raise UserError(f"{reads}: give {wanted}, not {text}")


def _check_file(text: str) -> None:
    path = Path(text)
    if path.is_dir():
        raise UserError(f"{text} is a folder: name its files, such as {path}/*.png")
    if not path.is_file():
        beside = [str(found) for found in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"file {text} does not exist: {nearest(text, beside)}")
