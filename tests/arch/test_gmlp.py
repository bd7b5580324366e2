"""gMLP (arXiv 2105.08050): the gate's variants against their formulas, and its start."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.gmlp import GMLP, MaskedGMLP, SpatialGate
from arch.layers.mixer import Context
from tests.arch.influence import disturbed

pytestmark = pytest.mark.slow

T, C = 4, 6
Z = jax.random.normal(jax.random.key(0), (2, T, C))
X = jax.random.normal(jax.random.key(1), (2, T, 5))
RNGS = {"dropout": jax.random.key(3)}
CONTEXT = Context(jnp.arange(T)[None])
FORMULAS = {
    "linear": lambda z, f: f(z),
    "additive": lambda z, f: z + f(z),
    "multiplicative": lambda z, f: z * f(z),
    "split": lambda z, f: z[..., :3] * f(z[..., 3:]),
}


@pytest.mark.parametrize("kind", FORMULAS)
@pytest.mark.parametrize("toeplitz", [False, True])
def test_gates_follow_their_formulas(kind, toeplitz):
    module = SpatialGate(kind=kind, toeplitz=toeplitz)
    params = disturbed(module.init(jax.random.key(0), Z, X, CONTEXT))["params"]
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)

    def f(z):
        centred = z - z.mean(-1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * params["norm"]["scale"]
        normed = normed + params["norm"]["bias"]
        result = np.zeros_like(normed)
        for i in range(T):
            for j in range(T):
                weight = params["distances"][T - 1 + i - j, 0] if toeplitz else params["kernel"][j, i]
                result[:, i] += weight * normed[:, j]
            result[:, i] += params["bias"][i]
        return result

    expected = FORMULAS[kind](np.asarray(Z, np.float64), f)
    np.testing.assert_allclose(module.apply({"params": params}, Z, X, CONTEXT), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "split"])
def test_a_new_gate_returns_its_input(kind):
    module = SpatialGate(kind=kind)
    variables = module.init(jax.random.key(0), Z, X, CONTEXT)
    expected = Z[..., :3] if kind == "split" else Z
    np.testing.assert_allclose(module.apply(variables, Z, X, CONTEXT), expected, atol=1e-4)


def test_tiny_attention_is_added_to_the_gate():
    module = SpatialGate(attention_width=2)
    params = disturbed(module.init(jax.random.key(0), Z, X, CONTEXT))["params"]
    layers = params["attention"]
    q, k, v = (X @ layers[name]["kernel"] + layers[name]["bias"] for name in ("query", "key", "value"))
    attended = jax.nn.softmax(q @ k.swapaxes(1, 2) / 2**0.5) @ v
    attended = attended @ layers["out"]["kernel"] + layers["out"]["bias"]
    alone = SpatialGate().apply({"params": {k: v for k, v in params.items() if k != "attention"}}, Z, X, CONTEXT)
    expected = alone + Z[..., :3] * attended
    np.testing.assert_allclose(module.apply({"params": params}, Z, X, CONTEXT), expected, atol=1e-4)


def test_every_example_is_dropped_as_a_whole_at_the_rate_of_its_block():
    """Stochastic depth of the last block, by the rows that stay equal to those of one block less."""
    fields = GMLP.VARIANTS["test"] | {"dropout": 0.0}
    x = jax.random.normal(jax.random.key(0), (64, 8, 8, 3))
    model, shallow = (GMLP(**fields | {"drop_path": 0.5, "depth": depth}) for depth in (2, 1))
    params = disturbed(jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x))["params"]
    less = {**params, "trunk": {name: value for name, value in params["trunk"].items() if name != "block2"}}

    @functools.partial(jax.jit, static_argnums=(0, 2))
    def apply(model, params, train):
        return model.apply({"params": params}, x, train=train, rngs=RNGS)

    same = np.isclose(apply(model, params, True), apply(shallow, less, False), atol=1e-5).all(1)
    assert 16 < same.sum() < 48


def test_padding_of_a_text_is_not_seen():
    model = MaskedGMLP(**MaskedGMLP.VARIANTS["test"])
    tokens, lengths = jnp.array([[1, 2, 3, 4], [5, 6, 7, 8]]), jnp.array([2, 4])
    variables = disturbed(jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), tokens))
    apply = jax.jit(functools.partial(model.apply, train=False))
    y, z = (apply(variables, x, lengths) for x in (tokens, tokens.at[0, 2:].set(9)))
    np.testing.assert_allclose(y[0, :2], z[0, :2], atol=1e-6)
    np.testing.assert_allclose(y[1], z[1], atol=1e-6)
    np.testing.assert_allclose(apply(variables, tokens[:1, :2])[0], y[0, :2], atol=1e-5)
