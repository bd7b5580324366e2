"""LeNet-5: which maps meet, and the output's codes (LeCun 1998, section II.B)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.lenet import CONNECTIONS, Convolution, LeNet5, MeanSubsampling, RadialBasis, TrainableSubsampling, scaled_tanh


@pytest.mark.slow
@pytest.mark.slow
def test_every_map_of_c3_reads_the_maps_of_table_1():
    layer = Convolution(16, CONNECTIONS)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 5, 5, 6), np.float32))
    variables = layer.init(jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 1516
    jacobian = jax.jacobian(lambda x: layer.apply(variables, x)[0, 0, 0])(x)[:, 0]  # [16, 5, 5, 6]
    read = np.abs(jacobian).max((1, 2)) > 0
    assert [tuple(np.flatnonzero(row)) for row in read] == list(CONNECTIONS)
    assert read.sum(1).tolist() == [3] * 6 + [4] * 9 + [6]


@pytest.mark.parametrize("widths", [(6, 8, 120, 84), (6, 32, 120, 84), (4, 16, 120, 84)])
def test_other_widths_need_other_connections(widths):
    make = functools.partial(LeNet5, widths=widths)
    init = functools.partial(jax.eval_shape, rngs=jax.random.key(0), images=jnp.zeros((1, 32, 32, 1)))
    with pytest.raises(ValueError, match="connections=None"):
        init(functools.partial(make().init, train=False))
    init(functools.partial(make(connections=None).init, train=False))


def test_a_full_convolution_is_that_of_numpy():
    layer = Convolution(2)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 6, 5, 3), np.float32))
    variables = {"params": {"kernel": jnp.arange(150.0).reshape(5, 5, 6) / 100, "bias": jnp.array([1.0, 2.0])}}
    kernel = np.asarray(variables["params"]["kernel"]).reshape(5, 5, 2, 3)  # output map by output map
    expected = np.einsum("hwc,hwoc->o", np.asarray(x)[0, 1:], kernel) + np.array([1.0, 2.0])
    np.testing.assert_allclose(layer.apply(variables, x)[0, 1, 0], expected, rtol=1e-5)


def test_subsampling():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    means = np.array([[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_allclose(MeanSubsampling().apply({}, x)[0, :, :, 0], means)
    variables = {"params": {"scale": jnp.array([0.5]), "bias": jnp.array([-1.0])}}
    expected = 1.7159 * np.tanh(2 / 3 * (0.5 * means - 1))
    np.testing.assert_allclose(TrainableSubsampling().apply(variables, x)[0, :, :, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(scaled_tanh(jnp.array([-1.0, 1.0])), [-1, 1], atol=1e-4)


@pytest.mark.slow
@pytest.mark.slow
def test_the_output_is_the_distance_to_fixed_codes():
    layer, code = RadialBasis(10), jnp.zeros((1, 84))
    assert layer.init(jax.random.key(0), code) == {}
    np.testing.assert_allclose(layer.apply({}, code), -84 * np.ones((1, 10)))  # every code is of +1 and -1
    gradient = jax.jacobian(lambda x: layer.apply({}, x)[0])(code)[:, 0] / 2  # the codes
    assert set(np.unique(gradient)) == {-1, 1} and len(np.unique(gradient, axis=0)) == 10
    np.testing.assert_allclose(jnp.diag(layer.apply({}, gradient)), 0, atol=1e-4)


@pytest.mark.slow
def test_small_images_stand_in_the_centre_and_large_ones_give_several_positions():
    network = LeNet5()
    image = jnp.asarray(np.random.default_rng(0).standard_normal((2, 28, 28, 1)), jnp.float32)
    variables = jax.jit(functools.partial(network.init, train=False))(jax.random.key(0), image)
    apply = jax.jit(lambda x: network.apply(variables, x, train=False))
    np.testing.assert_allclose(apply(image), apply(jnp.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)))), rtol=1e-5)
    assert apply(jnp.zeros((2, 40, 40, 1))).shape == (2, 10)
