"""Depthwise convolutions, in the form for CPUs, against flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.depthwise import depthwise_conv


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(3, 3), (7, 7), (2, 5)])
def test_results_and_gradients_are_those_of_flax(stride, size):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 8, 7, 6), np.float32))
    padding = tuple((side // 2, side // 2) for side in size)
    plain = nn.Conv(6, size, stride, padding, feature_group_count=6)
    ours = plain.clone(conv_general_dilated=depthwise_conv)
    params = plain.init(jax.random.key(0), x)
    weight = jnp.asarray(rng.standard_normal(plain.apply(params, x).shape, np.float32))

    def value(module):
        return jax.jit(jax.value_and_grad(lambda params, x: (module.apply(params, x) * weight).sum(), (0, 1)))(
            params, x
        )

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-5), value(ours), value(plain))
