"""Residual networks: shortcuts, plain networks, depths, blocks."""

import functools
import math

import flax.linen as nn
import jax
import numpy as np
import pytest

from arch.layers import norm
from arch.resnet import (
    BasicBlock,
    Block,
    BottleneckBlock,
    CifarResNet,
    Layers,
    PreActivationBlock,
    PreActivationBottleneck,
    ResNet,
    WideResNet,
)

pytestmark = pytest.mark.slow

IMAGES = jax.random.uniform(jax.random.key(0), (4, 8, 8, 1))


def parameters(model: nn.Module) -> dict[str, tuple[int, ...]]:
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), IMAGES)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(variables["params"])}


def count(model: nn.Module) -> int:
    return sum(math.prod(shape) for shape in parameters(model).values())


def outputs(model: nn.Module, train: bool = False):
    @jax.jit
    def run(images):
        variables = model.init(jax.random.key(0), images, train=False)
        mutable = ["batch_stats"] if train else False
        return model.apply(variables, images, train=train, mutable=mutable, rngs={"dropout": jax.random.key(1)})

    return run(IMAGES)[0] if train else run(IMAGES)


@pytest.mark.parametrize(
    ("model", "nearest"),
    [
        (CifarResNet(depth=21), "20"),
        (CifarResNet(depth=1), "8"),
        (CifarResNet(depth=163, block=BottleneckBlock), "164"),
        (WideResNet(depth=29), "28"),
    ],
)
def test_an_impossible_depth_names_the_nearest(model, nearest):
    with pytest.raises(ValueError, match=rf"depth={model.depth} .* nearest is {nearest}\b"):
        parameters(model)


def test_an_unknown_shortcut_is_refused():
    with pytest.raises(ValueError, match="shortcut='D'"):
        parameters(CifarResNet(depth=8, shortcut="D"))


@pytest.mark.parametrize("block", [BasicBlock, PreActivationBlock])
def test_projections_are_where_the_option_says(block):
    def projections(option: str) -> int:
        return sum("shortcut_conv" in path for path in parameters(CifarResNet(depth=14, block=block, shortcut=option)))

    assert [projections(option) for option in ("none", "A", "B", "C")] == [0, 0, 2, 6]


@pytest.mark.parametrize("block", [BasicBlock, PreActivationBlock])
def test_a_plain_network_has_the_same_parameters_and_other_outputs(block):
    plain, residual = (CifarResNet(depth=8, width=4, block=block, shortcut=option) for option in ("none", "A"))
    assert parameters(plain) == parameters(residual)
    assert np.abs(outputs(plain) - outputs(residual)).max() > 1e-3


@pytest.mark.parametrize("block", [BasicBlock, PreActivationBlock])
@pytest.mark.parametrize("shortcut", ["A", "none"])
def test_with_zero_init_only_the_shortcut_is_left(block, shortcut):
    """Then stem, shortcuts and head alone make the output: the stages' kernels do not matter."""
    model = CifarResNet(depth=8, width=4, block=block, shortcut=shortcut, zero_init=True)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), IMAGES)
    scaled = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 3 * leaf if "stage" in jax.tree_util.keystr(path) else leaf, variables
    )
    apply = jax.jit(functools.partial(model.apply, train=False))
    before, after = apply(variables, IMAGES), apply(scaled, IMAGES)
    np.testing.assert_array_equal(before, after)
    assert (np.abs(np.diff(before, axis=0)).max() > 1e-3) == (shortcut == "A")


def test_option_a_subsamples_and_pads_with_zero_channels():
    layers = Layers(
        conv=lambda features, kernel, stride: nn.Conv(
            features, (kernel, kernel), stride, padding=kernel // 2, kernel_init=nn.initializers.zeros
        ),
        norm=functools.partial(norm.identity, train=False),
        activation=nn.relu,
        dropout=functools.partial(nn.Dropout, 0.0, deterministic=True),
    )
    block = BasicBlock(width=6, stride=2, layers=layers)
    y, _ = block.init_with_output(jax.random.key(0), IMAGES)
    np.testing.assert_array_equal(y[..., :1], IMAGES[:, ::2, ::2])
    assert y.shape == (4, 4, 4, 6) and not y[..., 1:].any()


@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
@pytest.mark.parametrize("block", [BottleneckBlock, PreActivationBottleneck])
def test_every_combination_computes_bottlenecks_too(block, shortcut):
    model = CifarResNet(depth=11, width=2, block=block, shortcut=shortcut)
    assert jax.eval_shape(lambda: outputs(model)).shape == (4, 10)


def test_norm_is_a_field():
    groups = functools.partial(norm.group_norm, groups=2)
    counts = [count(CifarResNet(depth=8, width=4, norm=n)) for n in (norm.batch_norm, norm.layer_norm, groups)]
    assert len(set(counts)) == 1
    assert count(CifarResNet(depth=8, width=4, norm=norm.identity)) == counts[0] - 2 * (4 + 2 * (4 + 8 + 16))


def test_a_batch_normalised_network_does_not_see_the_scale_of_its_kernels():
    """He et al. 2015, sec. 3.4: every convolution is normalised, so that only the head's scale is left."""
    model = CifarResNet(depth=8, width=4)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), IMAGES)
    doubled = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 2 * leaf if "conv" in jax.tree_util.keystr(path).lower() else leaf, variables
    )
    apply = jax.jit(lambda v: model.apply(v, IMAGES, train=True, mutable=["batch_stats"])[0])
    np.testing.assert_allclose(apply(variables), apply(doubled), atol=2e-3)


def test_digits_go_through_an_imagenet_network():
    assert jax.eval_shape(lambda: outputs(ResNet(**ResNet.VARIANTS["18"], num_classes=10), train=True)).shape == (4, 10)


class Squeezed(Block):
    """A block of one's own: three convolutions, the middle one narrow."""

    convolutions = 3

    @nn.compact
    def __call__(self, x):
        y = self.activation(self.norm()(self.conv(self.width, 3, self.stride)(x)))
        y = self.activation(self.norm()(self.conv(self.width // 2, 1)(y)))
        y = self.norm(last=True)(self.conv(self.width, 3)(self.dropout()(y)))
        return self.activation(y + self.shortcut(x, self.width))


def test_a_block_of_ones_own():
    model = CifarResNet(depth=11, width=4, block=Squeezed, shortcut="B", dropout=0.1)
    assert jax.eval_shape(lambda: outputs(model, train=True)).shape == (4, 10)
    kernels = [shape for path, shape in parameters(model).items() if "stage3_block1" in path and "kernel" in path]
    assert sorted(kernels) == [(1, 1, 8, 16), (1, 1, 16, 8), (3, 3, 8, 16), (3, 3, 8, 16)]
