"""Properties of every architecture in `arch/`; they are found, not listed (see `tests.arch.architectures`)."""

import dataclasses
import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from tests.arch.architectures import Tiny, architectures, shape_of, types_of_products

ARCHITECTURES = architectures()


@pytest.fixture(params=list(ARCHITECTURES))
def architecture(request):
    return ARCHITECTURES[request.param]


@functools.cache
def tiny(architecture) -> Tiny:
    return Tiny(architecture)


def hyper_parameters(architecture) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(architecture) if field.name not in ("parent", "name")]


def distance(a, b) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), a, b)))


def test_outputs_have_the_annotated_shape_and_are_finite_float32(architecture):
    model = tiny(architecture)
    outputs, _ = model.apply(model.variables, model.rngs["dropout"], train=False)
    for leaf in jax.tree.leaves(outputs):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()
    if hasattr(model.returns, "dim_str"):
        expected = shape_of(model.returns, classes=architecture.VARIANTS["test"]["num_classes"])
        assert outputs.ndim == len(expected)
        assert all(want in (None, size) for want, size in zip(expected, outputs.shape, strict=True))


@functools.cache
def gradients_of(architecture, train: bool):
    """Returns the compiled function (flat parameters, other collections) -> the squared error of random targets, its
    flat gradient and the new collections; and a list that grows with each trace.

    The dropout mask is always the same: the network left by it must fit, too.
    """
    model, traces = tiny(architecture), []
    targets, unravel = model.targets(), ravel_pytree(model.variables["params"])[1]

    @jax.jit
    def gradients(params, collections):
        traces.append(1)

        def loss(params):
            outputs, new = model.apply({**collections, "params": params}, model.rngs["dropout"], train=train)
            errors = jax.tree.map(lambda y, target: jnp.square(y - target).mean(), outputs, targets)
            return sum(jax.tree.leaves(errors)), new

        (value, new), found = jax.value_and_grad(loss, has_aux=True)(unravel(params))
        return value, ravel_pytree(found)[0], new

    return gradients, traces


def split(architecture) -> tuple[jax.Array, dict]:
    """Returns the flat parameters and the other collections."""
    variables = tiny(architecture).variables
    return ravel_pytree(variables["params"])[0], {name: variables[name] for name in variables if name != "params"}


@pytest.mark.slow
def test_every_parameter_has_a_finite_nonzero_gradient(architecture):
    """In training or in evaluation: a bias that batch statistics remove at once has one in evaluation only. Parameters
    that never train have none.

    The parameters are disturbed first: behind a kernel that starts at zero every gradient is zero.
    """
    (params, collections), variables = split(architecture), tiny(architecture).variables["params"]
    params += 0.1 * np.random.default_rng(2).standard_normal(params.shape, np.float32)

    def sizes(train: bool) -> dict[str, float]:
        gradient = gradients_of(architecture, train)[0](params, collections)[1]
        assert np.isfinite(gradient).all()
        leaves = jax.tree.leaves_with_path(ravel_pytree(variables)[1](gradient))
        return {"/".join(part.key for part in path): float(np.abs(leaf).max()) for path, leaf in leaves}

    found = sizes(train=True)
    frozen = {
        name for name in found if any(re.fullmatch(p, name) for p in getattr(tiny(architecture).model, "frozen", ()))
    }
    assert not any(found[name] for name in frozen)
    # The bias of keys adds the same number to all scores of a query.
    unused = (".*key/bias", *getattr(architecture, "WITHOUT_GRADIENT", ()))
    without = {name for name in found if found[name] <= 1e-6 and not any(re.fullmatch(p, name) for p in unused)}
    without -= frozen
    if without:
        evaluated = sizes(train=False)
        assert not {name for name in without if evaluated[name] <= 1e-6}


@pytest.mark.slow
def test_a_tiny_batch_is_overfitted_with_one_trace(architecture):
    (params, collections), (gradients, traces) = split(architecture), gradients_of(architecture, train=True)
    optimizer, losses = optax.adam(1e-2), []
    state = optimizer.init(params)

    @jax.jit
    def update(params, gradient, state):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(150):
        loss, gradient, collections = gradients(params, collections)
        params, state = update(params, gradient, state)
        losses.append(float(loss))
    assert min(losses[-10:]) < 0.05 * losses[0]
    assert len(traces) == 1


@pytest.mark.slow
def test_training_differs_from_evaluation_exactly_if_something_is_random_or_learns_statistics(architecture):
    model = tiny(architecture)
    key, other = jax.random.key(3), jax.random.key(4)
    training, collections = model.apply(model.variables, key, train=True)
    evaluation, unchanged = model.apply(model.variables, key, train=False)
    differs = distance(training, evaluation) > 1e-5
    random = distance(training, model.apply(model.variables, other, train=True)[0]) > 1e-5
    assert differs == (random or "batch_stats" in model.variables)
    assert distance(evaluation, model.apply(model.variables, other, train=False)[0]) == 0
    for name in unchanged:
        assert distance(unchanged[name], model.variables[name]) == 0, f"evaluation changed {name}"
        assert distance(collections[name], model.variables[name]) > 0, f"training left {name} as it was"


@pytest.mark.slow
def test_every_dropout_field_drops(architecture):
    rates = [field.name for field in hyper_parameters(architecture) if field.name.endswith("dropout")]
    for rate in rates:
        model = Tiny(architecture, **dict.fromkeys(rates, 0.0) | {rate: 0.5})
        a, b = (model.apply(model.variables, jax.random.key(seed), train=True)[0] for seed in (3, 4))
        assert distance(a, b) > 1e-5, rate


@pytest.mark.slow
def test_bfloat16_computes_with_float32_parameters(architecture):
    model = Tiny(architecture, dtype=jnp.bfloat16)
    for path, leaf in jax.tree.leaves_with_path(model.shapes):
        assert leaf.dtype == jnp.float32, jax.tree_util.keystr(path)
    shapes = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), model.shapes)
    products = types_of_products(functools.partial(model.apply, train=False), shapes, model.rngs["dropout"])
    assert jnp.bfloat16 in products and products.count(jnp.float32) <= 1, products  # the head is float32


def test_every_field_is_read(architecture):
    source = "".join(
        inspect.getsource(parent) for parent in architecture.__mro__ if parent.__module__.startswith("arch.")
    )
    unread = [f.name for f in hyper_parameters(architecture) if not re.search(rf"self\.{f.name}\b", source)]
    assert not unread
