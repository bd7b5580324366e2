"""Shorter views of an `Info` for assertions."""

import numpy as np

from core.info import Info, Key
from core.vocabulary import Vocabulary


def shapes(info: Info) -> dict[str, tuple[tuple[int, ...], str]]:
    """Returns key -> (shape, dtype)."""
    return {key: (record.shape, record.dtype) for key, record in info.keys.items()}


def class_names(info: Info) -> tuple[str, ...]:
    """Returns the names of the classes of the one key that has some; () if none has."""
    (names,) = {record.classes for record in info.keys.values() if record.classes} or {()}
    return names


def pixels(shape=(10, 12, 3), **others: Key) -> Info:
    """Returns the description of labelled images."""
    statistics = {"mean": [0.5] * shape[-1], "std": [0.25] * shape[-1]}
    keys = {"image": Key(shape, "float32", "image", statistics=statistics), "label": Key((), "int32", "label")}
    return Info("made up", {"train": 16}, keys | others)


def spatial(shape=(10, 12, 3), objects: int = 3) -> Info:
    """Returns the description of images with a label map, boxes, points and a region."""
    mask = Key((objects,), "float32", "mask")
    others = {
        "label_map": Key((*shape[:2], 1), "int32", "label_map"),
        "boxes": Key((objects, 4), "float32", "boxes"),
        "boxes_mask": mask,
        "points": Key((objects, 2), "float32", "points"),
        "points_mask": mask,
        "image_region": Key((4,), "float32", "region"),
    }
    return pixels(shape, **others)


def sounds(length=12, width=24) -> Info:
    """Returns the description of labelled sounds."""
    keys = {"frames": Key((length, width), "float32", "frames"), "frames_lengths": Key((), "int32", "lengths")}
    return Info("made up", {"train": 16}, keys | {"label": Key((), "int32", "label")})


def waves(length=12) -> Info:
    """Returns the description of labelled waves."""
    return Info(
        "made up", {"train": 16}, {"audio": Key((length,), "float32", "wave"), "label": Key((), "int32", "label")}
    )


def texts(length=12) -> Info:
    """Returns the description of texts with a mask token."""
    vocabulary = Vocabulary(11, pad=0, bos=1, eos=2, unk=3, mask=4)
    keys = {"tokens": Key((length,), "int32", "tokens", vocabulary=vocabulary)}
    return Info("made up", {"train": 16}, keys | {"label": Key((), "int32", "label")})


def batch_of(info: Info, size: int = 16, padding: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns a random batch of a description: floats in 0.1 to 0.9, lengths within the sound, ordered boxes."""
    random = np.random.default_rng(seed)
    batch = {}
    for key, record in info.keys.items():
        values = random.uniform(0.1, 0.9, (size, *record.shape))
        if record.role in ("boxes", "region"):
            values = np.concatenate([0.5 * values[..., :2], 0.5 + 0.5 * values[..., 2:]], -1)
        if record.role == "mask":
            values = np.ones_like(values)
        if record.dtype.startswith("int"):
            values = 1 + values * 9
        batch[key] = values.astype(record.dtype)
    index = np.arange(size)
    return batch | {"mask": (index < size - padding).astype(np.float32), "index": index.astype(np.int32)}
