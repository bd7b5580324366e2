"""Statistics of the training split: mean and deviation of pixels and numeric targets, examples per class."""

from typing import Any

import numpy as np
from jaxtyping import Int64

from core.info import PIXELS
from data.splits import ArraySplit, Split, StreamSplit, numbers, stack

SAMPLE = 2048  # evenly spaced examples that stand for a split which is not in memory
CHUNK = 100  # examples at a time, to save memory


def spread(size: int, count: int) -> Int64[np.ndarray, "n"]:
    """Returns at most `count` evenly spaced positions in a split of `size` examples."""
    return np.unique(np.linspace(0, size - 1, min(size, count)).astype(np.int64))


def of(key: str, role: str, train: Split) -> dict[str, Any]:
    """Returns {"mean", "std"} of images, videos and volumes, per channel, and of targets; {"counts"} of labels; {} for
    other roles and keys whose lengths vary."""
    function = {**dict.fromkeys(PIXELS, _of_pixels), "target": _of_numbers, "label": _of_labels}.get(role)
    if not function or key in train.lengths:
        return {}
    indices = np.arange(len(train)) if isinstance(train, ArraySplit) else spread(len(train), SAMPLE)
    parts = (indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK))
    return function(_read(train, key, part) for part in parts)


def _read(train: Split, key: str, part: Int64[np.ndarray, "n"]) -> np.ndarray:
    """Returns the values of one key; others are not read where the split can do without."""
    if isinstance(train, ArraySplit):
        return train.columns[key][part]
    if isinstance(train, StreamSplit):
        return stack(key, numbers(train.examples.chunk(part, (key,)))[key])
    return train.batch(part)[key]


def _of_numbers(parts) -> dict[str, Any]:
    target = np.concatenate(list(parts)).astype(np.float64)
    return {"mean": float(target.mean()), "std": float(target.std()) or 1.0} if target.ndim == 1 else {}


def _of_labels(parts) -> dict[str, Any]:
    """Returns the number of examples of each class; {} for several labels per example."""
    labels = np.concatenate(list(parts))
    is_class = labels.ndim == 1 and labels.dtype.kind in "iu" and labels.min(initial=0) >= 0
    return {"counts": np.bincount(labels).tolist()} if is_class else {}


def _of_pixels(parts) -> dict[str, Any]:
    """Returns the statistics of pixels, bytes as numbers in [0, 1]."""
    count, total, square = 0, 0.0, 0.0
    for part in parts:
        scaled = part / (255.0 if part.dtype == np.uint8 else 1.0)
        count += scaled.size // scaled.shape[-1]
        axes = tuple(range(scaled.ndim - 1))
        total = total + scaled.sum(axis=axes, dtype=np.float64)
        square = square + np.square(scaled).sum(axis=axes, dtype=np.float64)
    std = np.sqrt(np.maximum(square / count - np.square(total / count), 0))
    return {"mean": (total / count).tolist(), "std": np.where(std > 1e-6, std, 1.0).tolist()}
