"""Residual branches and the trunk: order, drop path, layer scale, scan and rematerialisation."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.attention import SelfAttention
from arch.layers.feedforward import FeedForward
from arch.layers.mixer import Context
from arch.layers.norm import identity, layer_norm
from arch.layers.trunk import Block, Residual, Trunk

BATCH, LENGTH, WIDTH, DEPTH = 2, 5, 6, 4
X = jax.random.normal(jax.random.key(0), (BATCH, LENGTH, WIDTH))
CONTEXT = Context(jnp.arange(LENGTH)[None])
TRAIN = CONTEXT.replace(train=True)


class Double(nn.Module):
    """The sublayer 2 x + 1."""

    dtype: None = None

    def __call__(self, x, context, cache=None):
        return 2 * x + 1, cache


class Reads(nn.Module):
    """The sublayer that returns the position of each token plus the tokens that its cache has seen."""

    dtype: None = None

    def __call__(self, x, context, cache=None):
        seen = jnp.zeros((len(x), 1)) if cache is None else cache
        return jnp.broadcast_to(seen[..., None], x.shape), seen + x.shape[1]


def trunk(windows=(None, 2), depth=DEPTH, **fields) -> Trunk:
    """Returns a trunk whose kinds of blocks differ in their window."""
    residual = {"norm": functools.partial(layer_norm, epsilon=1e-5)}
    blocks = [
        functools.partial(
            Block,
            {
                "attention": functools.partial(SelfAttention, 2, causal=True, window=window),
                "feed_forward": functools.partial(FeedForward, 8, jnp.tanh),
            },
            residual,
        )
        for window in windows
    ]
    return Trunk(depth, tuple(blocks), **fields)


@functools.cache
def params() -> dict:
    rng = np.random.default_rng(0)
    drawn = jax.jit(trunk().init)(jax.random.key(0), X, CONTEXT)["params"]
    return jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), drawn)


def stacked(tree: dict, kinds: int = 2) -> dict:
    """Returns the parameters of an unrolled trunk as a scan expects them."""
    blocks = {}
    for kind in range(1, kinds + 1):
        turns = [tree[f"block{i}"] for i in range(kind, DEPTH + 1, kinds)]
        blocks[f"block{kind}"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *turns)
    return {"blocks": blocks} | {name: leaf for name, leaf in tree.items() if not name.startswith("block")}


def value_and_gradients(module: Trunk, params: dict):
    def loss(params, x):
        y, _ = module.apply({"params": params}, x, CONTEXT)
        return jnp.sum(jnp.sin(y)), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, X)
    return y, gradients


@functools.cache
def unrolled():
    return value_and_gradients(trunk(), params())


def close(a, b):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), a, b)


@pytest.mark.slow
@pytest.mark.parametrize("remat", [pytest.param(False, marks=pytest.mark.slow), True])
def test_scan_computes_the_unrolled_trunk(remat):
    y, (gradients, d_x) = unrolled()
    module = trunk(scan=True, remat=remat)
    expected = jax.eval_shape(module.init, jax.random.key(0), X, CONTEXT)["params"]
    assert jax.tree.map(jnp.shape, stacked(params())) == jax.tree.map(jnp.shape, expected)
    close(value_and_gradients(module, stacked(params())), (y, (stacked(gradients), d_x)))


@pytest.mark.slow
def test_remat_changes_no_number():
    close(value_and_gradients(trunk(remat=True), params()), unrolled())
    jaxpr = jax.make_jaxpr(lambda: trunk(remat=True).apply({"params": params()}, X, CONTEXT)[0])()
    assert sum(equation.primitive.name in ("remat2", "checkpoint", "remat") for equation in jaxpr.eqns) == DEPTH


def test_scan_captures_the_weights_of_every_block():
    def captured(module, params):
        apply = jax.jit(functools.partial(module.apply, mutable="intermediates"))
        return apply({"params": params}, X, CONTEXT)[1]["intermediates"]

    one, all_ = captured(trunk(), params()), captured(trunk(scan=True), stacked(params()))
    for i in range(DEPTH):
        weights = all_["blocks"][f"block{i % 2 + 1}"]["attention"]["layer"][SelfAttention.SOWN][0]
        assert weights.shape == (BATCH, DEPTH // 2, LENGTH, 2, LENGTH)  # [b, turns, t, heads, s]
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
        alone = one[f"block{i + 1}"]["attention"]["layer"][SelfAttention.SOWN][0]
        np.testing.assert_allclose(weights[:, i // 2], alone, atol=1e-5)


def test_scan_draws_other_parameters_and_dropout_for_each_block():
    module = trunk(scan=True)
    drawn = jax.jit(module.init)(jax.random.key(0), X, CONTEXT)["params"]["blocks"]["block1"]
    kernel = drawn["attention"]["layer"]["query"]["kernel"]
    assert kernel.shape == (DEPTH // 2, WIDTH, WIDTH) and np.abs(kernel[0] - kernel[1]).max() > 0.1
    block = functools.partial(Block, {"one": functools.partial(Constant)}, {"dropout": 0.5, "norm": identity})
    y, _ = Trunk(2, (block,), None, scan=True).apply({}, jnp.zeros((1, 64, 1)), TRAIN, rngs={"dropout": KEY})
    assert set(np.unique(y)) == {0, 2, 4}, "0 or 4 alone: both blocks drop the same"


KEY = jax.random.key(5)


class Constant(nn.Module):
    """The sublayer 1."""

    dtype: None = None

    def __call__(self, x, context, cache=None):
        return jnp.ones_like(x), None


def normalised(x: np.ndarray) -> np.ndarray:
    x = np.float64(x)
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def test_the_order_of_norm_and_branch():
    for order, expected in (
        ("pre", X + 2 * normalised(X) + 1),  # the sum takes x as it is
        ("post", normalised(3 * np.float64(X) + 1)),
    ):
        module = Residual(Double, order=order)
        variables = module.init(jax.random.key(0), X, None, CONTEXT)
        y, _ = module.apply(variables, X, None, CONTEXT)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_the_last_norm_follows_the_last_block():
    block = functools.partial(Block, {"double": Double}, {"norm": identity})
    for norm, expected in ((None, 9 * X + 4), (layer_norm, normalised(9 * np.float64(X) + 4))):
        y, _ = Trunk(2, (block,), norm).init_with_output(jax.random.key(0), X, CONTEXT)[0]
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_layer_scale_starts_as_asked_and_is_learned_per_channel():
    module = Residual(Double, norm=identity, layer_scale=1e-2)
    (y, _), variables = module.init_with_output(jax.random.key(0), X, None, CONTEXT)
    np.testing.assert_allclose(y, X + 0.01 * (2 * X + 1), rtol=1e-5)
    scale = jnp.arange(float(WIDTH))
    assert jax.tree.map(jnp.shape, variables["params"]) == {"layer_scale": (WIDTH,)}
    y, _ = module.apply({"params": {"layer_scale": scale}}, X, None, CONTEXT)
    np.testing.assert_allclose(y, X + scale * (2 * X + 1), rtol=1e-5)


def test_caches_reach_their_sublayers():
    block = functools.partial(Block, {"reads": Reads}, {"norm": identity})
    for scan in (False, True):
        module = Trunk(3, (block,), None, scan=scan)
        _, caches = module.apply({}, X, CONTEXT)
        y, caches = module.apply({}, jnp.zeros_like(X[:, :1]), CONTEXT, caches)
        np.testing.assert_array_equal(y, np.full((BATCH, 1, WIDTH), 3 * LENGTH))
        assert all((leaf == LENGTH + 1).all() and len(leaf) == BATCH for leaf in jax.tree.leaves(caches))


@pytest.mark.parametrize("scan", [False, True])
def test_drop_path_drops_complete_examples_at_a_rate_that_grows_by_layer(scan):
    """Block i adds 4^i at each of 3 rates 0, 0.2, 0.4; the digits of the sum tell which blocks an example had."""
    depth, last, examples = 3, 0.4, 6000
    module = Trunk(depth, (functools.partial(Block, {"one": Constant}, {"norm": identity}),), None, last, scan=scan)
    x = jnp.zeros((examples, 2, 1))
    y = jax.jit(lambda key: module.apply({}, x, TRAIN, rngs={"dropout": key})[0])(KEY)
    np.testing.assert_array_equal(y[:, 0], y[:, 1])
    rates = [0, last / 2, last]
    for kept_second in (0, 1):
        for kept_third in (0, 1):
            total = 1 + kept_second / (1 - rates[1]) + kept_third / (1 - rates[2])
            share = np.mean(np.isclose(y[:, 0, 0], total, atol=1e-3))
            expected = (rates[1], 1 - rates[1])[kept_second] * (rates[2], 1 - rates[2])[kept_third]
            assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / examples)
    assert abs(y.mean() - depth) < 5 * y[:, 0, 0].std() / np.sqrt(examples), "the expectation changed"
    np.testing.assert_array_equal(module.apply({}, x, CONTEXT)[0], np.full(x.shape, depth))


def test_a_depth_that_leaves_a_turn_incomplete_is_refused():
    with pytest.raises(ValueError, match="depth 3 is not a multiple of the 2 kinds of blocks"):
        jax.eval_shape(trunk(depth=3).init, jax.random.key(0), X, CONTEXT)
