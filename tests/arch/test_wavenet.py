"""WaveNet: the receptive field by gradient, conditions, and the likelihood of noise; queues are tested as decoders."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch.wavenet import WaveNet
from tests.arch.influence import disturbed, moved

FIELDS = {"num_classes": 11, "width": 8, "skip": 40, "condition_width": 3, "hop": 4}  # wide: ReLUs leave no output at 0
LABEL, LENGTH = jnp.array([1]), 14
CODES = jax.random.randint(jax.random.key(0), (1, LENGTH), 0, 11)
FRAMES = jax.random.normal(jax.random.key(1), (1, 4, 5))


def made(*inputs, **fields):
    """Returns a model, its variables, and its compiled forward pass."""
    model = WaveNet(**FIELDS | fields)
    variables = disturbed(jax.jit(lambda: model.init(jax.random.key(0), *inputs, train=False))())
    return model, variables, jax.jit(lambda *inputs: model.apply(variables, *inputs, train=False))


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"dilations": (1, 2, 4)}, {"dilations": (1, 2), "size": 3}, {"gated": False}])
def test_an_output_sees_exactly_the_receptive_field(fields):
    model, _, apply = made(LABEL, CODES, **{"dilations": (1, 2)} | fields)

    @jax.jit
    def jacobian(moves):
        forward = functools.partial(apply.__wrapped__, LABEL, CODES)
        return jax.jacrev(lambda moves: jnp.sin(moved(forward, {LENGTH: moves}))[0].sum(-1))(moves)

    meets = np.abs(jacobian(jnp.zeros((1, LENGTH, 8)))[:, 0]).sum(-1) > 0
    distance = np.arange(LENGTH)[:, None] - np.arange(LENGTH)
    np.testing.assert_array_equal(meets, (distance >= 0) & (distance < model.receptive_field))


@pytest.mark.slow
def test_white_noise_is_never_more_likely_than_its_entropy():
    """A network that sees the sample that it predicts would fall below log 256 at once."""
    model = WaveNet(width=8, skip=16, dilations=(1, 2), num_classes=256)
    optimizer, label = optax.adam(1e-2), jnp.zeros(4, int)

    def loss(params, key):
        codes = jax.random.randint(key, (4, 400), 0, 256)
        logits = model.apply({"params": params}, label, codes, train=True)[:, :-1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, codes[:, 1:]).mean()

    def step(carry, key):
        value, gradients = jax.value_and_grad(loss)(carry[0], key)
        updates, state = optimizer.update(gradients, carry[1])
        return (optax.apply_updates(carry[0], updates), state), value

    @jax.jit
    def train(key):
        params = model.init(key, label, jnp.zeros((4, 400), int), train=False)["params"]
        return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, 40))[1]

    losses = train(jax.random.key(0))
    assert losses.min() > np.log(256) - 0.01 and losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("conditions", [0, 3])
def test_the_class_changes_every_output_where_it_is_a_condition(conditions):
    _, _, apply = made(LABEL, CODES, conditions=conditions, dilations=(1, 2))
    a, b = (apply(jnp.array([label]), CODES) for label in (0, 2))
    assert (np.abs(a - b).max(-1) > 1e-6).all() == (conditions > 0)


@pytest.mark.slow
@pytest.mark.slow
def test_a_frame_changes_its_samples_and_later_ones():
    _, _, apply = made(LABEL, CODES, FRAMES, dilations=(1, 2))
    a, b = (apply(LABEL, CODES, frames)[0] for frames in (FRAMES, FRAMES.at[:, 1].add(1.0)))
    same = (a == b).all(-1)
    assert same[:4].all() and not same[4 : 8 + 2].any() and same[8 + 2 :].all()  # 2: the last block's dilation


@pytest.mark.slow
def test_generation_with_both_conditions_is_the_full_forward_pass():
    model, variables, apply = made(LABEL, CODES, FRAMES, conditions=3, dilations=(1, 2), bos_id=7)
    first, cache = model.apply(variables, LABEL, FRAMES, length=LENGTH, method="start")
    assert first.tolist() == [7]
    decode, parts = jax.jit(lambda code, cache: model.apply(variables, code, cache, method="decode")), []
    for place in range(LENGTH):
        logits, cache = decode(CODES[:, place : place + 1], cache)
        parts.append(logits)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), apply(LABEL, CODES, FRAMES), rtol=1e-5, atol=1e-4)
