"""AlexNet's normalisation over channels (Krizhevsky 2012, section 3.3)."""

import jax.numpy as jnp
import numpy as np

from arch.alexnet import response_norm


def test_response_norm_divides_by_neighbouring_channels():
    x = 30 * np.random.default_rng(0).standard_normal((2, 3, 3, 7)).astype(np.float32)
    expected = np.empty_like(x)
    for c in range(7):
        neighbours = x[..., max(0, c - 2) : c + 3]
        expected[..., c] = x[..., c] / (2 + 1e-4 * (neighbours**2).sum(-1)) ** 0.75
    np.testing.assert_allclose(response_norm(jnp.asarray(x)), expected, rtol=1e-4)
