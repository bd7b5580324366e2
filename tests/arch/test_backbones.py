"""Networks of images whose stages are outputs, too: `features`, and the same arrays as intermediates."""

import functools
import inspect
import typing

import jax
import numpy as np
import pytest

from tests.arch.architectures import Tiny, architectures

BACKBONES = {
    name: architecture
    for name, architecture in architectures().items()
    if hasattr(architecture, "features")
    and typing.get_origin(inspect.signature(architecture.features).return_annotation) is dict
}


@functools.cache
def tiny(name: str) -> Tiny:
    return Tiny(BACKBONES[name])


def test_residual_and_plain_networks_are_backbones():
    assert {"resnet.CifarResNet", "resnet.ResNet", "resnet.WideResNet", "convnet.ConvNet"} <= set(BACKBONES)


@pytest.mark.parametrize("name", BACKBONES)
def test_features_are_the_captured_intermediates(name):
    model = tiny(name)

    @jax.jit
    def both(variables):
        features = model.model.apply(variables, *model.inputs, train=False, method="features")
        _, captured = model.model.apply(variables, *model.inputs, train=False, mutable=["intermediates"])
        return features, captured["intermediates"]

    features, captured = both(model.variables)
    assert list(features) == sorted(features) and "stage1" in features
    for stage, expected in features.items():
        (actual,) = captured[stage]
        np.testing.assert_array_equal(actual, expected)
    sizes = [x.shape[1] for x in features.values()]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < model.inputs[0].shape[1]


@pytest.mark.parametrize("name", BACKBONES)
def test_features_need_no_parameters_of_the_head(name):
    model = tiny(name).model
    init = functools.partial(model.init, train=False, method="features")
    variables = jax.eval_shape(init, jax.random.key(0), *tiny(name).inputs)
    assert "head" not in variables["params"]
    whole = tiny(name).shapes
    assert {*variables["params"], "head"} <= set(whole["params"])  # VGG has hidden layers between both
    assert "intermediates" not in whole
