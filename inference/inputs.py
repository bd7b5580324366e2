"""New inputs of a trained run, from files and lines of text, as a batch: read and preprocessed as in training."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from core.errors import UserError, nearest
from core.info import PIXELS, Info, Key
from data.preprocess.op import Chunk
from data.preprocess.pipeline import Pipeline
from data.preprocess.values import as_image
from data.sources.frames import frames_of, read_clip
from data.sources.images import read_image
from data.sources.named import kinds
from data.sources.sounds import SOUND_SUFFIXES, read_sound
from data.sources.volumes import SUFFIXES as VOLUME_SUFFIXES
from data.sources.volumes import read_volume
from data.splits import ArraySplit, companion_of
from data.store import Writer
from tasks.task import Task

READABLE = (
    "image",
    "video",
    "volume",
    "text",
    "wave",
    "number",
    "label",
)  # roles of keys that files and lines can give
COLUMNS = ("text", "number")  # roles that are also kinds of columns, see `data.sources.schema`
STARTS = "_starts"  # ending of the key that tells the first token of every word, see `tokenize_words`


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Names of the inputs, and their batch: arrays with a leading axis of inputs, including `mask` and `index`.

    Attributes:
        texts: key of `Task.texts` -> the string of each input, where the inputs have it.
    """

    names: list[str]
    batch: dict[str, np.ndarray]
    texts: dict[str, list[str]]


def text_lines(stream: Iterable[str]) -> list[str]:
    """Returns lines without their ends, and without U+FEFF, the byte order mark, at the start.

    Raises UserError for bytes that cannot be decoded.
    """
    try:
        lines = [line.removesuffix("\n") for line in stream]
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not {error.encoding}: {error.reason}") from error
    return [line.removeprefix("\ufeff") for line in lines[:1]] + lines[1:]


def encode(config: ConfigDict, info: Info, task: Task, files: list[str], lines: list[str]) -> Inputs:
    """Returns files (images, tables, sounds, videos, volumes) or lines of text, encoded as in training.

    Raises UserError for inputs that cannot be read, or are of another kind than the run reads.
    """
    reader = _Reader(config, info, task)
    if lines and not files:
        parts = [reader.lines(lines)]
    elif files:
        for text in files:
            _check_file(text, reader.raw.get(reader.key) == "video")
        parts = [reader.file(text) for text in files]
    else:
        raise reader.refusal("nothing")
    shared = set.intersection(*(set(chunk) for _, chunk in parts))
    writer = Writer(keeps_strings=False)
    for _, chunk in parts:
        writer.add({key: values for key, values in chunk.items() if key in shared})
    names = [name for part, _ in parts for name in part]
    added = {"mask": np.ones(len(names), np.float32), "index": np.arange(len(names), dtype=np.int32)}
    texts = {key: [text for _, chunk in parts for text in chunk[key]] for key in shared.intersection(task.texts)}
    return Inputs(names, _batch(writer, info) | added, texts)


def text_key(fitted: Pipeline, info: Info, key: str) -> str:
    """Returns the text key from which alone the ops make `key`; "" if no text key suffices."""
    texts = [name for name, role in info.state["raw"].items() if role == "text"]
    for name in sorted(texts, key=lambda name: name != key):
        try:
            if key in fitted({name: ["a"]}):
                return name
        except UserError:  # an op needs another key
            continue
    return ""


def path_keys(fitted: Pipeline, info: Info) -> dict[str, str]:
    """Returns the role of what an op makes from files -> the text key with their paths, before all ops."""
    found = {}
    for number, op in enumerate(fitted.ops):
        if op.opens:
            key, role = op.opens
            found[role] = text_key(Pipeline(fitted.texts[:number], fitted.states[:number]), info, key)
    return found


