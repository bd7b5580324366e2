"""Segmenter: its decoders and the upsampling, against PyTorch's rule and the paper's equations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.segmenter import LinearDecoder, MaskDecoder, Segmenter, enlarged
from arch.vit import ViT


def interpolated(x, size):
    """Returns x interpolated along its first axis: output i lies at (i + 1/2) / factor - 1/2, cut off at the ends."""
    places = np.clip((np.arange(size) + 0.5) * len(x) / size - 0.5, 0, len(x) - 1)
    return np.stack([np.interp(places, np.arange(len(x)), column) for column in x.T], -1)


@pytest.mark.parametrize("factor", [1, 2, 5, 16])
def test_upsampling_is_bilinear(factor):
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(enlarged(jnp.asarray(x), 0, 4 * factor), interpolated(x, 4 * factor), atol=1e-5)
    np.testing.assert_allclose(enlarged(jnp.asarray(x.T), 1, 4 * factor), interpolated(x, 4 * factor).T, atol=1e-5)


def test_features_must_divide_the_image():
    with pytest.raises(ValueError, match="4 positions do not divide an image of 10"):
        enlarged(jnp.zeros((4, 3)), 0, 10)


def test_masks_are_products_of_unit_vectors_normalised_over_the_classes():
    decoder = MaskDecoder(5, depth=1, heads=2, dropout=0.0)
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 8))
    variables = jax.jit(partial(decoder.init, train=False))(jax.random.key(1), x)
    masks, gradient = jax.jit(
        lambda variables: (
            decoder.apply(variables, x, train=False),
            jax.grad(lambda v: jnp.sum(decoder.apply(v, x, train=False) ** 3))(variables),
        )
    )(variables)
    assert masks.shape == (2, 3, 4, 5)
    np.testing.assert_allclose(masks.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(masks.var(-1), 1, atol=0.05)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        if [part.key for part in path][-2:] != ["key", "bias"]:  # adds the same number to all scores of a query
            assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
    assert variables["params"]["head_embedding"].shape == (1, 5, 8)


@pytest.mark.parametrize("decoder", [LinearDecoder, MaskDecoder])
def test_any_grid_of_patches(decoder):
    model = Segmenter(4, partial(ViT, patch=(4, 2), depth=1, width=8, heads=2, pool="mean"), decoder)
    images = jnp.zeros((2, 8, 12, 3))
    outputs, variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), images)
    assert outputs.shape == (2, 8, 12, 4)
    assert "head" not in variables["params"]["image_network"]
