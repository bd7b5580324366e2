"""Ops on images: sizes, frames of videos, and image files named by a column."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from core.errors import UserError
from core.info import PIXELS, Key
from core.regions import ENDING
from data.preprocess.op import FOLDER, Chunk, Examples, Keys, Op
from data.preprocess.paths import check_paths, paths
from data.preprocess.values import as_image, as_label_map
from data.sources.images import image_format, read_image

# t: frames of a video or layers of a volume, h: height, w: width, c: channels

LARGEST = 1 << 14  # pixels of a side
RESIZERS = {"image": as_image, "video": as_image, "volume": as_image, "label_map": as_label_map}  # by role
PLACES = {"boxes": 2, "points": 1}  # role -> (y, x) per place


@dataclasses.dataclass(frozen=True)
class Resize(Op):
    """Resizes every image, and every image of a video or volume, bilinearly, label maps by nearest neighbour.

    Boxes and points stay: they are fractions of the image.
    """

    height: int
    width: int

    def __post_init__(self):
        for name in ("height", "width"):
            if not 1 <= getattr(self, name) <= LARGEST:
                raise UserError(f"{name} must be from 1 to {LARGEST}, not {getattr(self, name)}")

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> dict[str, str]:
        """Returns key -> role of what is resized."""
        found = {key: record.role for key, record in keys.items() if record.role in RESIZERS}
        if not found:
            name = type(self).__name__.lower()
            raise UserError(f"data.preprocess: {name}: the set has no images but {', '.join(keys)}")
        return found

    def __call__(self, chunk: Chunk, state: dict[str, str]) -> Chunk:
        size = (self.height, self.width)
        present = {key: RESIZERS[role] for key, role in state.items() if key in chunk}
        return chunk | {key: [_resized(value, resize, size) for value in chunk[key]] for key, resize in present.items()}


def _resized(value: np.ndarray, resize: Callable[..., np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Returns [h, w], [h, w, c] or [t, h, w, c] in another size."""
    return np.stack([resize(one, size) for one in value]) if value.ndim == 4 else resize(value, size)


