"""Embeddings of columns: a block-diagonal linear map, of which one-hot vectors take rows."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.columns import ColumnEmbedding


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("columns", [(1, 3, 1, 2, 3), (2, 2), (1, 1, 1), ()])
def test_each_column_is_a_product_of_its_own(columns):
    size = sum(columns) or 4
    x = jax.random.normal(jax.random.key(1), (5, size))
    tokens, variables = ColumnEmbedding(6, columns).init_with_output(jax.random.key(0), x)
    weights, biases = (np.asarray(variables["params"][name]) for name in ("weights", "biases"))
    assert np.abs(weights).max() < 6**-0.5 and weights.min() < -0.1 < 0.1 < weights.max()
    ends = np.cumsum(columns or (1,) * size)
    parts = zip(np.split(np.asarray(x), ends[:-1], axis=1), np.split(weights, ends[:-1]), strict=True)
    expected = np.stack([part @ kernel for part, kernel in parts], axis=1) + biases
    np.testing.assert_allclose(tokens, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_category_takes_a_row_and_an_unknown_one_the_bias():
    x = jnp.array([[0.5, 0, 1, 0], [0.5, 0, 0, 0]])
    tokens, variables = ColumnEmbedding(6, (1, 3), nn.relu).init_with_output(jax.random.key(0), x)
    params = variables["params"]
    np.testing.assert_allclose(tokens[0, 1], nn.relu(params["weights"][2] + params["biases"][1]), rtol=1e-6)
    np.testing.assert_array_equal(tokens[1, 1], nn.relu(params["biases"][1]))


def test_other_features_are_refused():
    with pytest.raises(ValueError, match=r"4 features do not fit columns of \[1, 2\]"):
        ColumnEmbedding(6, (1, 2)).init(jax.random.key(0), jnp.ones((1, 4)))
