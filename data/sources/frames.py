"""Short videos as folders of frames."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num
from ml_collections import ConfigDict

from core.errors import UserError
from core.info import Key
from data.sources.files import (
    Columns,
    check_names,
    existing_folder,
    folders,
    has_suffix,
    known,
    natural,
    split_folders,
    visible,
)
from data.sources.images import IMAGE_SUFFIXES, image_format, read_image
from data.sources.source import FileSource

# t: frames, h: height, w: width, c: channels


class Frames(FileSource):
    """`frames:DIR`: DIR/CLASS/CLIP/1.png, 2.png, ..., with one split, "train", or DIR/SPLIT/CLASS/CLIP/1.png.

    Keys: `video` [t, h, w, c], frames in the order of the numbers in their names, colours and type as in `Folder`;
    `label`, the number of the class. Clips may differ in length: `sample_frames` makes them equal.
    """

    def __init__(self, path: str, config: ConfigDict, state: Any = None):
        self.folder = existing_folder(path)
        splits = _splits(self.folder)
        names = sorted({part.name for root in splits.values() for part in folders(root)})
        check_names("classes", names, self.folder)
        clips = {
            split: [(clip, part.name) for part in folders(root) for clip in _clips(part)]
            for split, root in splits.items()
        }
        for split, found in clips.items():
            if not found:
                raise UserError(f"{path}: the split {split!r} has no clips (frames in folders: running/clip1/1.png)")
        self.files = [file for found in clips.values() for frames, _ in found for file in frames]
        self.state = state or _state(self.files, names)
        known(self.state["classes"], names, self.folder)
        numbers = {name: number for number, name in enumerate(self.state["classes"])}
        self.keys = {
            "video": Key(role="video", ragged=True),
            "label": Key(role="label", classes=tuple(self.state["classes"])),
        }
        read = functools.partial(read_clip, channels=self.state["channels"], dtype=self.state["dtype"])
        self.rows = {
            split: Columns(
                {
                    "video": ([frames for frames, _ in found], read),
                    "label": (np.array([numbers[name] for _, name in found], np.int32), None),
                }
            )
            for split, found in clips.items()
        }


def _splits(root: Path) -> dict[str, Path]:
    """Returns split -> folder of classes. Folders named as splits are classes if they hold clips."""
    splits = split_folders(root)
    holds_frames = any(frames_of(inner) for folder in splits.values() for inner in folders(folder))
    return {"train": root} if holds_frames else splits


def _clips(folder: Path) -> list[list[Path]]:
    """Returns the frames of every clip of a class: of each folder below it that holds frames."""
    if loose := frames_of(folder):
        raise UserError(f"{loose[0]} lies beside no other frame of a clip: put the frames of each clip into a folder")
    return [frames for entry in folders(folder) for frames in _below(entry)]


def _below(folder: Path) -> list[list[Path]]:
    own = frames_of(folder)
    return ([own] if own else []) + [frames for entry in folders(folder) for frames in _below(entry)]


def frames_of(folder: Path) -> list[Path]:
    """Returns the images in a folder in the order of the numbers in their names."""
    return sorted((file for file in visible(folder) if has_suffix(file, IMAGE_SUFFIXES)), key=natural)


def _state(files: Sequence[Path], names: Sequence[str]) -> dict[str, Any]:
    channels, dtype = image_format(files)
    return {"classes": list(names), "channels": channels, "dtype": dtype}


def read_clip(files: Sequence[Path], channels: int, dtype: Any) -> Num[np.ndarray, "t h w c"]:
    """Returns the video of some frames. Raises UserError for frames of different sizes."""
    frames = [read_image(file, channels, dtype) for file in files]
    for file, frame in zip(files, frames, strict=True):
        if frame.shape != frames[0].shape:
            raise UserError(f"{file} has the size {frame.shape[:2]}, but {files[0]} has {frames[0].shape[:2]}")
    return np.stack(frames)
