"""The steps from ResNet-50 to ConvNeXt: their sizes, and the operations of figure 2 of arXiv 2201.03545."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from arch.convnext import ConvNeXt
from arch.layers.trunk import drop_examples
from experiments.convnext_ladder import SMALL, STEPS, ladder
from tests.arch.architectures import equations
from training import build

# figure 2: multiplications and additions as one operation, 224x224; the steps between change them little
GFLOPS = {"resnet": 4.1, "depthwise": 2.4, "width": 5.3, "inverted": 4.6, "moved_up": 4.1, "downsampling": 4.5}


def model(fields):
    return build.construct(ConfigDict({"name": "convnext.ConvNeXt", "num_classes": 1000, **fields}), "arch")


def images(size: int):
    return jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)


def multiplications(network) -> int:
    count = 0
    init = functools.partial(network.init, train=False)  # computes the logits, too
    for equation in equations(jax.make_jaxpr(init)(jax.random.key(0), images(224)).jaxpr):
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            count += math.prod(equation.outvars[0].aval.shape) * math.prod(kernel[:-1])
        elif equation.primitive.name == "dot_general":
            count += math.prod(equation.outvars[0].aval.shape) * equation.invars[1].aval.shape[0]
    return count


def parameters(network) -> int:
    shapes = jax.eval_shape(functools.partial(network.init, train=False), jax.random.key(0), images(32))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes["params"]))


@pytest.mark.slow
@pytest.mark.parametrize("row", GFLOPS)
def test_operations_are_those_of_figure_2(row):
    assert abs(multiplications(model(ladder(STEPS)[row])) / 1e9 - GFLOPS[row]) < 0.06


def test_the_ladder_leads_from_resnet_50_to_convnext_t():
    rows = ladder(STEPS)
    assert parameters(model(rows["resnet"] | {"layer_scale": None})) == 25_557_032
    last = model(rows["downsampling"])
    assert {f: getattr(last, f) for f in rows["resnet"]} == {f: getattr(ConvNeXt(), f) for f in rows["resnet"]}
    assert len({str(fields) for fields in ladder(STEPS, SMALL).values()}) == len(STEPS)


@pytest.mark.slow
def test_training_skips_examples_as_a_whole_and_more_often_deeper():
    x = drop_examples(jnp.ones((1000, 2, 3, 4)), 0.25, jax.random.key(0))
    assert ((x == 0) == (x[:, :1, :1, :1] == 0)).all() and 0.2 < float((x[:, 0, 0, 0] == 0).mean()) < 0.3
    np.testing.assert_allclose(x[x > 0], 4 / 3, rtol=1e-6)
    network = ConvNeXt(3, depths=(2, 1), width=4, patch=2, kernel=3, drop_path=0.4, layer_scale=1.0)
    batch = jnp.asarray(np.random.default_rng(0).standard_normal((64, 8, 8, 3), np.float32))
    variables = jax.jit(functools.partial(network.init, train=False))(jax.random.key(0), batch[:1])

    def stages(train):
        apply = functools.partial(network.apply, method="features", rngs={"dropout": jax.random.key(1)})
        return jax.jit(functools.partial(apply, train=train))(variables, batch)

    training, evaluation = stages(True), stages(False)
    changed = {name: ~np.isclose(training[name], evaluation[name]).all((1, 2, 3)) for name in training}
    assert changed["stage1"].all()  # the second block at a rate of 0.2: skipped or scaled up


def test_branches_start_at_a_millionth():
    network = ConvNeXt(3, depths=(1, 1), width=4, patch=2)
    init = jax.jit(functools.partial(network.init, train=False))
    params = init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))["params"]
    assert (params["stage2_block1"]["layer_scale"] == 1e-6).all() and network.norm(train=False).epsilon == 1e-6
