"""Convolutional classifiers of texts: counts derived by hand, filters over words against a loop, padding, vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from arch.textcnn import CharacterCNN, TextCNN, Windows

KIM = 300 * 100 * (3 + 4 + 5) + 3 * 100 + 300 * 2 + 2  # section 3.1: filters, their biases, head
TABLE = 10_000 * 300


def zhang(filters, dense):
    """Returns the number of parameters of table 1 and 2: 1014 characters of 70 kinds become 34 positions."""
    convolutions = 7 * 70 * filters + 7 * filters**2 + 4 * 3 * filters**2 + 6 * filters
    return convolutions + (34 * filters + 1) * dense + (dense + 1) * dense + (dense + 1) * 4


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (TextCNN(), KIM + TABLE),
        (TextCNN(**TextCNN.VARIANTS["multichannel"]), KIM + 2 * TABLE),
        (CharacterCNN(**CharacterCNN.VARIANTS["large"]), zhang(1024, 2048)),
        (CharacterCNN(**CharacterCNN.VARIANTS["small"]), zhang(256, 1024)),
    ],
    ids=["rand", "multichannel", "large", "small"],
)
def test_counts(model, count):
    tokens, lengths = jax.ShapeDtypeStruct((1, 20), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int32)
    shapes = jax.eval_shape(lambda *inputs: model.init(jax.random.key(0), *inputs, train=False), tokens, lengths)
    assert sum(x.size for x in jax.tree.leaves(shapes)) == count
    assert {KIM, zhang(1024, 2048), zhang(256, 1024)} == {360_902, 95_940_612, 11_339_780}


@pytest.mark.slow
@pytest.mark.slow
def test_a_filter_reads_each_window_that_touches_the_text():
    layer = Windows(4, 3, nn.tanh, None)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 5)), jnp.float32)
    lengths = jnp.array([6, 2])
    x *= (jnp.arange(6) < lengths[:, None])[..., None]
    params = layer.init(jax.random.key(0), x, lengths)
    params = jax.tree.map(lambda p: p - 0.5, params)  # the bias alone, of a window of padding, would often win
    kernel, bias = (np.asarray(params["params"][name], np.float64) for name in ("kernel", "bias"))
    found = layer.apply(params, x, lengths)
    for row, length in enumerate((6, 2)):
        text = np.pad(np.asarray(x[row, :length]), ((2, 2), (0, 0)))
        windows = [np.tanh(np.einsum("wd,wdf->f", text[i : i + 3], kernel) + bias) for i in range(length + 2)]
        np.testing.assert_allclose(found[row], np.max(windows, 0), atol=1e-6)


@pytest.mark.slow
def test_padding_changes_nothing():
    model = TextCNN(**TextCNN.VARIANTS["test"])
    tokens, lengths = jnp.array([[3, 4, 5, 6, 0, 0]]), jnp.array([4])
    variables = model.init(jax.random.key(0), tokens, lengths, train=False)
    other = tokens.at[:, 4:].set(7)
    apply = jax.jit(lambda tokens: model.apply(variables, tokens, lengths, train=False))
    np.testing.assert_array_equal(apply(tokens), apply(other))
    np.testing.assert_allclose(apply(tokens), apply(tokens[:, :4]), atol=1e-6)
    assert np.isfinite(model.apply(variables, tokens, jnp.array([0]), train=False)).all()


@pytest.mark.slow
def test_static_vectors_have_no_gradient():
    model = TextCNN(**{**TextCNN.VARIANTS["test"], "channels": ("static", "trained")})
    inputs = jnp.array([[3, 4, 5]]), jnp.array([3])
    params = model.init(jax.random.key(0), *inputs, train=False)["params"]
    gradients = jax.grad(lambda params: model.apply({"params": params}, *inputs, train=False)[0, 0])(params)
    assert not gradients["static"]["embedding"].any() and gradients["embedding"]["embedding"].any()
    assert model.frozen == ("static/.*",) and TextCNN().frozen == ()
    with pytest.raises(ValueError, match="'static', 'trained' or both"):
        TextCNN(channels=("rand",)).init(jax.random.key(0), *inputs, train=False)