class _Reader:
    """Reads files and lines into the keys that the model reads.

    Raises UserError for a run whose inputs cannot be given.
    """

    def __init__(self, config: ConfigDict, info: Info, task: Task):
        self.config, self.info, self.key, self.texts = config, info, task.conditions[0], task.texts
        self.raw: Mapping[str, str] = info.state["raw"]
        self.fitted = Pipeline.from_json(info.state["preprocess"])
        arranges = any(op.arranges and not op.reads_inputs for op in self.fitted.ops[-1:])
        if arranges and info.keys[self.key].vocabulary:
            raise UserError(f"this run is a language model of {info.name}: give --prompt, and no files or lines")
        self.reads = f"this run reads {self.key!r} of {info.name}"
        if arranges or self.raw.get(self.key, "text") not in READABLE:
            raise UserError(f"{self.reads}, which cannot be given: only images, videos, volumes, tables, sounds, text")
        self.text = text_key(self.fitted, info, self.key)
        self.paths = path_keys(self.fitted, info)
        self.tables = {f".{kind}": cls for kind, cls in kinds().items() if cls.is_table}
        source = info.state["source"] or {}
        self.rate = self.fitted.rate or source.get("rate")
        answers = {config.data.target, getattr(task, "target", "")}
        columns = {key: source.get(key) or _facts(role) for key, role in self.raw.items() if key not in answers}
        is_table = {"image", "wave"}.isdisjoint(self.raw.values())
        self.columns = {key: facts for key, facts in columns.items() if facts and is_table}

    def lines(self, lines: list[str]) -> tuple[list[str], Chunk]:
        """Returns the names and values of lines of text, or of classes, from which a run generates."""
        if self.raw.get(self.key) == "label":
            return list(lines), {self.key: np.array([self._class(line) for line in lines], np.int32)}
        return list(lines), self._processed({self.text: list(lines)} if self.text else {}, "lines")

    def file(self, text: str) -> tuple[list[str], Chunk]:
        """Returns the names and values of the inputs in a file: the rows of a table, or one image, sound, video or
        volume; a video may be a folder.
        """
        path, suffix = Path(text), Path(text).suffix.lower()
        if suffix in self.tables and self.columns:
            table = self.tables[suffix](text, self.config.data, self.columns)
            rows = table.examples("+".join(table.splits), ordered=True)
            names = [f"{text}:{row}" for row in range(1, len(rows) + 1)]
            return names, self._processed(rows.chunk(np.arange(len(rows))), text)
        if suffix == ".npy" or path.is_dir() or path.name.lower().endswith(VOLUME_SUFFIXES):
            role = "volume" if self.raw.get(self.key) == "volume" else "video"
        else:
            role = "wave" if suffix in SOUND_SUFFIXES else "image"
        if suffix in self.tables or not (chunk := self._content(path, role)):
            raise self.refusal(text)
        return [text], self._processed(chunk, text)

    def _content(self, path: Path, role: str) -> Chunk:
        """Returns the example of one file, or of its path if an op opens it; {} if the run reads no such file."""
        if key := self.paths.get(role):
            return {key: [str(path.absolute())]}
        if not (key := self._raw_key(role)):
            return {}
        if role == "wave":
            return {key: [read_sound(path, self.rate)]}
        record = next(record for record in self.info.keys.values() if record.role == role)
        read = read_image if role == "image" else _read_frames
        return {key: [read(path, record.shape[-1], record.dtype)]}

    def _class(self, name: str) -> int:
        classes = self.info.keys[self.key].classes
        if name not in classes:
            raise UserError(f"{name!r} is not a class of {self.info.name}: {nearest(name, classes)}")
        return classes.index(name)

    def refusal(self, given: str) -> UserError:
        """Returns the error for inputs of another kind, which names what the run reads."""
        wanted = {
            "lines of text on standard input": self.text,
            "names of classes on standard input": self.raw.get(self.key) == "label",
            "image files": self.paths.get("image") or self._raw_key("image"),
            "folders of frames, .npy": self._raw_key("video"),
            ", ".join((*VOLUME_SUFFIXES, ".npy")): self._raw_key("volume"),
            ", ".join(SOUND_SUFFIXES): self.paths.get("wave") or self._raw_key("wave"),
            ", ".join(sorted(self.tables)): self.columns,
        }
        fitting = " or ".join(name for name, fits in wanted.items() if fits)
        return UserError(f"{self.reads}: give {fitting}, not {given}")

    def _raw_key(self, role: str) -> str:
        """Returns the key of this role before preprocessing, the model's own rather than another; "" without one."""
        keys = [key for key, found in self.raw.items() if found == role]
        return min(keys, key=lambda key: key != self.key, default="")

    def _processed(self, chunk: Chunk, given: str) -> Chunk:
        """Returns the examples after the ops, without keys that the set lacks."""
        chunk = self.fitted(chunk) if chunk else {}
        if self.key not in chunk:
            raise self.refusal(given)
        known = {*self.info.keys, *self.texts}
        found = {key: values for key, values in chunk.items() if key.removesuffix(STARTS) in known}
        for key, record in self.info.keys.items():
            if record.role in PIXELS and key in found:
                found[key] = [_fitted(pixels, record, self.info.name) for pixels in found[key]]
        return found


