"""Dense networks."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers import norm
from arch.mlp import MLP, TabularResNet

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


def test_any_input_is_flattened():
    images = jax.random.normal(KEY, (3, 4, 4, 2))
    model = MLP(num_classes=5, widths=(7,))
    variables = model.init(KEY, images, train=False)
    assert variables["params"]["Dense_0"]["kernel"].shape == (32, 7)
    np.testing.assert_array_equal(
        model.apply(variables, images, train=False), model.apply(variables, images.reshape(3, 32), train=False)
    )


@pytest.mark.parametrize("architecture", [MLP, TabularResNet])
def test_a_regression_has_one_column(architecture):
    features = jnp.ones((3, 4))
    assert architecture(num_classes=1).init_with_output(KEY, features, train=False)[0].shape == (3, 1)


def test_the_equation_of_the_mlp():
    x = jax.random.normal(KEY, (3, 4))
    model = MLP(num_classes=2, widths=(4, 5), activation=nn.tanh, residual=True)
    outputs, variables = model.init_with_output(KEY, x, train=False)
    first, second, head = (variables["params"][name] for name in ("Dense_0", "Dense_1", "head"))
    hidden = x + np.tanh(x @ first["kernel"] + first["bias"])  # 4 -> 4: a residual; 4 -> 5: none
    hidden = np.tanh(hidden @ second["kernel"] + second["bias"])
    np.testing.assert_allclose(outputs, hidden @ head["kernel"] + head["bias"], rtol=1e-5, atol=1e-5)


def test_without_hidden_layers_it_is_linear():
    outputs, variables = MLP(num_classes=2, widths=()).init_with_output(KEY, jnp.eye(3), train=False)
    np.testing.assert_allclose(outputs, variables["params"]["head"]["kernel"], rtol=1e-6)


@pytest.mark.parametrize(
    ("normalise", "leaves"),
    [
        (norm.identity, 0),
        (norm.layer_norm, 2),
        (norm.batch_norm, 2),
        (functools.partial(norm.group_norm, groups=2), 2),
    ],
)
def test_norm_is_a_field(normalise, leaves):
    variables = MLP(widths=(4,), norm=normalise).init(KEY, jnp.ones((2, 3)), train=False)
    assert len(jax.tree.leaves(variables["params"])) == 4 + leaves


def test_the_equation_of_the_tabular_resnet():
    """arXiv 2106.11959, sec. 3.2, with the statistics of an untrained network: mean 0, variance 1."""
    x = jax.random.normal(KEY, (3, 4))
    model = TabularResNet(num_classes=2, num_blocks=1, width=6, hidden_factor=1.5)
    outputs, variables = model.init_with_output(KEY, x, train=False)
    params = variables["params"]
    block = params["TabularResNetBlock_0"]
    assert block["Dense_0"]["kernel"].shape == (6, 9)
    scale = 1 / np.sqrt(1 + 1e-5)
    x = x @ params["Dense_0"]["kernel"]
    x = x + np.maximum(scale * x @ block["Dense_0"]["kernel"], 0) @ block["Dense_1"]["kernel"]
    np.testing.assert_allclose(outputs, np.maximum(scale * x, 0) @ params["head"]["kernel"], rtol=1e-4, atol=1e-5)
