"""Bags of n-grams equal dense layers on dense vectors; a weight of 0 has no influence."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from arch.ngrams import BagOfNgrams, SparseDense

IDS = jnp.array([[0, 3, 4], [2, 2, 0]])
WEIGHTS = jnp.array([[0.5, -1.0, 2.0], [1.0, 1.0, 0.0]])
DENSE = jnp.array([[0.5, 0, 0, -1.0, 2.0], [0, 0, 2.0, 0, 0]])


def test_a_sparse_layer_equals_a_dense_one():
    layer = SparseDense(3, 5, nn.initializers.normal(1.0))
    variables = layer.init(jax.random.key(0), IDS, WEIGHTS)
    np.testing.assert_allclose(layer.apply(variables, IDS, WEIGHTS), nn.Dense(3).apply(variables, DENSE), atol=1e-6)


def test_counts():
    for fields, count in (({}, 50 * 4 + 4), ({"width": 6}, 50 * 6 + 6 + 6 * 4 + 4)):
        model = BagOfNgrams(num_classes=4, vocab_size=50, **fields)
        shapes = jax.eval_shape(lambda model=model: model.init(jax.random.key(0), IDS, WEIGHTS, train=False))
        assert sum(x.size for x in jax.tree.leaves(shapes)) == count
