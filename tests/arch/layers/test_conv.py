"""Our convolution is flax's: the same parameters, outputs and gradients."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.conv import Conv

pytestmark = pytest.mark.slow

CASES = {
    "3x3": {"features": 6, "kernel_size": (3, 3)},
    "1x1 stride 2": {"features": 6, "kernel_size": (1, 1), "strides": 2},
    "7x7 stride 2, own padding": {"features": 6, "kernel_size": (7, 7), "strides": 2, "padding": 3},
    "dilated": {"features": 6, "kernel_size": (3, 3), "kernel_dilation": 2},
    "depthwise": {"features": 4, "kernel_size": (3, 3), "feature_group_count": 4},
    "valid, no bias": {"features": 6, "kernel_size": (3, 2), "padding": "VALID", "use_bias": False},
    "bfloat16": {"features": 6, "kernel_size": (3, 3), "dtype": jnp.bfloat16},
    "1-D causal": {"features": 6, "kernel_size": (3,), "padding": "CAUSAL", "kernel_dilation": 2},
    "3-D": {"features": 3, "kernel_size": (3, 3, 3)},
}
SMALL = {  # images that are smaller than the kernel, or whose outputs are
    "2x2 under 3x3": ((2, 2), {"features": 6, "kernel_size": (3, 3)}),
    "1x9 under 3x3, stride 2": ((1, 9), {"features": 6, "kernel_size": (3, 3), "strides": 2}),
    "outputs of 2x2, stride 2": ((4, 4), {"features": 6, "kernel_size": (3, 3), "strides": 2, "padding": 1}),
    "one output, valid": ((5, 5), {"features": 6, "kernel_size": (5, 5), "padding": "VALID"}),
    "4x4 under 7x7, uneven": (
        (4, 4),
        {"features": 6, "kernel_size": (7, 7), "strides": 3, "padding": [(2, 4), (3, 5)]},
    ),
    "bfloat16": ((2, 2), {"features": 6, "kernel_size": (3, 3), "dtype": jnp.bfloat16}),
    "dilated": ((3, 3), {"features": 6, "kernel_size": (3, 3), "kernel_dilation": 2}),
    "depthwise": ((2, 2), {"features": 4, "kernel_size": (3, 3), "feature_group_count": 4}),
    "1-D": ((2,), {"features": 6, "kernel_size": (5,)}),
    "3-D": ((2, 3, 1), {"features": 3, "kernel_size": (3, 3, 3)}),
    "outputs larger than the image": ((5, 6), {"features": 6, "kernel_size": (3, 3), "padding": 2}),
    "larger, 1-D": ((7,), {"features": 6, "kernel_size": (4,), "padding": [(3, 3)]}),
    "larger, stride 2": ((3, 3), {"features": 6, "kernel_size": (2, 2), "strides": 2, "padding": 4}),
}
EXAMPLES = {name: ((9,) * len(fields["kernel_size"]), fields) for name, fields in CASES.items()} | {
    f"small: {name}": example for name, example in SMALL.items()
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_outputs_and_gradients_are_those_of_flax(name):
    size, fields = EXAMPLES[name]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *size, 4)), jnp.float32)
    variables = nn.Conv(**fields).init(jax.random.key(0), x)

    def value(conv):
        def loss(variables, x):
            y = jnp.tanh(conv(**fields).apply(variables, nn.relu(x)))
            return (y**2).sum(), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(variables, x)

    assert jax.tree.structure(Conv(**fields).init(jax.random.key(0), x)) == jax.tree.structure(variables)
    # on a CPU, XLA keeps float32 within a convolution of bfloat16; a sum over the taps of small images rounds
    tolerance = 0.02 if name == "small: bfloat16" else 1e-5
    for ours, theirs in zip(jax.tree.leaves(value(Conv)), jax.tree.leaves(value(nn.Conv)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(
            np.asarray(ours, np.float32),
            np.asarray(theirs, np.float32),
            rtol=tolerance,
            atol=tolerance * float(abs(theirs).max()),
        )


def test_other_platforms_get_the_plain_convolution():
    x, fields = jnp.ones((2, 8, 8, 4)), CASES["3x3"]
    variables = Conv(**fields).init(jax.random.key(0), x)
    gradient = jax.jit(jax.grad(lambda variables: (Conv(**fields).apply(variables, x) ** 2).sum()))
    lowered = {name: gradient.trace(variables).lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")}
    # the choice of the platform itself is a case of a constant, which compilers remove; this is the one that stays
    assert "stablehlo.compare" in lowered["cpu"] and "stablehlo.compare" not in lowered["cuda"]


def sizes(text: str) -> list[tuple[list[int], list[int]]]:
    """Returns the sizes of image and kernel of each convolution in a program of StableHLO."""
    found = []
    for axes, shapes in re.findall(r"dim_numbers = (\S.*?)->.*?: \((.*?)\) ->", text):
        pair = []
        for names, shape in zip(re.findall(r"\[(.*?)\]", axes), re.findall(r"tensor<(.*?)xf32>", shapes), strict=True):
            sides = dict(zip(names.split(", "), map(int, shape.split("x")), strict=True))
            pair.append([side for name, side in sorted(sides.items()) if name.isdigit()])
        found.append(tuple(pair))
    return found


@pytest.mark.parametrize("name", [name for name in SMALL if name not in ("bfloat16", "dilated", "depthwise")])
def test_no_image_is_smaller_than_its_kernel_on_a_cpu(name):
    """XLA convolves such images in a loop of scalars. Other platforms have the plain convolution and its gradients."""
    size, fields = SMALL[name]
    x, conv = jnp.ones((2, *size, 4)), Conv(**fields)
    variables = conv.init(jax.random.key(0), x)
    gradient = jax.jit(jax.grad(lambda variables, x: (conv.apply(variables, x) ** 2).sum(), argnums=(0, 1)))
    traced = gradient.trace(variables, x)
    found = {name: sizes(traced.lower(lowering_platforms=(name,)).as_text()) for name in ("cpu", "cuda")}
    assert len(found["cuda"]) == 3
    assert any(image < kernel for pair in found["cuda"] for image, kernel in zip(*pair, strict=True))
    assert not any(image < kernel for pair in found["cpu"] for image, kernel in zip(*pair, strict=True))


def test_a_kernel_that_became_nan_shows():
    x, fields = jnp.ones((1, 5, 5, 4)), CASES["3x3"]
    variables = jax.tree.map(lambda p: p * jnp.nan, Conv(**fields).init(jax.random.key(0), x))
    gradient = jax.grad(lambda variables: Conv(**fields).apply(variables, x).sum())(variables)
    assert bool(jnp.isnan(gradient["params"]["kernel"]).any())
