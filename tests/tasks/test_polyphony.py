"""Polyphonic music against a plain loop over pieces, steps and keys."""

import jax.numpy as jnp
import numpy as np

from core.info import Info, Key
from tasks.polyphony import Polyphony

LENGTHS = np.array([5, 2, 1, 4], np.int32)


def make(keys=7, seed=0):
    random = np.random.default_rng(seed)
    mask = (np.arange(6) < LENGTHS[:, None]).astype(np.float32)
    batch = {
        "notes": (random.random((4, 6, keys)) < 0.4).astype(np.float32),
        "notes_mask": mask,
        "notes_lengths": LENGTHS,
        "mask": np.array([1, 1, 1, 0], np.float32),  # the last piece is padding
    }
    return random.normal(size=(4, 6, keys)).astype(np.float32), batch


def test_equals_a_plain_loop():
    logits, batch = make()
    nats = hits = either = steps = 0
    for piece in range(3):
        for step in range(LENGTHS[piece] - 1):  # the first step is given
            steps += 1
            for logit, sounds in zip(logits[piece, step], batch["notes"][piece, step + 1], strict=True):
                probability = 1 / (1 + np.exp(-float(logit)))
                nats -= np.log(probability if sounds else 1 - probability)
                hits += probability > 0.5 and sounds
                either += probability > 0.5 or sounds
    task = Polyphony()
    losses, metrics, arrays = task.score(jnp.asarray(logits), batch)
    np.testing.assert_allclose((losses["loss"], task.weights(batch)["loss"]), (nats, steps), rtol=1e-5)
    np.testing.assert_allclose(metrics["nll"], (nats, steps), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], (hits, either))
    np.testing.assert_allclose(arrays["weight"], [4, 1, 0, 0])
    np.testing.assert_allclose(arrays["loss"].sum(), nats, rtol=1e-5)


def test_knowing_nothing_costs_a_bit_a_key():
    _, batch = make(keys=88)
    score = Polyphony().score(jnp.zeros((4, 6, 88), jnp.bfloat16), batch)
    np.testing.assert_allclose(score.losses["loss"] / Polyphony().weights(batch)["loss"], 88 * np.log(2), rtol=1e-6)


def test_width_and_prediction():
    info = Info("made up", {}, {"notes": Key((100, 88), "float32")})
    assert Polyphony().output_size(info) == 88
    prediction = Polyphony().predict(jnp.array([[[0.0, np.log(3.0)]]]))["prediction"]
    np.testing.assert_allclose(prediction, [[[0.5, 0.75]]], rtol=1e-6)
