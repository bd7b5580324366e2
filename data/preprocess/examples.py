"""Converts examples of a data set (nested, ragged, any dtype) to the arrays of a batch (flat, fixed shape, 32 bits)."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import Image

from core.errors import UserError

Batch = dict[str, np.ndarray]


def flatten(example: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (name, value) of every leaf; nested names are joined with "/"."""
    for name, value in example.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


@dataclasses.dataclass(frozen=True)
class Convert:
    """Converts an example to flat arrays: at most 32 bits, images uint8 [h, w, c], strings dropped.

    Attributes:
        images: the keys that hold images.
        size: (height, width) that images are resized to; () keeps their size.
        strings: the keys whose strings stay, as arrays [] of a Python string; lists of words are joined with spaces.
        audio: converts the samples of the key `audio` to `frames`.
    """

    images: frozenset[str] = frozenset({"image"})
    size: tuple[int, ...] = ()
    strings: frozenset[str] = frozenset()
    audio: Callable[[np.ndarray], np.ndarray] | None = None

    def __call__(self, example: Mapping[str, Any]) -> Batch:
        leaves = dict(flatten(example))
        arrays = {key: np.asarray(value) for key, value in leaves.items()}
        if self.audio and "audio" in arrays:
            arrays["frames"] = self.audio(arrays.pop("audio"))
        texts = {key: _string(leaves[key]) for key in self.strings & leaves.keys() if is_string(leaves[key])}
        numbers = {
            key: self._number(key, value)
            for key, value in arrays.items()
            if value.dtype.kind in "biuf" and key not in texts  # no strings, no objects
        }
        return numbers | texts

    def _number(self, key: str, value: np.ndarray) -> np.ndarray:
        if key not in self.images:
            return narrow(value)
        return as_label_map(value, self.size) if _is_label_map(key, value) else as_image(value, self.size)


def _is_label_map(key: str, image: np.ndarray) -> bool:
    """Whether an image holds class ids, which cannot be interpolated: integers, one channel, key other than `image`."""
    is_picture = key.rpartition("/")[2].startswith("image") or image.shape[2:] not in ((), (1,))
    return not is_picture and image.dtype.kind in "bui"


def is_string(value: Any) -> bool:
    """Whether a leaf of an example is a text or a list of words (possibly empty)."""
    return isinstance(value, str | bytes) or (
        isinstance(value, list) and all(isinstance(word, str | bytes) for word in value)
    )


def _string(value: str | bytes | list) -> np.ndarray:
    words = [value] if isinstance(value, str | bytes) else value
    texts = (word.decode(errors="replace") if isinstance(word, bytes) else str(word) for word in words)
    return np.array(" ".join(texts), dtype=object)


def as_image(image: np.ndarray, size: tuple[int, ...] = ()) -> np.ndarray:
    """Returns [h, w] or [h, w, c] as [h, w, c], resized to `size`; uint8 stays, all else is float32 in [0, 1]."""
    image = image[..., None] if image.ndim == 2 else image
    if image.dtype == np.uint16:
        image = image / 65535
    elif image.dtype == bool:
        image = image.astype(np.uint8) * 255
    image = image if image.dtype == np.uint8 else image.astype(np.float32)
    if not size or image.shape[:2] == tuple(size):
        return image
    planes = [Image.fromarray(image[..., channel]) for channel in range(image.shape[-1])]  # of any number and dtype
    return np.stack([np.asarray(plane.resize(size[::-1], Image.Resampling.BILINEAR)) for plane in planes], axis=-1)


def as_label_map(labels: np.ndarray, size: tuple[int, ...] = ()) -> np.ndarray:
    """Returns class ids [h, w] or [h, w, c] as [h, w, c], resized to `size` by nearest neighbour."""
    labels = narrow(labels[..., None] if labels.ndim == 2 else labels)
    if not size or labels.shape[:2] == tuple(size):
        return labels
    # the pixel under the centre of each new pixel
    rows, columns = (
        (np.arange(new) * 2 + 1) * old // (2 * new) for new, old in zip(size, labels.shape[:2], strict=True)
    )
    return labels[rows][:, columns]


def narrow(value: np.ndarray) -> np.ndarray:
    """Returns numbers in at most 32 bits: float32, int32; booleans, and bytes with more than one axis, stay."""
    if value.dtype.kind == "f":
        return value.astype(np.float32)
    if value.dtype == bool or (value.dtype == np.uint8 and value.ndim > 1):  # frames, segmentation masks
        return value
    return value.astype(np.int32)


def stack(columns: dict[str, list[np.ndarray]], lengths: Mapping[str, int]) -> Batch:
    """Returns the values of every key as one array with a leading axis; empties `columns` to keep one copy in memory.

    A key in `lengths` is padded with zeros along its first axis to that length; `<key>_mask` float32 [n, length] is 1
    at real values, and `<key>_lengths` int32 [n] counts them. Keys of the set with these names take precedence.

    Raises:
        UserError: the shapes of a key's values differ in another way.
    """
    batch = {}
    names = set(columns)
    for key in list(columns):
        values = columns.pop(key)
        if key in lengths:
            sizes = np.array([len(value) for value in values], np.int32)
            mask = (np.arange(lengths[key]) < sizes[:, None]).astype(np.float32)
            companions = {f"{key}_mask": mask, f"{key}_lengths": sizes}
            batch |= {name: companion for name, companion in companions.items() if name not in names}
            empty = max(values, key=np.size)[:0]  # an empty list lacks its dtype and further axes
            values = [_pad(value if value.size else empty, lengths[key]) for value in values]
        shapes = sorted({value.shape for value in values})
        if len(shapes) > 1:
            raise UserError(
                f"{key!r} has different shapes, such as {shapes[0]} and {shapes[-1]}: set data.image_size if these are "
                "images; a sequence may vary along its first axis only, and only in memory (data.memory_gb)"
            )
        batch[key] = np.stack(values)
    return batch


def _pad(value: np.ndarray, length: int) -> np.ndarray:
    return np.pad(value, [(0, length - len(value))] + [(0, 0)] * (value.ndim - 1))


def collect(
    examples: Sequence[Any], indices: Int[np.ndarray, "n"], convert: Callable[[Any], Batch]
) -> dict[str, list[np.ndarray]]:
    """Returns key -> converted values of the examples at `indices`, read in one call if the source supports it."""
    many = getattr(examples, "__getitems__", lambda keys: [examples[key] for key in keys])
    columns: dict[str, list[np.ndarray]] = {}
    for example in many([int(index) for index in indices]):
        for key, value in convert(example).items():
            columns.setdefault(key, []).append(value)
    return columns
