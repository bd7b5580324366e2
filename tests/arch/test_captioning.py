"""Show, attend and tell: equations."""

import functools

import jax
import numpy as np
import pytest

from arch.captioning import ShowAttendTell
from arch.convnet import ConvNet
from arch.layers.norm import layer_norm
from arch.layers.recurrent import GRU
from arch.resnet import CifarResNet

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
IMAGE = jax.random.normal(KEY, (2, 8, 8, 3))
TEXT = jax.random.randint(KEY, (2, 5), 0, 9)
BACKBONE = functools.partial(ConvNet, widths=(3, 4), norm=layer_norm)


@functools.cache
def model_and_variables(**fields):
    sizes = {"num_classes": 9, "width": 6, "embedding_width": 5, "attention_units": 7}
    model = ShowAttendTell(**{"backbone": BACKBONE} | sizes | fields)
    variables = jax.jit(functools.partial(model.init, train=False))(KEY, IMAGE, TEXT)
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, p.dtype), variables)


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_equations():
    """arXiv 1502.03044, sec. 3.1.2, 4.2 and eq. 7; the attention's weights are sown."""
    model, variables = model_and_variables()
    logits = model.apply(variables, IMAGE, TEXT, train=False)
    _, sown = model.apply(variables, IMAGE, TEXT, train=False, mutable=["intermediates"])
    (weights,) = sown["intermediates"]["decoder"]["attention"]
    params = jax.tree.map(np.asarray, variables["params"])
    decoder, attend = params["decoder"], params["decoder"]["attend"]
    lstm = decoder["stack"]["layer1_forward"]
    backbone = {"params": variables["params"]["image_network"]}
    features = BACKBONE().apply(backbone, IMAGE, train=False, method="features")["stage2"]
    places = np.asarray(features).reshape(2, 16, 4)
    h, c = (np.tanh(dense(params["bridge"][f"layer1_{part}"], places.mean(1))) for part in "hc")
    keys = dense(attend["key"], places)
    for t, tokens in enumerate(TEXT.T):
        scores = np.tanh(keys + (h @ attend["query"]["kernel"])[:, None]) @ attend["vector"]
        alpha = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        z = sigmoid(dense(decoder["gate"], h)) * (alpha[..., None] * places).sum(1)
        y = params["embedding"]["embedding"][tokens]
        pre = np.concatenate([y, z], -1) @ lstm["input_kernel"] + h @ lstm["recurrent_kernel"] + lstm["bias"]
        i, f, g, o = np.split(pre, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        expected = dense(params["head"], y + dense(params["deep_output"], np.concatenate([h, z], -1)))
        np.testing.assert_allclose(logits[:, t], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(weights[:, t], alpha, rtol=1e-3, atol=1e-5)


def test_the_cell_is_a_field():
    model, variables = model_and_variables(cell=GRU)
    assert set(variables["params"]["bridge"]) == {"layer1_h"}
    assert jax.eval_shape(lambda: model.apply(variables, IMAGE, TEXT, train=False)).shape == (2, 5, 9)


def test_the_backbone_is_a_field():
    """Its head has no parameters here, and its last stage is what the decoder attends to."""
    model, variables = model_and_variables(backbone=functools.partial(CifarResNet, depth=8, width=4))
    assert {"stem_conv", "stage3_block1"} <= set(variables["params"]["image_network"])
    assert "head" not in variables["params"]["image_network"]
    assert variables["params"]["decoder"]["attend"]["key"]["kernel"].shape == (16, 7)
    assert jax.eval_shape(lambda: model.apply(variables, IMAGE, TEXT, train=False)).shape == (2, 5, 9)
