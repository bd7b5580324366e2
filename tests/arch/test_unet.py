"""U-Net: sizes, margins, skips, and up-convolutions against flax; published numbers of parameters."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from arch.layers.norm import identity
from arch.unet import Convolutions, UNet, UNet3D, UpConvolution

pytestmark = pytest.mark.slow

SMALL = {"num_classes": 2, "width": 4, "depth": 2, "dropout": 0.0}


def shapes(model, *shape):
    init = functools.partial(model.init, train=False)
    return flatten_dict(jax.eval_shape(init, jax.random.key(0), jnp.zeros(shape))["params"], sep="/")


def count(model, *shape):
    return sum(leaf.size for leaf in shapes(model, *shape).values())


def test_published_numbers_of_parameters_of_other_variants():
    assert count(UNet(**UNet.VARIANTS["padded"]), 1, 16, 16, 3) == 31_037_698  # milesial/Pytorch-UNet
    assert count(UNet3D(norm=identity), 1, 4, 4, 4, 3) == 19_069_955  # arXiv 1606.06650, section 2
    widths = [
        shapes(UNet3D(), 1, 4, 4, 4, 3)[f"down{i}/conv{j}/kernel"].shape[-1] for i in (1, 2, 3, 4) for j in (1, 2)
    ]
    assert widths == [32, 64, 64, 128, 128, 256, 256, 512]  # figure 2


def test_sizes_of_the_papers():
    assert UNet().input_size(388) == 572  # arXiv 1505.04597, figure 1
    assert UNet3D().input_size(44) == 132 and UNet3D().input_size(28) == 116  # arXiv 1606.06650, figure 2
    assert [UNet(padding="SAME").input_size(size) for size in (1, 16, 17)] == [16, 16, 32]


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_any_size_gives_a_result_of_this_size(padding):
    for model, shape in ((UNet(padding=padding, **SMALL), (1, 7, 10, 3)), (UNet3D(padding=padding), (1, 3, 6, 5, 1))):
        outputs = jax.eval_shape(
            lambda x, model=model: model.init_with_output(jax.random.key(0), x, train=False)[0], jnp.zeros(shape)
        )
        assert outputs.shape == (*shape[:-1], model.num_classes)


def test_valid_convolutions_see_the_mirror_image_outside():
    """The result of an image is the middle of the result of its own mirrored extension."""
    model, size = UNet(**SMALL), 12
    margin = (model.input_size(size) - size) // 2
    images = jax.random.normal(jax.random.key(1), (1, size, size, 1))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)
    wide = np.pad(np.asarray(images), ((0, 0), (32, 32), (32, 32), (0, 0)), mode="reflect")
    assert margin <= 32 and (model.input_size(wide.shape[1]) - wide.shape[1]) // 2 == margin  # same phase
    apply = jax.jit(functools.partial(model.apply, train=False))
    np.testing.assert_allclose(
        apply(variables, wide)[:, 32 : 32 + size, 32 : 32 + size], apply(variables, images), atol=1e-4
    )


def test_without_skips_the_expanding_path_reads_half_of_the_channels():
    with_, without = (shapes(UNet(skips=skips, **SMALL), 1, 8, 8, 3) for skips in (True, False))
    changed = {path for path in with_ if with_[path].shape != without[path].shape}
    assert changed == {"expand1/conv1/kernel", "expand2/conv1/kernel"}
    assert with_["expand1/conv1/kernel"].shape == (3, 3, 8, 4) and without["expand1/conv1/kernel"].shape == (3, 3, 4, 4)


@pytest.mark.parametrize("rank", [2, 3])
def test_weights_start_with_the_deviation_of_the_paper(rank):
    """sqrt(2 / N) with N inputs of each output (Ronneberger 2015, section 3); an up-convolution reads one position."""
    x = jnp.zeros((1, *(4,) * rank, 128))
    for layer, inputs in (
        (UpConvolution(64), 128),
        (Convolutions((64, 64), "SAME", identity, nn.relu, True, nn.initializers.he_normal(), None), 128 * 3**rank),
    ):
        train = (False,) if isinstance(layer, Convolutions) else ()
        params = layer.init(jax.random.key(0), x, *train)["params"]
        kernel = params.get("kernel", params.get("conv1", {}).get("kernel"))
        assert np.std(kernel) == pytest.approx((2 / inputs) ** 0.5, rel=0.03)


@pytest.mark.parametrize("rank", [2, 3])
def test_up_convolution_is_a_transposed_convolution(rank):
    x = jax.random.normal(jax.random.key(0), (2, *(3, 4, 5)[:rank], 6))
    variables = UpConvolution(7).init(jax.random.key(1), x)
    kernel = jnp.moveaxis(variables["params"]["kernel"], 0, -2)  # flax has windows first, and mirrors nothing
    plain = nn.ConvTranspose(7, (2,) * rank, (2,) * rank, transpose_kernel=False)
    expected = plain.apply({"params": {"kernel": kernel, "bias": jnp.zeros(7)}}, x)
    actual = UpConvolution(7).apply(variables, x)
    flipped = plain.apply({"params": {"kernel": jnp.flip(kernel, range(rank)), "bias": jnp.zeros(7)}}, x)
    assert min(np.abs(actual - each).max() for each in (expected, flipped)) < 1e-4
