"""Pooling to a fixed number of positions."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def adaptive_mean(x: Float[Array, "b h w c"], height: int, width: int) -> Float[Array, "b H W c"]:
    """Returns means over `height` x `width` parts of a map of any size, those of PyTorch's `AdaptiveAvgPool2d`.

    Part i of n of a side of m positions reaches from floor(i m / n) to ceil((i + 1) m / n), so that parts overlap where
    n does not divide m.
    """
    if x.shape[1:3] == (height, width):
        return x
    rows, columns = (
        jnp.asarray(_means(size, parts), x.dtype) for size, parts in zip(x.shape[1:3], (height, width), strict=True)
    )
    return jnp.einsum("bhwc,Hh,Ww->bHWc", x, rows, columns)


def _means(size: int, parts: int) -> Float[np.ndarray, "parts size"]:
    start, stop = (np.arange(parts) * size // parts, -(-np.arange(1, parts + 1) * size // parts))
    place = np.arange(size)
    inside = (place >= start[:, None]) & (place < stop[:, None])
    return inside / inside.sum(1, keepdims=True)
