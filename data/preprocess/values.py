"""Single values of examples: nested keys, strings, images and label maps as arrays, numbers in 32 bits."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

NUMBER = r"[+-]?(\d+[.]?\d*|[.]\d+)([eE][+-]?\d+)?"  # a number as text


def written(value: Any) -> str:
    """Returns a single value as text, whole numbers without a fraction: "2" of 2.0."""
    is_whole = isinstance(value, float | np.floating) and value == np.round(value) and np.isfinite(value)
    return str(int(value)) if is_whole else str(value)


def flatten(example: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (name, value) of every leaf; nested names are joined with "/"."""
    for name, value in example.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def decoded(value: Any) -> Any:
    """Returns bytes as a string, and lists of bytes as lists of strings; other values unchanged."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list) and all(isinstance(item, str | bytes) for item in value):
        return [decoded(item) for item in value]
    return value


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
        return value.astype(np.float32, copy=False)
    if value.dtype == bool or (value.dtype == np.uint8 and value.ndim > 1):  # frames, segmentation masks
        return value
    return value.astype(np.int32, copy=False)


def compact(value: np.ndarray) -> np.ndarray:
    """Returns numbers for storage: as `narrow`, but small token ids stay in 16 bits."""
    return value if value.dtype == np.uint16 else narrow(value)
