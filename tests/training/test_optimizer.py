"""Any optimiser of optax, its schedule, decay mask, frozen parts and factors of the learning rate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch.gpt import GPT
from core.errors import UserError
from training import optimizer as optimizer_lib
from training.config import default

PARAMS = {"stem": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "head": {"kernel": jnp.ones((2, 3))}}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)
ADAM = 1 + 0.9 * 0.1 / (1 - 0.9**2)  # Adam's first step by Nesterov's momentum, which Muon sets, over the learning rate


def config(**changes):
    group = default().optimizer
    group.schedule = "constant"
    group.learning_rate = 0.1
    group.update(changes)
    return group


def first_update(group, grads=GRADS):
    optimizer = optimizer_lib.create(group, 100, PARAMS)
    return optimizer.update(grads, optimizer.init(PARAMS), PARAMS)[0]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lamb", "lion", "rmsprop", "muon", "adafactor"])
def test_optimisers_by_name(name):
    updates = first_update(config(name=name))
    assert all(bool(jnp.isfinite(x).all()) and bool((x < 0).all()) for x in jax.tree.leaves(updates))


def test_arguments_reach_optax():
    assert float(first_update(config(name="sgd", momentum=0.9))["head"]["kernel"][0, 0]) == pytest.approx(-0.1)
    optimizer = optimizer_lib.create(config(name="sgd", momentum=0.9), 100, PARAMS)
    state = optimizer.init(PARAMS)
    _, state = optimizer.update(GRADS, state, PARAMS)
    second, _ = optimizer.update(GRADS, state, PARAMS)
    assert float(second["head"]["kernel"][0, 0]) == pytest.approx(-0.19)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon", "acprop"])
def test_only_kernels_decay(name):
    zero = jax.tree.map(jnp.zeros_like, GRADS)
    updates = first_update(config(name=name, weight_decay=0.5), zero)
    assert float(updates["stem"]["kernel"][0, 0]) == pytest.approx(-0.05)
    assert float(abs(updates["stem"]["bias"]).max()) == 0


def test_only_kernels_decay_by_an_own_name():
    zero = jax.tree.map(jnp.zeros_like, GRADS)
    updates = first_update(config(name="adafactor", weight_decay_rate=0.5), zero)
    assert float(updates["stem"]["kernel"][0, 0]) == pytest.approx(-0.5)
    assert float(abs(updates["stem"]["bias"]).max()) == 0


@pytest.mark.parametrize("name", ["lars", "adadelta"])
def test_only_kernels_decay_where_the_decay_is_rescaled(name):
    updates = first_update(config(name=name, weight_decay=0.5), jax.tree.map(jnp.zeros_like, GRADS))
    assert bool((updates["stem"]["kernel"] < 0).all())
    assert float(abs(updates["stem"]["bias"]).max()) == 0


def test_an_optimiser_without_a_mask_decays_all_or_nothing():
    everything = config(name="novograd", weight_decay=0.5, decay_mask=(".*",))
    updates = first_update(everything, jax.tree.map(jnp.zeros_like, GRADS))
    assert all(bool((x < 0).all()) for x in jax.tree.leaves(updates))
    first_update(config(name="novograd"))


def test_no_decay_unless_asked():
    updates = first_update(config(name="adamw"), jax.tree.map(jnp.zeros_like, GRADS))
    assert max(float(abs(x).max()) for x in jax.tree.leaves(updates)) == 0


def test_frozen_parts_and_factors_of_the_learning_rate():
    updates = first_update(config(name="sgd", frozen=("stem/.*",), lr_multipliers=(("head/.*", 0.1),)))
    assert float(abs(updates["stem"]["kernel"]).max()) == 0
    assert float(updates["head"]["kernel"][0, 0]) == pytest.approx(-0.01)


def test_clipping_by_the_global_norm():
    updates = first_update(config(name="sgd", clip_norm=1.0))
    assert float(optax.tree.norm(updates)) == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("constant", [0.1, 0.1, 0.1]),
        ("cosine", [0.1, 0.05, 0.0]),
        ("cosine(final=0.1)", [0.1, 0.055, 0.01]),
        ("linear", [0.1, 0.05, 0.0]),
        ("step(boundaries=(0.5, 0.75), factor=0.1)", [0.1, 0.01, 0.001]),
        ("rsqrt(timescale=50)", [0.1, 0.1 * 0.5**0.5, 0.1 * (1 / 3) ** 0.5]),
        ("rsqrt(timescale=50, cooldown=0.8)", [0.1, 0.1 * 0.5**0.5 * 50 / 80, 0.0]),
    ],
)
def test_schedules(text, expected):
    function = optimizer_lib.schedule(config(schedule=text), 100)
    np.testing.assert_allclose([float(function(step)) for step in (0, 50, 100)], expected, rtol=1e-5, atol=1e-9)


def test_warm_up_is_linear_and_the_schedule_follows():
    function = optimizer_lib.schedule(config(schedule="linear", warmup_steps=10), 110)
    np.testing.assert_allclose(
        [float(function(step)) for step in (0, 5, 10, 60, 110)], [0, 0.05, 0.1, 0.05, 0], atol=1e-7
    )


def test_rsqrt_after_as_long_a_warm_up_is_noams_schedule():
    width, warmup, steps = 512, 400, np.arange(1, 3000, 7)
    expected = width**-0.5 * np.minimum(steps**-0.5, steps * warmup**-1.5)  # Vaswani 2017, eq. 3
    peak = (width * warmup) ** -0.5
    noam = config(schedule=f"rsqrt(timescale={warmup})", warmup_steps=warmup, learning_rate=peak)
    np.testing.assert_allclose(
        jax.vmap(optimizer_lib.schedule(noam, 3000))(steps), expected, rtol=1e-6, atol=1e-6 * peak
    )


def gpt_params(**fields):
    model = GPT(**GPT.VARIANTS["modern test"] | fields)
    init = jax.jit(functools.partial(model.init, train=False))
    return init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))["params"]


def updates_of(params, **changes):
    """Returns path -> update of the first step, for random gradients."""
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape), jnp.float32), params)
    optimizer = optimizer_lib.create(config(**changes), 100, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    paths = jax.tree.leaves(optimizer_lib.parameter_paths(params))
    return {path: (x, g) for path, x, g in zip(paths, *map(jax.tree.leaves, (updates, grads)), strict=True)}


def is_orthogonal(update, grad):
    """Whether matrices are U p(S) V^T for the gradient U S V^T, with p(S) near 1, as Newton and Schulz's iteration
    gives: then grad^T update is symmetric."""
    values, product = np.linalg.svd(update, compute_uv=False), np.swapaxes(grad, -1, -2) @ update
    near_one = np.median(values) > 0.5 and values.max() < 1.5
    return near_one and np.allclose(product, np.swapaxes(product, -1, -2), atol=1e-2 * abs(product).max())


@pytest.mark.slow
@pytest.mark.parametrize("scan", [pytest.param(False, marks=pytest.mark.slow), True])
def test_muon_updates_the_kernels_of_hidden_layers_and_adam_the_others(scan):
    parts = {"attention/layer": ("query", "key", "value", "out"), "feed_forward/layer": ("hidden", "gate", "out")}
    blocks = ["trunk/blocks/block1"] if scan else ["trunk/block1", "trunk/block2"]
    expected = {f"{block}/{part}/{name}/kernel" for block in blocks for part in parts for name in parts[part]}
    found = set()
    for path, (update, grad) in updates_of(gpt_params(scan=scan), name="muon", adam_learning_rate=0.003).items():
        if np.allclose(update, -0.003 * ADAM * np.sign(grad), rtol=0.01):
            continue
        inputs, outputs = update.shape[-2:]
        assert is_orthogonal(update / (0.1 * max(1, outputs / inputs) ** 0.5), grad), path
        found.add(path)
    assert found == expected


def test_muon_reads_a_convolution_as_one_matrix():
    params = {"stem": {"kernel": jnp.ones((3, 3, 2, 5)), "scale": jnp.ones(5)}, "head": {"kernel": jnp.ones((5, 4))}}
    updates = updates_of(params, name="muon")
    assert is_orthogonal(
        *(x.reshape(18, 5) / factor for x, factor in zip(updates["stem/kernel"], (0.1, 1), strict=True))
    )
    for path in ("head/kernel", "stem/scale"):
        np.testing.assert_allclose(abs(updates[path][0]), 0.1 * ADAM, rtol=0.01)


def test_adams_learning_rate_within_muon_follows_the_schedule():
    group = config(name="muon", adam_learning_rate=0.01, schedule="linear", warmup_steps=10)
    optimizer = optimizer_lib.create(group, 110, PARAMS)
    state, sizes = optimizer.init(PARAMS), []
    for _ in range(11):
        updates, state = optimizer.update(GRADS, state, PARAMS)
        sizes.append(float(abs(updates["stem"]["bias"]).max()))
    np.testing.assert_allclose([sizes[0], sizes[5], sizes[10]], [0, 0.005, 0.01], rtol=0.03, atol=1e-9)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"name": "adamm"}, ["config.optimizer.name", "'adam'"]),
        ({"name": "adam", "beta1": 0.9}, ["config.optimizer.beta1", "b1"]),
        ({"schedule": "cosin"}, ["schedule", "'cosine'"]),
        ({"schedule": "cosine(end=0.1)"}, ["schedule", "end", "final"]),
        ({"schedule": "cosine(1)"}, ["schedule"]),
        ({"warmup_steps": 100}, ["warmup_steps", "100"]),
        ({"frozen": ("stm/.*",)}, ["frozen", "stm/.*"]),
        ({"name": "novograd", "weight_decay": 0.1}, ["config.optimizer.decay_mask", "novograd"]),
        ({"name": "muon", "adam_rate": 0.1}, ["config.optimizer.adam_rate", "adam_learning_rate"]),
        ({"name": "lbfgs"}, ["config.optimizer.name", "lbfgs", "value"]),
        ({"name": "rprop"}, ["config.optimizer.name", "rprop"]),
        ({"name": "sophia"}, ["config.optimizer.name", "sophia", "obj_fn"]),
        ({"name": "momo"}, ["config.optimizer.name", "momo", "value"]),
        ({"name": "schedule_free_sgd"}, ["schedule_free_sgd", "other weights"]),
        ({"schedule": "cosine(final='a')"}, ["config.optimizer.schedule", "final", "float"]),
        ({"weight_decay": 0.1, "decay_mask": ("(",)}, ["decay_mask", "regular expression"]),
        ({"b1": 1.0}, ["config.optimizer.b1", "below 1"]),
        ({"b2": -0.5}, ["config.optimizer.b2", "at least 0"]),
        ({"name": "sgd", "momentum": 2.0}, ["config.optimizer.momentum", "below 1"]),
        ({"eps": -1e-8}, ["config.optimizer.eps", "at least 0"]),
        ({"eps": float("inf")}, ["config.optimizer.eps", "finite"]),
        ({"schedule": "cosine(final=-3.0)"}, ["schedule", "final must be from 0 to 1"]),
        ({"schedule": "step(boundaries=(3.0,))"}, ["schedule", "boundaries must be from 0 to 1"]),
        ({"schedule": "rsqrt(timescale=0)"}, ["schedule", "timescale must be at least 1"]),
    ],
    ids=str,
)
def test_slips_are_refused(changes, words):
    with pytest.raises(UserError) as refusal:
        optimizer_lib.create(config(**changes), 100, PARAMS)
    assert all(word in str(refusal.value) for word in words), refusal.value
