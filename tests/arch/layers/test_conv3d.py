"""The 3-D convolution is flax's: the same parameters, outputs and gradients, on a CPU by other operations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.conv3d import Conv3D

pytestmark = pytest.mark.slow

CASES = {
    "C3D": {"kernel_size": (3, 3, 3)},
    "R3D's stem": {"kernel_size": (3, 7, 7), "strides": (1, 2, 2), "padding": [(1, 1), (3, 3), (3, 3)]},
    "R3D, halved": {"kernel_size": (3, 3, 3), "strides": (2, 2, 2), "padding": 1, "use_bias": False},
    "shortcut": {"kernel_size": (1, 1, 1), "strides": (2, 2, 2), "padding": 0},
    "MC3's shortcut": {"kernel_size": (1, 1, 1), "strides": (1, 2, 2), "padding": 0},
    "in space": {"kernel_size": (1, 3, 3), "strides": (1, 2, 2), "padding": [(0, 0), (1, 1), (1, 1)]},
    "in time": {"kernel_size": (3, 1, 1), "strides": (2, 1, 1), "padding": [(1, 1), (0, 0), (0, 0)]},
    "one pixel, padded": {"kernel_size": (2, 1, 1), "padding": 1},
    "valid": {"kernel_size": (2, 3, 2), "padding": "VALID"},
    "bfloat16": {"kernel_size": (3, 3, 3), "dtype": jnp.bfloat16},
    "dilated": {"kernel_size": (2, 2, 2), "kernel_dilation": 2},
    "grouped": {"kernel_size": (3, 2, 2), "feature_group_count": 2},
}


def losses(fields: dict, kind=Conv3D):
    """Returns a function (variables, x) -> (value, outputs) through a convolution."""

    def loss(variables, x):
        y = kind(6, **fields).apply(variables, nn.relu(x))
        return jnp.square(jnp.tanh(y)).sum(), y

    return loss


def start(fields: dict):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8, 7, 4)), jnp.float32)
    return nn.Conv(6, **fields).init(jax.random.key(0), x), x


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_flax(name):
    fields = CASES[name]
    variables, x = start(fields)
    assert jax.tree.structure(Conv3D(6, **fields).init(jax.random.key(0), x)) == jax.tree.structure(variables)
    ours, theirs = (
        jax.jit(jax.value_and_grad(losses(fields, kind), argnums=(0, 1), has_aux=True))(variables, x)
        for kind in (Conv3D, nn.Conv)
    )
    tolerance = 0.02 if "dtype" in fields else 1e-5
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        a, b = (np.asarray(leaf, np.float32) for leaf in (a, b))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * abs(b).max())


def test_a_cpu_has_no_convolution_over_three_axes_and_a_gpu_has_no_other():
    variables, x = start(CASES["C3D"])
    gradient = jax.jit(jax.grad(losses(CASES["C3D"]), argnums=(0, 1), has_aux=True)).trace(variables, x)
    lowered = {name: gradient.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
    dims = {
        name: [line.count("0, 1, 2") for line in text.splitlines() if "stablehlo.convolution" in line]
        for name, text in lowered.items()
    }
    assert dims["cpu"] and not any(dims["cpu"]) and len(dims["cuda"]) == 3 and all(dims["cuda"])


def test_runs_side_by_side():
    """A map over examples, kernels and both gives what a loop gives."""
    fields = CASES["R3D, halved"]
    variables, x = start(fields)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), (variables, x))
    gradient = jax.grad(losses(fields), has_aux=True)
    mapped = jax.jit(jax.vmap(gradient))(*both)
    for i in range(2):
        alone = jax.jit(gradient)(*jax.tree.map(lambda leaf, i=i: leaf[i], both))
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-4)
