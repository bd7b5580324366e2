"""Checksums of arrays that are the same however an array is divided among devices and hosts.

The bits of an array are read as unsigned numbers b_i of at most 32 bits. Its checksum is the sum of (2 i + 1) b_i
modulo 2^32: every factor is odd, so that any change of one number is found.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import PyTree, Shaped, UInt32

from training.parallel import is_readable

BLOCK = 1 << 16  # numbers at a time, so that the work stays in the processor's cache


def checksums(state: PyTree) -> dict[str, int]:
    """Returns path -> checksum of the arrays that this host can read completely.

    Paths are the same in a state and in nested dicts of its arrays.
    """
    return {path: _of_host(x) for path, x in _leaves(state).items() if is_readable(x)}


def joint_checksums(state: PyTree) -> dict[str, int]:
    """Returns path -> checksum of the other arrays, those that are partly on other hosts; all hosts call this."""
    return {path: int(_of_devices(x)) for path, x in _leaves(state).items() if not is_readable(x)}


def _leaves(state: PyTree) -> dict[str, Any]:
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        leaves[jax.tree_util.keystr(path, simple=True, separator="/")] = leaf
    return leaves


def _of_host(x: Any) -> int:
    array = np.ascontiguousarray(x)
    bits = array.reshape(-1).view(f"u{min(array.dtype.itemsize, 4)}")
    factors, total = np.arange(1, 2 * BLOCK, 2, dtype=np.uint32), np.uint32(0)
    with np.errstate(over="ignore"):
        for start in range(0, len(bits), BLOCK):
            block = bits[start : start + BLOCK].astype(np.uint32)
            total += np.dot(block, factors[: len(block)]) + np.uint32(2 * start % 2**32) * block.sum(dtype=np.uint32)
    return int(total)


@jax.jit
def _of_devices(x: Shaped[jax.Array, "..."]) -> UInt32[jax.Array, ""]:
    size = x.dtype.itemsize
    bits = x.astype(jnp.uint8) if x.dtype == bool else lax.bitcast_convert_type(x, f"uint{8 * min(size, 4)}")
    shape = bits.shape  # one more axis, of two halves, if the numbers have 64 bits
    index = sum(
        lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(math.prod(shape[axis + 1 :]) % 2**32)
        for axis in range(len(shape))
    )
    return jnp.sum(bits.astype(jnp.uint32) * (2 * index + 1), dtype=jnp.uint32)
