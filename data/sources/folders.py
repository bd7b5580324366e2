"""Folders of images or of sounds per class."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from core.errors import UserError
from core.info import Key
from data.preprocess.pipeline import parse_op
from data.sources.files import Columns, check_names, existing, files_below, folders, known, split_folders, visible
from data.sources.images import IMAGE_SUFFIXES, image_format, read_image
from data.sources.sounds import SOUND_SUFFIXES, read_sound, read_wav
from data.sources.source import FileSource

LABELLED = "sort them into folders named by class, such as {root}/cat/1.png"


class Folder(FileSource):
    """`folder:DIR`: DIR/CLASS/**/FILE, with one split, "train", or DIR/SPLIT/CLASS/**/FILE.

    Files are images or WAV sounds: `image` [h, w, c], grey if all are grey, uint8 if all have 8 bits; or `audio`
    float32 [n], resampled to the rate that an op reads, or else to that of the first training file. `label` is the
    number of the class; classes are the sorted names of the folders. With `state`, DIR may also be a file or a folder
    of files, unlabelled new inputs.
    """

    def __init__(self, path: str, config: ConfigDict, state: Any = None):
        root = existing(path)
        if state and (root.is_file() or not folders(root)):
            self._open_unlabelled(root, state)
            return
        if root.is_file():
            raise UserError(f"{path} is a file, not a folder")
        self.folder = root
        classes = _classes(split_folders(root))
        labelled = {split: _labelled(found) for split, found in classes.items()}
        self.files = [file for pairs in labelled.values() for file, _ in pairs]
        names = sorted({name for found in classes.values() for name in found})
        _check(root, labelled, names)
        self.state = state or _state(labelled["train"][0][0], self.files, names, config)
        known(self.state["classes"], names, root)
        numbers = {name: number for number, name in enumerate(self.state["classes"])}
        self.keys = _keys(self.state) | {"label": Key(role="label", classes=tuple(self.state["classes"]))}
        self.rows = {
            split: Columns(
                {
                    **_columns([file for file, _ in pairs], self.state),
                    "label": (np.array([numbers[name] for _, name in pairs], np.int32), None),
                }
            )
            for split, pairs in labelled.items()
        }

    def _open_unlabelled(self, root: Path, state: Any) -> None:
        self.folder = root if root.is_dir() else root.parent
        self.files = files_below(root, IMAGE_SUFFIXES + SOUND_SUFFIXES) if root.is_dir() else [root]
        if not self.files:
            raise UserError(f"{root} has no files of the types {', '.join(IMAGE_SUFFIXES + SOUND_SUFFIXES)}")
        self.state, self.keys = state, _keys(state)
        self.rows = {"train": Columns(_columns(self.files, state))}


def _classes(splits: dict[str, Path]) -> dict[str, dict[str, Path]]:
    """Returns split -> class -> folder."""
    return {split: {folder.name: folder for folder in folders(root)} for split, root in splits.items()}


def _labelled(classes: dict[str, Path]) -> list[tuple[Path, str]]:
    suffixes = IMAGE_SUFFIXES + SOUND_SUFFIXES
    return [(file, name) for name, folder in classes.items() for file in files_below(folder, suffixes)]


def _check(root: Path, labelled: dict[str, list[tuple[Path, str]]], names: Sequence[str]) -> None:
    """Raises UserError for files without class, classes or splits without files, and images mixed with sounds."""
    types = f"of the types {', '.join(IMAGE_SUFFIXES + SOUND_SUFFIXES)}"
    loose = [file for file in visible(root) if file.name.lower().endswith(IMAGE_SUFFIXES + SOUND_SUFFIXES)]
    if loose:
        raise UserError(f"{loose[0]} ({len(loose)} such files) has no class: {LABELLED.format(root=root)}")
    if not any(labelled.values()):
        raise UserError(f"{root} has no files {types} in folders: {LABELLED.format(root=root)}")
    for split, pairs in labelled.items():
        if not pairs:
            raise UserError(f"{root}: the split {split!r} has no files {types}")
    check_names("classes", names, root)
    used = {name for pairs in labelled.values() for _, name in pairs}
    for name in names:
        if name not in used:
            raise UserError(f"{root}: the folder of class {name!r} has no files {types}: remove it")
    files = [file for pairs in labelled.values() for file, _ in pairs]
    sounds = [file for file in files if file.name.lower().endswith(SOUND_SUFFIXES)]
    if sounds and len(sounds) < len(files):
        image = next(file for file in files if not file.name.lower().endswith(SOUND_SUFFIXES))
        raise UserError(f"{root} holds images and sounds, such as {image} and {sounds[0]}: keep one kind")


def _state(first: Path, files: Sequence[Path], names: Sequence[str], config: ConfigDict) -> dict[str, Any]:
    if first.name.lower().endswith(SOUND_SUFFIXES):
        rates = [op.rate for op in map(parse_op, config.preprocess) if op.rate]
        return {"classes": names, "rate": rates[0] if rates else read_wav(first)[1]}
    channels, dtype = image_format(files)
    return {"classes": names, "channels": channels, "dtype": dtype}


def _keys(state: dict[str, Any]) -> dict[str, Key]:
    if "rate" in state:
        return {"audio": Key(role="wave", ragged=True, statistics={"rate": state["rate"]})}
    return {"image": Key(role="image")}


def _columns(files: Sequence[Path], state: dict[str, Any]) -> dict[str, Any]:
    if "rate" in state:
        return {"audio": (files, functools.partial(read_sound, rate=state["rate"]))}
    return {"image": (files, functools.partial(read_image, channels=state["channels"], dtype=state["dtype"]))}
