"""Causal convolutions: the formula written out, weight normalisation, the places of the queue that a step writes.

Causality, packing and the queues are tested with all mixers (`test_mixers`).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.causal import CausalConv
from arch.layers.mixer import Context

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.standard_normal((2, 11, 3)), jnp.float32)
CONTEXT = Context(jnp.arange(11)[None])


@pytest.mark.slow
@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (2, 4), (3, 2)])
def test_the_definition(size, dilation):
    module = CausalConv(4, size, dilation)
    params = module.init(jax.random.key(0), X, CONTEXT)["params"]
    params["bias"] += 1
    expected = np.ones((2, 11, 4))
    for place in range(11):
        for i, weights in enumerate(params["kernel"]):
            seen = place - (size - 1 - i) * dilation
            expected[:, place] += X[:, seen] @ weights if seen >= 0 else 0
    np.testing.assert_allclose(module.apply({"params": params}, X, CONTEXT)[0], expected, atol=1e-5)


@pytest.mark.slow
def test_weight_normalisation_keeps_the_distribution_of_the_initialiser():
    module = CausalConv(features=400, size=5, weight_norm=True, kernel_init=jax.nn.initializers.normal(0.01))
    params = module.init(jax.random.key(0), X, CONTEXT)["params"]
    one = np.zeros((3, 5, 3), np.float32)
    one[np.arange(3), 0, np.arange(3)] = 1  # the outputs are the kernel
    one = jnp.asarray(one)
    kernel, _ = module.apply({"params": params}, one, Context(jnp.arange(5)[None]))
    np.testing.assert_allclose(kernel[:, ::-1].swapaxes(0, 1), params["kernel"], atol=1e-6)
    assert abs(np.std(kernel) - 0.01) < 0.0005
    larger = {**params, "kernel": 7 * params["kernel"]}
    np.testing.assert_allclose(
        module.apply({"params": larger}, one, Context(jnp.arange(5)[None]))[0], kernel, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.slow
def test_a_step_writes_one_place_of_the_queue():
    module = CausalConv(dilation=8)
    variables = module.init(jax.random.key(0), X, CONTEXT)
    _, queue = module.apply(variables, X, CONTEXT.replace(capacity=20))
    for step in range(12):
        before = queue.values
        _, queue = module.apply(variables, X[:, :1] + step, CONTEXT, queue)
        changed = np.flatnonzero((queue.values != before).any((0, 2)))
        assert changed.tolist() == [step % 9]
