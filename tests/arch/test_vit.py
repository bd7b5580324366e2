"""ViT: sizes, the way from the tokens to the head, positions of other resolutions, hybrids."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from arch.layers import grids
from arch.layers.positions import Positions, RelativeBias, Rotary, Sinusoids
from arch.resnet import CifarResNet
from arch.vit import ViT
from tests.arch.influence import disturbed

pytestmark = pytest.mark.slow

X = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))


def make(**fields) -> ViT:
    return ViT(**ViT.VARIANTS["test"] | {"dropout": 0.0} | fields)


def shapes(model, x) -> dict[str, tuple[int, ...]]:
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    return {path: leaf.shape for path, leaf in flatten_dict(variables["params"], sep="/").items()}


def count(model, x) -> int:
    return sum(map(math.prod, shapes(model, x).values()))


def test_numbers_of_parameters_at_another_resolution_and_of_the_parts():
    x, model = jnp.zeros((1, 384, 384, 3)), functools.partial(ViT, scan=True)
    base = count(model(), x)
    assert base == 86_859_496  # torchvision's and timm's
    assert count(model(head_width=768), x) == base + 768 * 768 + 768
    assert count(model(pool="mean"), x) == base - 2 * 768  # the class token and its position
    assert count(model(qkv_bias=False), x) == base - 12 * 3 * 768
    assert count(model(layer_scale=0.1), x) == base + 24 * 768
    attention = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768
    assert count(model(pool="map"), x) == base - 2 * 768 + 768 + attention + 2 * 768


@pytest.mark.parametrize(
    ("positions", "learned"),
    [
        (Positions, 0),
        (grids.LearnedGrid, (6 + 1) * 12),
        (grids.LearnedAxes, (2 + 3) * 6),
        (grids.SinusoidGrid, 0),
        (Sinusoids, 0),
        (Rotary, 0),
        (grids.RelativeGrid, 2 * 3 * (3 * 5 + 3)),
        (RelativeBias, 2 * 3 * 32),
    ],
)
def test_without_positions_the_order_of_the_patches_does_not_matter(positions, learned):
    """The class token reads the same from patches in any order, exactly if nothing tells it their places."""
    model = make(positions=positions)
    variables = disturbed(jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), X))
    place = [x.size for path, x in flatten_dict(variables["params"], sep="/").items() if "positions" in path]
    assert sum(place) == learned
    apply = jax.jit(functools.partial(model.apply, train=False))
    swapped = jnp.concatenate([X[:, 4:], X[:, :4]], axis=1)
    difference = np.abs(apply(variables, swapped) - apply(variables, X)).max()
    assert (difference < 1e-5) == (positions is Positions)


def test_learned_positions_are_resampled_and_other_parameters_are_not():
    old = np.random.default_rng(0).standard_normal((2, 8, 6)).astype(np.float32)
    new, path = jnp.zeros((4, 4, 6)), "positions/embedding"
    for kind in (grids.zoom, grids.bicubic, grids.bicubic_antialias):
        model = make(resampling=kind)
        np.testing.assert_array_equal(model.adapt(path, old, new), kind(old, (4, 4)))
    assert make().adapt(path, old, jnp.zeros((4, 4, 7))) is None
    assert make().adapt("class_token", old, new) is None


def test_the_head_behind_the_tanh_is_new_for_new_classes():
    names = {path.split("/")[0] for path in shapes(make(head_width=5), X)}
    assert {"head", "head_hidden"} < names


def test_a_hybrid_has_patches_of_the_last_feature_map():
    backbone = functools.partial(CifarResNet, depth=8, width=4)
    found = shapes(make(backbone=backbone, patch=(1, 1)), X)
    assert found["patches/kernel"] == (1, 1, 16, 12)
    assert found["positions/embedding"] == (2, 3, 12)
    assert any(path.startswith("backbone/") for path in found)


def test_padding_of_a_series_is_not_seen():
    """The end of the first series is inside a patch."""
    model = ViT(**ViT.VARIANTS["test"] | {"patch": (4,), "pool": "mean", "context": 12})
    series, lengths = jax.random.normal(jax.random.key(0), (2, 8, 2)), jnp.array([6, 8])
    variables = disturbed(jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), series, lengths))
    apply = jax.jit(functools.partial(model.apply, train=False))
    y, z = (apply(variables, x, lengths) for x in (series, series.at[0, 6:].set(9.0)))
    np.testing.assert_allclose(y, z, atol=1e-6)
    assert np.abs(y - apply(variables, series, jnp.array([8, 8])))[0].max() > 1e-3


def test_attention_pooling_reads_all_patches():
    model = make(pool="map")
    variables = disturbed(jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), X))
    gradient = jax.jit(jax.grad(lambda x: model.apply(variables, x, train=False).sum()))(X)
    assert (np.abs(gradient).reshape(2, 2, 4, 3, 4, 3).sum((2, 4, 5)) > 0).all()
