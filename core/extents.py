"""The part of a canvas that an image fills: that at its upper left, for images that are padded to one size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

ENDING = "_extent"  # of the key beside an image's: the height and width of the part [2], in fractions of the canvas


def extent_of(example: Mapping[str, Any], key: str) -> Float[np.ndarray, "2"]:
    """Returns the extent of the image `key` of an example; ones if the image is not padded."""
    return np.asarray(example.get(f"{key}{ENDING}", np.ones(2)), np.float32)


def without_padding(
    values: Shaped[np.ndarray, "*layers h w"], extent: Float[np.ndarray, "2"]
) -> Shaped[np.ndarray, "*layers rows columns"]:
    """Returns the values of the pixels of the image alone."""
    rows, columns = np.round(extent * values.shape[-2:]).astype(int)
    return values[..., :rows, :columns]
