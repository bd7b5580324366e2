"""MLP-Mixer (arXiv 2105.01601)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from arch.gpt import GPT
from arch.mixer import Mixer, TokenMLP
from tests.arch.influence import disturbed

PERMUTATION = np.random.default_rng(0).permutation(4)


def permuted(image):
    """Returns the image with its 2 x 2 patches in another order."""
    patches = rearrange(image, "b (h p) (w q) c -> b (h w) p q c", p=4, q=4)[:, PERMUTATION]
    return rearrange(patches, "b (h w) p q c -> b (h p) (w q) c", h=2)


@pytest.mark.slow
def test_patches_may_be_permuted_with_the_token_weights():
    """Section 3.4: the network sees no order that its token weights do not have."""
    model = Mixer(**Mixer.VARIANTS["test"])
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 3))
    params = disturbed(jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), x))["params"]
    apply = jax.jit(lambda params, x: model.apply({"params": params}, x, train=False))
    expected = apply(params, x)
    assert np.abs(apply(params, permuted(x)) - expected).max() > 1e-2
    for block in (params["trunk"]["block1"], params["trunk"]["block2"]):
        layer = block["tokens"]["layer"]
        layer["hidden"]["kernel"] = layer["hidden"]["kernel"][PERMUTATION]
        layer["out"] = {"kernel": layer["out"]["kernel"][:, PERMUTATION], "bias": layer["out"]["bias"][PERMUTATION]}
    np.testing.assert_allclose(apply(params, permuted(x)), expected, atol=1e-5)


def test_a_language_model_refuses_it():
    model = GPT(**GPT.VARIANTS["test"] | {"mixer": functools.partial(TokenMLP, 5)})
    init = functools.partial(model.init, train=False)
    with pytest.raises(ValueError, match=r"mixer\.TokenMLP sees later tokens"):
        jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
