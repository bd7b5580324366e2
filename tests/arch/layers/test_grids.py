"""Positions on grids, and their resampling against scipy and against cubic kernels written out; PyTorch's and timm's
own functions are in tests/parity/test_images.py."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from arch.layers import grids
from arch.layers.grids import LearnedAxes, LearnedGrid, RelativeGrid, SinusoidGrid

WIDTH, GRID = 8, (2, 3)


def embed(module, others: int):
    count = math.prod(module.grid) + others
    x, places = jnp.zeros((1, count, WIDTH)), jnp.arange(count)[None]
    variables = module.init(jax.random.key(0), x, places, method="embed")
    return variables.get("params", {}), np.asarray(module.apply(variables, x, places, method="embed"))[0]


def test_a_learned_grid_has_one_vector_per_cell_and_per_other_token():
    params, y = embed(LearnedGrid(grid=GRID), 1)
    assert params["embedding"].shape == (*GRID, WIDTH)
    np.testing.assert_array_equal(y[0], params["others"][0])
    np.testing.assert_array_equal(y[1:].reshape(*GRID, WIDTH), params["embedding"])
    assert "others" not in embed(LearnedGrid(grid=GRID), 0)[0]


def test_learned_axes_are_side_by_side():
    params, y = embed(LearnedAxes(grid=GRID), 1)
    assert not y[0].any()
    for row in range(2):
        for column in range(3):
            expected = np.concatenate([params["axis1"][row], params["axis2"][column]])
            np.testing.assert_array_equal(y[1 + 3 * row + column], expected)
    with pytest.raises(ValueError, match="width of 8 cannot be split into 3"):
        embed(LearnedAxes(grid=(2, 2, 2)), 0)


def test_sinusoids_follow_simple_vit():
    _, y = embed(SinusoidGrid(grid=GRID), 1)
    assert not y[0].any()
    for row in range(2):
        for column in range(3):
            angles = [place / 10_000**i for place in (column, row) for i in (0, 1)]
            parts = [f(a) for pair in (angles[:2], angles[2:]) for f in (math.sin, math.cos) for a in pair]
            np.testing.assert_allclose(y[1 + 3 * row + column], parts, atol=1e-6)


def test_relative_biases_depend_on_the_difference_alone():
    module, heads = RelativeGrid(grid=GRID), 2
    places = jnp.arange(7)[None]
    variables = module.init(jax.random.key(0), places, places, heads, method="bias")
    (bias,) = np.asarray(module.apply(variables, places, places, heads, method="bias"))
    found = {}
    for i, (a, b) in enumerate(np.ndindex(GRID)):
        for j, (c, d) in enumerate(np.ndindex(GRID)):
            expected = found.setdefault((a - c, b - d), bias[:, 1 + i, 1 + j])
            np.testing.assert_array_equal(bias[:, 1 + i, 1 + j], expected)
    assert len(found) == 3 * 5 and len({tuple(x) for x in found.values()}) == 15
    others = [bias[:, 0, 0], bias[:, 0, 1], bias[:, 1, 0]]
    assert len({tuple(x) for x in others}) == 3
    assert (bias[:, 0, 1:] == bias[:, 0, 1:2]).all() and (bias[:, 1:, 0] == bias[:, 1:2, 0]).all()


KINDS = [grids.zoom, grids.bicubic, grids.bicubic_antialias]
PAIRS = [((4, 4), (7, 7)), ((5, 3), (2, 6)), ((2, 8), (4, 4)), ((3,), (5,)), ((2, 3, 4), (3, 3, 2))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_resampling_gives_the_new_grid_and_keeps_constants(kind, old, new):
    table = np.random.default_rng(0).standard_normal((*old, WIDTH)).astype(np.float32)
    result = kind(table, new)
    assert result.shape == (*new, WIDTH) and result.dtype == np.float32
    np.testing.assert_array_equal(kind(table, old), table)
    np.testing.assert_allclose(kind(np.ones_like(table), new), 1, atol=1e-6)
    flat = table.reshape(-1, WIDTH)
    assert len(flat) != math.prod(new) or np.abs(result.reshape(-1, WIDTH) - flat).max() > 0.1


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_zoom_is_that_of_scipy(old, new):
    table = np.random.default_rng(0).standard_normal((*old, WIDTH))
    factors = [b / a for a, b in zip(old, new, strict=True)]
    np.testing.assert_allclose(grids.zoom(table, new), scipy.ndimage.zoom(table, (*factors, 1), order=1), atol=1e-9)


def keys(x: float, a: float) -> float:
    """Cubic convolution as Keys (1981) writes it, with |x| = x: (a + 2) x^3 - (a + 3) x^2 + 1, then a (x^3 - ...)."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


@pytest.mark.parametrize(("old", "new"), [(4, 7), (7, 3), (5, 4)])
def test_cubic_kernels_written_out(old, new):
    row, scale = np.random.default_rng(0).standard_normal(old), old / new
    for i in range(new):
        place = (i + 0.5) * scale - 0.5
        near = math.floor(place)
        plain = sum(row[min(max(j, 0), old - 1)] * keys(place - j, -0.75) for j in range(near - 1, near + 3))
        np.testing.assert_allclose(grids.bicubic(row[:, None], (new,))[i, 0], plain, atol=1e-9)
        weights = [keys((place - j) / max(scale, 1), -0.5) for j in range(old)]
        expected = np.dot(weights, row) / sum(weights)
        np.testing.assert_allclose(grids.bicubic_antialias(row[:, None], (new,))[i, 0], expected, atol=1e-9)
