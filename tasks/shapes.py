"""The shapes of targets: an axis too many would broadcast, and train on wrong pairs without an error."""

from collections.abc import Mapping
from typing import Any


def check_rank(batch: Mapping[str, Any], key: str, rank: int) -> None:
    """Raises ValueError unless the array of `key`, batch axis included, has `rank` axes."""
    shape = batch[key].shape
    if len(shape) != rank:
        raise ValueError(f"{key!r} has the shape {shape[1:]} per example, but needs {rank - 1} axes")
