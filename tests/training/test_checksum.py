"""Checksums of arrays: by a plain loop, and alike for hosts and devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training import checksum
from training.checksum import checksums


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "bool", "uint32"])
def test_a_checksum_is_the_weighted_sum_of_the_bits(dtype, monkeypatch):
    monkeypatch.setattr(checksum, "BLOCK", 64)
    values = jnp.asarray(2 * np.random.default_rng(0).normal(size=(3, 7, 11))).astype(dtype)
    array = np.asarray(values)
    bits = array.reshape(-1).view(f"u{array.dtype.itemsize}").tolist()
    expected = sum((2 * i + 1) * bit for i, bit in enumerate(bits)) % 2**32
    assert checksums({"a": values, "b": array}) == {"a": expected, "b": expected}
    assert int(checksum._of_devices(values)) == expected


def test_numbers_of_64_bits_keys_and_empty_arrays():
    found = checksums({"n": np.float64(3.0), "none": np.zeros((0, 2)), "key": jax.random.key(3), "one": jnp.zeros(())})
    low, high = np.array([3.0]).view(np.uint32).tolist()
    first, second = np.asarray(jax.random.key_data(jax.random.key(3))).tolist()
    assert found == {"n": low + 3 * high, "none": 0, "key": first + 3 * second, "one": 0}


def test_a_changed_bit_and_two_that_change_places_are_found():
    values = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    swapped, flipped = values.copy(), values.copy()
    swapped[[3, 700]] = values[[700, 3]]
    flipped.view(np.uint32)[999] ^= 1 << 31
    assert len({checksums([array])["0"] for array in (values, swapped, flipped)}) == 3
