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


@pytest.mark.slow
def test_every_parameter_has_a_finite_nonzero_gradient(architecture):
    """In training or in evaluation: a bias that batch statistics remove at once has one in evaluation only. Parameters
    that never train have none.

    The parameters are disturbed first: behind a kernel that starts at zero every gradient is zero.
    """
    model = tiny(architecture)
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape, p.dtype), model.variables["params"])

    @jax.jit
    def gradients(params, targets):
        def loss(params, train):
            outputs, _ = model.apply({**model.variables, "params": params}, model.rngs["dropout"], train=train)
            return sum(jax.tree.leaves(jax.tree.map(lambda y, target: (y * target).sum(), outputs, targets)))

        return [jax.grad(loss)(params, train) for train in (True, False)]

    training, evaluation = gradients(params, model.targets())
    for (path, a), b in zip(jax.tree.leaves_with_path(training), jax.tree.leaves(evaluation), strict=True):
        assert np.isfinite(a).all() and np.isfinite(b).all(), jax.tree_util.keystr(path)
        names = [part.key for part in path]
        if names[-2:] == ["key", "bias"]:  # adds the same number to all scores of a query
            continue
        if any(re.fullmatch(pattern, "/".join(names)) for pattern in getattr(model.model, "frozen", ())):
            assert not a.any() and not b.any(), jax.tree_util.keystr(path)
            continue
        assert max(np.abs(a).max(), np.abs(b).max()) > 1e-6, jax.tree_util.keystr(path)


@pytest.mark.slow
def test_a_tiny_batch_is_overfitted_with_one_trace(architecture):
    model, optimizer, traces = tiny(architecture), optax.adam(1e-2), []
    targets = model.targets()

    @jax.jit
    def step(params, collections, optimizer_state):
        traces.append(1)

        def loss(params):
            # The same dropout mask in each step: the network left by it must fit, too.
            outputs, new = model.apply({**collections, "params": params}, model.rngs["dropout"], train=True)
            errors = jax.tree.map(lambda y, target: jnp.square(y - target).mean(), outputs, targets)
            return sum(jax.tree.leaves(errors)), new

        (value, collections_), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        return optax.apply_updates(params, updates), collections_, optimizer_state, value

    collections = dict(model.variables)
    params = collections.pop("params")
    optimizer_state, losses = optimizer.init(params), []
    for _ in range(150):
        params, collections, optimizer_state, loss = step(params, collections, optimizer_state)
        losses.append(float(loss))
    assert min(losses[-10:]) < 0.05 * losses[0]
    assert len(traces) == 1


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
