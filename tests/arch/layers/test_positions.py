"""Positions against their published formulas, written out with loops in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.positions import ALiBi, Learned, Positions, RelativeBias, Rotary, Sinusoids

pytestmark = pytest.mark.slow

WIDTH, LENGTH = 8, 12
PLACES = jnp.arange(LENGTH)[None]


@pytest.mark.parametrize("interleaved", [True, False])
def test_sinusoids_follow_the_formula(interleaved):
    expected = np.zeros((LENGTH, WIDTH))
    for position in range(LENGTH):
        for i in range(WIDTH // 2):  # section 3.5 of arXiv 1706.03762
            angle = position / 10_000 ** (2 * i / WIDTH)
            sin, cos = (2 * i, 2 * i + 1) if interleaved else (i, WIDTH // 2 + i)
            expected[position, sin], expected[position, cos] = math.sin(angle), math.cos(angle)
    x = jnp.ones((2, LENGTH, WIDTH))
    embedded = Sinusoids(interleaved=interleaved).apply({}, x, PLACES, method="embed")
    np.testing.assert_allclose(embedded, 1 + np.stack([expected] * 2), atol=1e-6)


def test_learned_positions_are_rows_of_a_table():
    module, x, places = Learned(length=5), jnp.ones((2, 3, WIDTH)), jnp.array([[0, 1, 2], [4, 2, 0]])
    variables = module.init(jax.random.key(0), x, places, method="embed")
    table = variables["params"]["embedding"]
    assert table.shape == (5, WIDTH)
    embedded = module.apply(variables, x, places, method="embed")
    np.testing.assert_allclose(embedded, 1 + np.asarray(table)[np.asarray(places)], atol=1e-6)
    with pytest.raises(ValueError, match="Learned needs a number of positions"):
        Learned().init(jax.random.key(0), x, places, method="embed")


ROTATIONS = {
    "halves": Rotary(),
    "neighbours": Rotary(interleaved=True),
    "partial": Rotary(width=4),
    "partial neighbours": Rotary(width=4, interleaved=True),
    "long": Rotary(base=5e5, scaling=(8.0, 1.0, 4.0, 32)),
}


def frequency(i: int, width: int, module: Rotary) -> float:
    """Returns radians per position of pair i; with the scaling of Llama 3.1 (`apply_scaling` of its `model.py`)."""
    result = module.base ** (-2 * i / width)
    if module.scaling is None:
        return result
    factor, low, high, original = module.scaling
    wavelength = 2 * math.pi / result
    if wavelength < original / high:
        return result
    if wavelength > original / low:
        return result / factor
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * result / factor + smooth * result


@pytest.mark.parametrize("name", ROTATIONS)
def test_rotary_positions_turn_pairs_of_features(name):
    module, x = ROTATIONS[name], np.asarray(jax.random.normal(jax.random.key(0), (1, 2, LENGTH, WIDTH)))
    width = module.width or WIDTH
    expected = x.astype(np.float64)
    for head, position, i in np.ndindex(2, LENGTH, width // 2):
        first, second = (2 * i, 2 * i + 1) if module.interleaved else (i, width // 2 + i)
        angle = position * frequency(i, width, module)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        expected[0, head, position, [first, second]] = turn @ x[0, head, position, [first, second]]
    rotated = module.apply({}, x, PLACES, method="rotate")
    np.testing.assert_allclose(rotated, expected, atol=1e-5)


def test_the_scaled_frequencies_have_kept_interpolated_and_stretched_ones():
    module = Rotary(base=5e5, scaling=(8.0, 1.0, 4.0, 8192))
    ratios = [frequency(i, 128, module) / frequency(i, 128, Rotary(base=5e5)) for i in range(64)]
    assert ratios[0] == 1 and ratios[-1] == 1 / 8 and any(1 / 8 < ratio < 1 for ratio in ratios)
    plain = 5e5 ** -(np.arange(0, 128, 2) / 128)
    np.testing.assert_allclose(module._frequencies(128), plain * ratios, rtol=1e-12)


@pytest.mark.parametrize("name", ROTATIONS)
def test_rotary_scores_depend_on_the_distance_alone(name):
    q, k = (jax.random.normal(jax.random.key(seed), (WIDTH,)) for seed in (0, 1))
    places = jnp.arange(LENGTH)

    def rotated(x):
        return ROTATIONS[name].apply({}, jnp.tile(x, (1, 1, LENGTH, 1)), places[None], method="rotate")[0, 0]

    scores = np.asarray(rotated(q) @ rotated(k).T)
    for distance in range(-LENGTH + 1, LENGTH):
        diagonal = np.diagonal(scores, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-5)
    assert np.ptp(scores[0]) > 0.1


PUBLISHED_SLOPES = {  # arXiv 2108.12409, section 3, and `get_slopes` of its code
    8: [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256],
    12: [2.0**-i for i in (*range(1, 9), 0.5, 1.5, 2.5, 3.5)],
}


@pytest.mark.parametrize("heads", PUBLISHED_SLOPES)
def test_alibi_falls_at_the_published_slopes(heads):
    queries, keys = jnp.array([[3, 4, 9]]), jnp.arange(10)[None]
    bias = ALiBi().apply({}, queries, keys, heads, method="bias")
    assert bias.shape == (1, heads, 3, 10)
    for head, slope in enumerate(PUBLISHED_SLOPES[heads]):
        for i, query in enumerate((3, 4, 9)):
            expected = [-slope * (query - key) for key in range(query + 1)]
            np.testing.assert_allclose(bias[0, head, i, : query + 1], expected, rtol=1e-6)


def t5_bucket(distance: int, *, buckets: int, farthest: int, causal: bool) -> int:
    """Returns the bucket of key - query, as T5 documents it: half of a direction's buckets are exact, the other half
    grow logarithmically up to the farthest distance."""
    if not causal:
        buckets //= 2
    start = buckets if distance > 0 and not causal else 0
    size = max(-distance, 0) if causal else abs(distance)
    exact = buckets // 2
    if size < exact:
        return start + size
    share = math.log(size / exact) / math.log(farthest / exact)
    return start + min(exact + math.floor(round(share * (buckets - exact), 9)), buckets - 1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (8, 20)])
def test_relative_buckets_are_those_of_t5(causal, buckets, farthest):
    module = RelativeBias(buckets=buckets, farthest=farthest, causal=causal)
    distances = np.arange(-300, 301)
    expected = [t5_bucket(int(d), buckets=buckets, farthest=farthest, causal=causal) for d in distances]
    np.testing.assert_array_equal(module._bucket(jnp.asarray(distances)[None, None])[0, 0], expected)
    assert set(expected) == set(range(buckets)) if causal else len(set(expected)) == buckets - 1


def test_known_relative_buckets_of_t5():
    """Its default has 32 buckets for both directions: 8 exact ones each way."""
    known = {0: 0, -1: 1, -7: 7, -8: 8, -11: 8, -12: 9, -16: 10, -32: 12, -64: 14, -127: 15, -5000: 15, 1: 17, 128: 31}
    buckets = RelativeBias()._bucket(jnp.array([[list(known)]]))[0, 0]
    np.testing.assert_array_equal(buckets, list(known.values()))


def test_the_relative_bias_is_looked_up_per_head():
    module, places = RelativeBias(buckets=8, farthest=16), jnp.arange(4)[None]
    variables = module.init(jax.random.key(0), places, places, 3, method="bias")
    table, bias = variables["params"]["bias"], module.apply(variables, places, places, 3, method="bias")
    assert bias.shape == (1, 3, 4, 4)
    for head, query, key in np.ndindex(3, 4, 4):
        bucket = t5_bucket(key - query, buckets=8, farthest=16, causal=False)
        assert bias[0, head, query, key] == table[bucket, head]


def test_the_base_class_knows_no_positions():
    x, places = jnp.ones((1, 2, LENGTH, WIDTH)), PLACES
    module = Positions()
    np.testing.assert_array_equal(module.apply({}, x, places, method="rotate"), x)
    np.testing.assert_array_equal(module.apply({}, x[:, 0], places, method="embed"), x[:, 0])
    assert module.apply({}, places, places, 2, method="bias") is None