def _facts(role: str) -> dict[str, Any]:
    """Returns the schema of a column with this role, for a set that is not a table; {} if a column cannot hold it."""
    return {"kind": role, "marks": []} if role in COLUMNS else {}


def _batch(writer: Writer, info: Info) -> dict[str, np.ndarray]:
    """Returns the examples as arrays; ragged keys are padded to the longest of these."""
    bases = {key for key, record in info.keys.items() if record.ragged}
    ragged = {key for key in writer.lengths if key.removesuffix(STARTS) in bases or companion_of(key, bases)}
    longest = {key: max(1, *writer.lengths[key]) for key in ragged}  # models may refuse an empty axis
    return ArraySplit(writer.columns(ragged), longest).arrays


def _read_frames(path: Path, channels: int, dtype: str) -> np.ndarray:
    """Returns the video of a folder, or the video or volume of a file: .npy [t, h, w] or [t, h, w, c], or NIfTI."""
    if path.is_dir():
        if not (frames := frames_of(path)):
            raise UserError(f"{path} has no frames, such as 1.png")
        return read_clip(frames, channels, dtype)
    if path.suffix.lower() != ".npy":
        return read_volume(path)
    try:
        values = np.load(path)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} is not a .npy file of plain numbers") from error
    if values.ndim not in (3, 4):
        raise UserError(f"{path} has the shape {values.shape}, not (t, h, w) or (t, h, w, c)")
    if not values.size or values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise UserError(f"{path} is empty, or contains values that are not finite numbers ({values.dtype})")
    has_bytes = values.dtype in (np.uint8, bool)
    if has_bytes != (dtype == "uint8") or not (has_bytes or values.dtype.kind == "f" or values.dtype == np.uint16):
        raise UserError(f"{path} holds {values.dtype}, but the run was trained on {dtype}: save pixels as {dtype}")
    return np.stack([as_image(frame) for frame in values])


def _fitted(pixels: np.ndarray, record: Key, name: str) -> np.ndarray:
    """Returns an image, or each frame of a video or volume, in the size of the set's."""
    if pixels.shape[-1] != record.shape[-1]:
        raise UserError(f"the input has {pixels.shape[-1]} channels, {record.role}s of {name} have {record.shape[-1]}")
    if record.role == "image":
        return as_image(pixels, record.shape[:2])
    if not record.ragged and len(pixels) != record.shape[0]:
        raise UserError(f"the input has {len(pixels)} frames, {record.role}s of {name} have {record.shape[0]}")
    return np.stack([as_image(frame, record.shape[-3:-1]) for frame in pixels])


def _check_file(text: str, accepts_folders: bool = False) -> None:
    path = Path(text)
    if path.is_dir() and accepts_folders:
        return
    if path.is_dir():
        raise UserError(f"{text} is a folder: name its files, such as {path}/*.png")
    if not path.is_file():
        beside = [str(found) for found in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"file {text} does not exist: {nearest(text, beside)}")
