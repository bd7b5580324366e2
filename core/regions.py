"""The part of a canvas that an image fills, of images that are padded to one size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

ENDING = "_region"  # of the key beside an image's: the part [ymin, xmin, ymax, xmax], in fractions of the canvas


def region_of(example: Mapping[str, Any], key: str) -> Float[np.ndarray, "4"]:
    """Returns the region of the image `key` of an example; the complete canvas if the image is not padded."""
    return np.asarray(example.get(f"{key}{ENDING}", (0, 0, 1, 1)), np.float32)


def without_padding(
    values: Shaped[np.ndarray, "*layers h w"], region: Float[np.ndarray, "4"]
) -> Shaped[np.ndarray, "*layers rows columns"]:
    """Returns the values of the pixels of the image alone."""
    top, left, bottom, right = np.round(region * np.tile(values.shape[-2:], 2)).astype(int)
    return values[..., top:bottom, left:right]
