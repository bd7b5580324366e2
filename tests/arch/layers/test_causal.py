"""Causal convolutions: both forms against PyTorch's formula written out, gradients, weight normalisation, bytes moved.

Causality, packing and the queues are tested with all mixers (`test_mixers`).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.causal import CausalConv, _convolved, _shifted, dilated
from arch.layers.mixer import Context

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 11, 3)).astype(np.float32)
CONTEXT = Context(jnp.arange(11)[None])


def by_hand(x, kernel, dilation):
    t = x.shape[1] - (len(kernel) - 1) * dilation
    y = np.zeros((len(x), t, kernel.shape[2]))
    for place in range(t):
        for i, weights in enumerate(kernel):
            y[:, place] += x[:, place + i * dilation] @ weights
    return y


@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (2, 4), (3, 2)])
def test_both_forms_are_the_definition_and_have_its_gradients(size, dilation):
    kernel = RNG.standard_normal((size, 3, 4)).astype(np.float32)
    expected = by_hand(X, kernel, dilation)
    direction = RNG.standard_normal(expected.shape).astype(np.float32)
    for form in (_convolved, _shifted, dilated):
        np.testing.assert_allclose(form(X, kernel, dilation), expected, atol=1e-5)

    def gradients(form):
        return jax.grad(lambda x, kernel: (form(x, kernel, dilation) * direction).sum(), (0, 1))(X, kernel)

    for a, b in zip(gradients(dilated), gradients(_convolved), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_weight_normalisation_keeps_the_distribution_of_the_initialiser():
    module = CausalConv(features=400, size=5, weight_norm=True, kernel_init=jax.nn.initializers.normal(0.01))
    params = module.init(jax.random.key(0), X, CONTEXT)["params"]
    one = np.zeros((3, 5, 3), np.float32)
    one[np.arange(3), 0, np.arange(3)] = 1  # the outputs are the kernel
    kernel, _ = module.apply({"params": params}, one, Context(jnp.arange(5)[None]))
    np.testing.assert_allclose(kernel[:, ::-1].swapaxes(0, 1), params["kernel"], atol=1e-6)
    assert abs(np.std(kernel) - 0.01) < 0.0005
    larger = {**params, "kernel": 7 * params["kernel"]}
    np.testing.assert_allclose(
        module.apply({"params": larger}, one, Context(jnp.arange(5)[None]))[0], kernel, atol=1e-6
    )


def test_a_step_writes_one_place_of_the_queue():
    module = CausalConv(dilation=8)
    variables = module.init(jax.random.key(0), X, CONTEXT)
    _, queue = module.apply(variables, X, CONTEXT.replace(capacity=20))
    for step in range(12):
        before = queue.values
        _, queue = module.apply(variables, X[:, :1] + step, CONTEXT, queue)
        changed = np.flatnonzero((queue.values != before).any((0, 2)))
        assert changed.tolist() == [step % 9]
