"""Patches of inputs with one to three axes, and padding of texts and series, in every network of patches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from arch.gmlp import GMLP, SpatialGate
from arch.layers.patches import Patches
from arch.mixer import Mixer
from arch.vit import ViT
from core.errors import UserError
from tests.arch.influence import disturbed

NETWORKS = {
    cls.__name__: functools.partial(cls, **cls.VARIANTS["test"] | {"dropout": 0.0}) for cls in (ViT, Mixer, GMLP)
}


@pytest.mark.parametrize(("space", "size"), [((6,), (2,)), ((6, 8), (3, 2)), ((4, 6, 8), (2, 3, 4))], ids=str)
def test_patches_are_a_strided_convolution(space, size):
    x = jax.random.normal(jax.random.key(0), (2, *space, 3))
    module = Patches(5, size)
    params = module.init(jax.random.key(1), x)["params"] | {"bias": jnp.arange(5.0)}
    letters = "DHW"[-len(space) :]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    expected = lax.conv_general_dilated(x, params["kernel"], size, "VALID", dimension_numbers=numbers) + jnp.arange(5.0)
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, atol=1e-4)


def test_inputs_that_patches_do_not_fill_are_refused():
    with pytest.raises(UserError, match="input of 6 x 8 cannot be cut into patches of 4 x 4"):
        jax.eval_shape(Patches(5, (4, 4)).init, jax.random.key(0), jnp.zeros((1, 6, 8, 3)))


INPUTS = {
    "series": ((2, 12, 5), (3,), (4,)),
    "spectrogram": ((2, 8, 12), (4, 4), (2, 3)),
    "video": ((2, 4, 8, 8, 3), (2, 4, 4), (2, 2, 2)),
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_one_trunk_takes_inputs_of_any_number_of_axes(name, kind):
    shape, patch, grid = INPUTS[kind]
    model, x = NETWORKS[name](patch=patch), jnp.zeros(shape)
    init = functools.partial(model.init_with_output, train=False)
    logits, _ = jax.eval_shape(init, jax.random.key(0), x)
    assert logits.shape == (2, 3)
    features, _ = jax.eval_shape(functools.partial(init, method="features"), jax.random.key(0), x)
    assert features["stage1"].shape == (2, *grid, 12)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["token", "mean", "map", None])
def test_padding_of_texts_changes_nothing(pool):
    """In texts of another padded length, too: the model pads all to its context."""
    networks = [functools.partial(NETWORKS["ViT"], pool=pool)] if pool else [NETWORKS["Mixer"], NETWORKS["GMLP"]]
    rng = np.random.default_rng(0)
    lengths = jnp.array([3, 5])
    tokens = rng.integers(0, 7, (2, 6)).astype(np.int32)
    other = np.where(np.arange(6) < lengths[:, None], tokens, (tokens + 1) % 7)
    for network in networks:
        model = network(vocab_size=7, context=8)
        apply = jax.jit(functools.partial(model.apply, train=False))
        variables = disturbed(jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), tokens, lengths))
        expected = apply(variables, tokens, lengths)
        np.testing.assert_allclose(apply(variables, other, lengths), expected, atol=1e-5)
        np.testing.assert_allclose(apply(variables, other[:, :5], lengths), expected, atol=1e-5)
        assert np.abs(apply(variables, other, lengths + 1) - expected).max() > 1e-3
        with pytest.raises(UserError, match="inputs have 9 steps and the model's context 8"):
            jax.eval_shape(apply, variables, jnp.zeros((2, 9), jnp.int32))


def test_a_patch_with_a_real_step_is_real():
    model = NETWORKS["ViT"](patch=(2,), pool="mean")
    x = jax.random.normal(jax.random.key(0), (3, 6, 2))
    variables = disturbed(jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x))
    apply = jax.jit(functools.partial(model.apply, train=False))
    lengths = jnp.array([3, 4, 5])  # the steps behind the end are 0, in the last patch too
    ended = jnp.where(jnp.arange(6)[:, None] < lengths[:, None, None], x, 0)
    a, b = apply(variables, x, lengths), apply(variables, ended, jnp.array([4, 4, 6]))
    np.testing.assert_allclose(a, b, atol=1e-6)
    init = functools.partial(NETWORKS["ViT"]().init, train=False)
    with pytest.raises(ValueError, match="patches have 2 axes"):
        jax.eval_shape(init, jax.random.key(0), jnp.zeros((2, 8, 8, 3)), jnp.ones(2, jnp.int32))


def test_toeplitz_weights_do_not_fix_the_number_of_tokens():
    model = NETWORKS["GMLP"](patch=(1,), gate=functools.partial(SpatialGate, toeplitz=True, length=6))
    x = jax.random.normal(jax.random.key(0), (2, 6, 3))
    variables = disturbed(jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x))
    apply = jax.jit(functools.partial(model.apply, train=False))
    short, masked = apply(variables, x[:, :4]), apply(variables, x, jnp.full(2, 4))
    np.testing.assert_allclose(short, masked, atol=1e-5)