@dataclasses.dataclass(frozen=True)
class Letterbox(Resize):
    """Fits every image into a canvas of `height` x `width`: resizes it with its own proportions, and pads it below and
    to the right. Label maps, boxes and points move with it.

    `<key>_region` [ymin, xmin, ymax, xmax] is the part of the canvas that the image `key` fills, in fractions.
    `predict.py` returns boxes and label maps of the image without the padding.

    Attributes:
        fill: value of the padding, from 0, black, to 1.
        ignore: class of label maps there; 255 is the usual class that no loss counts.
    """

    fill: float = 0.0
    ignore: int = 255

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.fill <= 1 or not 0 <= self.ignore <= 255:
            raise UserError(f"fill must be from 0 to 1 and ignore from 0 to 255, not {self.fill} and {self.ignore}")

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> dict[str, str]:
        """Returns key -> role of what is resized or moved."""
        return super().fit(splits, keys) | {key: record.role for key, record in keys.items() if record.role in PLACES}

    def __call__(self, chunk: Chunk, state: dict[str, str]) -> Chunk:
        present = {key: role for key, role in state.items() if key in chunk}
        pixels = [key for key, role in present.items() if role in RESIZERS]
        extents = {key: np.array([self._extent(_size(value)) for value in chunk[key]], np.float32) for key in pixels}
        changed = {key: [self._padded(value, present[key]) for value in chunk[key]] for key in pixels}
        for key in present.keys() - pixels:
            factors = np.tile(extents[pixels[0]], PLACES[present[key]])
            pairs = zip(chunk[key], factors, strict=True)
            changed[key] = [np.asarray(value, np.float32).reshape(-1, len(by)) * by for value, by in pairs]
        for key in pixels:
            if present[key] in PIXELS:
                name = f"{key}{ENDING}"
                earlier = np.asarray(chunk.get(name, [[0, 0, 1, 1]]), np.float32)  # on a canvas before this one
                changed[name] = np.tile(extents[key], 2) * earlier
        return chunk | changed

    def describe(self, keys: Keys, state: dict[str, str]) -> Keys:
        """Returns the keys with the regions of the images."""
        regions = {f"{key}{ENDING}": Key(role="region") for key, role in state.items() if role in PIXELS}
        return keys | regions

    def _resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the height and width of an image of this size on the canvas."""
        scale = min(self.height / size[0], self.width / size[1])
        height, width = (max(1, round(scale * side)) for side in size)
        return height, width

    def _extent(self, size: tuple[int, int]) -> tuple[float, float]:
        height, width = self._resized_size(size)
        return height / self.height, width / self.width

    def _padded(self, value: np.ndarray, role: str) -> np.ndarray:
        """Returns [h, w], [h, w, c] or [t, h, w, c] on the canvas."""
        value = _resized(value, RESIZERS[role], self._resized_size(_size(value)))
        value = value.astype(np.uint8) if value.dtype == bool else value  # which has no third value for `ignore`
        rows, columns = self.height - value.shape[-3], self.width - value.shape[-2]
        fill = self.ignore if role == "label_map" else self.fill * (255 if value.dtype == np.uint8 else 1)
        around = [(0, 0)] * (value.ndim - 3) + [(0, rows), (0, columns), (0, 0)]
        return np.pad(value, around, constant_values=np.asarray(fill).astype(value.dtype))


def _size(value: np.ndarray) -> tuple[int, int]:
    """Returns the height and width of [h, w], [h, w, c] or [t, h, w, c]."""
    return value.shape[-3:-1] if value.ndim > 2 else value.shape


@dataclasses.dataclass(frozen=True)
class SampleFrames(Op):
    """Takes `count` frames of every video, and layers of every volume and its label map, evenly spaced; a short one
    repeats frames. A network then gets videos of one length.
    """

    count: int

    def __post_init__(self):
        if self.count < 1:
            raise UserError(f"count must be at least 1, not {self.count}")

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> list[str]:
        """Returns the keys of what is sampled."""
        found = [key for key, record in keys.items() if record.role in ("video", "volume")]
        if not found:
            raise UserError(f"data.preprocess: sample_frames: the set has no videos or volumes but {', '.join(keys)}")
        if any(keys[key].role == "volume" for key in found):
            found += [key for key, record in keys.items() if record.role == "label_map"]
        return found

    def __call__(self, chunk: Chunk, state: list[str]) -> Chunk:
        return chunk | {key: [self._sampled(value) for value in chunk[key]] for key in state if key in chunk}

    def describe(self, keys: Keys, state: list[str]) -> Keys:
        return keys | {key: dataclasses.replace(keys[key], ragged=False) for key in state}

    def _sampled(self, frames: np.ndarray) -> np.ndarray:
        """Returns the frame in the middle of each of `count` equal parts."""
        return frames[(2 * np.arange(self.count) + 1) * len(frames) // (2 * self.count)]


@dataclasses.dataclass(frozen=True)
class ReadImage(Op):
    """Turns the column `key`, paths of image files, into `image` [h, w, c], uint8, or float32 if a file has more bits.

    Relative paths resolve against the folder of the table. `channels` is 1 for grey, 3 for colour.
    """

    key: str
    channels: Literal[1, 3] = 3

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({self.key, FOLDER, "image"})

    @property
    def opens(self) -> tuple[str, str]:
        return self.key, "image"

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> dict[str, Any]:
        return {"dtype": image_format(check_paths("read_image", self.key, splits, keys))[1]}

    def __call__(self, chunk: Chunk, state: dict[str, Any]) -> Chunk:
        if self.key not in chunk:
            return chunk
        images = [read_image(path, self.channels, state["dtype"]) for path in paths(chunk, self.key)]
        return {key: values for key, values in chunk.items() if key != self.key} | {"image": images}

    def describe(self, keys: Keys, state: dict[str, Any]) -> Keys:
        return {key: record for key, record in keys.items() if key != self.key} | {"image": Key(role="image")}
