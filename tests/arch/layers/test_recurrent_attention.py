"""Scores against their equations; padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.recurrent_attention import Additive, Dot, General

KEY = jax.random.key(0)
QUERIES = jax.random.normal(KEY, (2, 3, 5))
VALUES = jax.random.normal(jax.random.key(1), (2, 4, 5))
MASK = jnp.array([[True, True, True, False], [True, True, True, True]])
SCORES = {
    "additive": functools.partial(Additive, units=7),
    "general": General,
    "dot": Dot,
}


def attend(attention, queries, values, mask):
    return attention(queries, attention.keys(values), values, mask)


def equation(name, params, query, value):
    if name == "additive":
        hidden = query @ params["query"]["kernel"] + value @ params["key"]["kernel"] + params["key"]["bias"]
        return params["vector"] @ np.tanh(hidden)
    return query @ (params["key"]["kernel"].T if name == "general" else np.eye(5)) @ value


@pytest.mark.parametrize("name", SCORES)
def test_the_equations(name):
    """arXiv 1409.0473, A.1.2, and 1508.04025, eq. 7 and 8."""
    model = SCORES[name](query_width=5)
    (contexts, weights), variables = model.init_with_output(KEY, QUERIES, VALUES, MASK, method=attend)
    params = jax.tree.map(np.asarray, variables.get("params", {}))
    for b, t in np.ndindex(2, 3):
        n = int(MASK[b].sum())
        scores = np.array([equation(name, params, np.asarray(QUERIES[b, t]), np.asarray(v)) for v in VALUES[b, :n]])
        expected = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(weights[b, t, :n], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(contexts[b, t], expected @ VALUES[b, :n], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SCORES)
def test_what_stands_in_padding_changes_nothing(name):
    model = SCORES[name](query_width=5)
    padded = jnp.where(MASK[..., None], VALUES, 1e4)
    variables = model.init(KEY, QUERIES, VALUES, MASK, method=attend)
    a, b = (model.apply(variables, QUERIES, values, MASK, method=attend) for values in (VALUES, padded))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert not a[1][0, :, 3].any()


def test_an_empty_memory_is_not_attended_to():
    contexts, weights = attend(Dot(query_width=5).bind({}), QUERIES, VALUES, jnp.zeros_like(MASK))
    assert not weights.any() and not contexts.any()


def test_dot_refuses_other_widths():
    with pytest.raises(ValueError, match="values are 5 wide and queries 6: use General"):
        Dot(query_width=6).init(KEY, QUERIES, VALUES, MASK, method=attend)
