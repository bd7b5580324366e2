"""Means over parts of a map, which overlap where their number does not divide the side."""

import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.pool import adaptive_mean


@pytest.mark.parametrize(("side", "parts"), [((4, 6), (2, 3)), ((5, 7), (2, 3)), ((2, 1), (3, 2)), ((3, 3), (3, 3))])
def test_every_part_is_a_mean(side, parts):
    x = np.random.default_rng(0).standard_normal((2, *side, 3)).astype(np.float32)
    found = adaptive_mean(jnp.asarray(x), *parts)
    assert found.shape == (2, *parts, 3)
    for i in range(parts[0]):
        for j in range(parts[1]):
            rows = slice(int(np.floor(i * side[0] / parts[0])), int(np.ceil((i + 1) * side[0] / parts[0])))
            columns = slice(int(np.floor(j * side[1] / parts[1])), int(np.ceil((j + 1) * side[1] / parts[1])))
            np.testing.assert_allclose(found[:, i, j], x[:, rows, columns].mean((1, 2)), atol=1e-6)
