"""Sounds, videos and volumes as a few hundred numbers, for linear models and trees.

b: examples, t: frames, m: bands, h: height, w: width, c: channels, f: numbers of an example
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Num

PARTS = 8  # of a sound
SIDE = 4  # cells of a frame along height and width
CELLS = 8  # of a volume along each axis


def sounds(frames: Float[np.ndarray, "b t m"], lengths: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b f"]:
    """Returns mean and standard deviation of every band in each of eight equal parts of the first `lengths` frames.

    Over the whole sound both would tell nothing where the frames are standardised.
    """
    return np.stack([_sound(one[:length]) for one, length in zip(frames, lengths, strict=True)])


def _sound(frames: Float[np.ndarray, "t m"]) -> Float[np.ndarray, " f"]:
    bounds = np.arange(PARTS + 1) * len(frames) / PARTS
    starts = np.floor(bounds[:-1]).astype(int)
    parts = [frames[a : max(a + 1, int(b))] for a, b in zip(starts, np.ceil(bounds[1:]), strict=True)]
    return np.concatenate([statistic(part, axis=0) for part in parts for statistic in (np.mean, np.std)])


def videos(video: Num[np.ndarray, "b t h w c"]) -> Float[np.ndarray, "b f"]:
    """Returns the mean pixels of 4 x 4 cells of each frame, and the mean absolute differences from frame to frame."""
    video = video.astype(np.float32)
    whole, sides = video.shape[1], (SIDE, SIDE)
    changes = np.abs(np.diff(video, axis=1))
    return np.concatenate([_flat(pooled(video, (whole, *sides))), _flat(pooled(changes, (whole, *sides)))], axis=1)


def volumes(volume: Num[np.ndarray, "b d h w c"]) -> Float[np.ndarray, "b f"]:
    """Returns the mean voxels of at most 8 x 8 x 8 cells."""
    return _flat(pooled(volume.astype(np.float32), (CELLS,) * 3))


def pooled(values: Float[np.ndarray, "b ..."], cells: Sequence[int]) -> Float[np.ndarray, "b ..."]:
    """Returns the means over equal parts of the axes after the first, at most `cells` of each axis."""
    for axis, most in enumerate(cells, 1):
        size = values.shape[axis]
        count = min(most, size)
        starts = np.arange(count) * size // count
        sizes = np.diff([*starts, size]).reshape(-1, *[1] * (values.ndim - axis - 1))
        values = np.add.reduceat(values, starts, axis) / sizes
    return values


def _flat(values: Float[np.ndarray, "b ..."]) -> Float[np.ndarray, "b f"]:
    return values.reshape(len(values), -1)
