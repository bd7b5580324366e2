"""Temporal convolutional networks: the receptive field by gradient, padding, dropout of channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.mixer import Context
from arch.tcn import TCN, TCNClassifier, TemporalBlock
from tests.arch.influence import disturbed, influence


@pytest.mark.slow
@pytest.mark.parametrize(("size", "blocks"), [(2, 3), (3, 2)])
def test_an_output_sees_exactly_the_receptive_field(size, blocks):
    expected = 1 + 2 * (size - 1) * (2**blocks - 1)  # 1 + 2 (k - 1) sum d
    model = TCN(num_classes=3, widths=(4,) * blocks, size=size, activation=jnp.tanh)
    x = jax.random.normal(jax.random.key(0), (1, expected + 3, 2))
    variables = disturbed(jax.jit(lambda: model.init(jax.random.key(0), x, train=False))())
    _, meets = jax.jit(lambda x: influence(lambda x: model.apply(variables, x, train=False), x))(x)
    places = np.arange(x.shape[1])
    distance = places[:, None] - places
    np.testing.assert_array_equal(meets > 0, (distance >= 0) & (distance < expected))
    assert model.receptive_field == expected


@pytest.mark.slow
def test_the_last_real_position_decides():
    model = TCNClassifier(num_classes=3, widths=(5, 4), size=2)
    x, lengths = jax.random.normal(jax.random.key(0), (3, 6, 2)), jnp.array([3, 6, 1])
    variables = model.init(jax.random.key(0), x, train=False)
    padded = model.apply(variables, x, lengths, train=False)
    alone = [model.apply(variables, x[i : i + 1, :n], train=False)[0] for i, n in enumerate(lengths)]
    np.testing.assert_allclose(padded, np.stack(alone), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("spatial", [True, False])
def test_spatial_dropout_drops_whole_channels(spatial):
    block = TemporalBlock(features=40, size=2, dropout=0.5, spatial=spatial)
    x = jnp.ones((2, 30, 40))
    context = Context(jnp.arange(30)[None], train=True)
    variables = block.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x, context)
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    params["conv2"]["bias"] += 1.0  # the branch is 0 or 2, where it is dropped or kept
    params["conv1"]["kernel"] += 1.0
    params["conv2"]["kernel"] += 1.0
    y, _ = block.apply({"params": params}, x, context, rngs={"dropout": jax.random.key(2)})
    dropped = np.asarray(y == 1)
    assert 0.3 < dropped.mean() < 0.7
    assert (dropped.any(1) == dropped.all(1)).all() == spatial
