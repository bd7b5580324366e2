"""Augmentation of the samples of sounds, [b, n]."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from data.augment.op import example_keys, parse_op
from tests.data.infos import waves

LENGTH = 400


def changed(text, wave):
    """Returns three augmented copies of a wave, as an array [3, n]."""
    op = parse_op(text).bind(waves(LENGTH))
    batch = {"audio": jnp.asarray(np.tile(wave, (3, 1)), jnp.float32), "mask": jnp.ones(3)}
    return np.asarray(op(example_keys(jax.random.key(0), 0, jnp.arange(3)), batch)["audio"])


def test_speed_samples_a_wave_at_multiples_of_one_factor():
    copies = changed("speed(most=0.5)", np.arange(LENGTH))
    factors = copies[:, 1]
    assert len(set(factors)) == 3 and (factors > 0.5).all() and (factors < 1.5).all()
    for copy, factor in zip(copies, factors, strict=True):
        places = np.arange(LENGTH) * factor
        known = places <= LENGTH - 1
        np.testing.assert_allclose(copy[known], places[known], rtol=1e-4)
        np.testing.assert_array_equal(copy[places >= LENGTH], 0)
    tone = np.sin(2 * np.pi * 0.05 * np.arange(LENGTH))
    for copy, factor in zip(changed("speed(most=0.5)", tone), factors, strict=True):
        spectrum = np.abs(np.fft.rfft(copy[: LENGTH // 2], 4096))
        assert abs(spectrum.argmax() / 4096 - 0.05 * factor) < 0.003  # the pitch moves by the factor


def test_delay_moves_a_wave_and_keeps_its_samples():
    wave = np.random.default_rng(0).uniform(1, 2, LENGTH)
    starts = []
    for copy in changed("delay(most=0.25)", wave):
        starts.append(int((copy == 0).sum()))
        np.testing.assert_array_equal(copy[: starts[-1]], 0)
        np.testing.assert_allclose(copy[starts[-1] :], wave[: LENGTH - starts[-1]], rtol=1e-6)
    assert len(set(starts)) == 3 and max(starts) <= LENGTH // 4


@pytest.mark.parametrize("name", ["speed", "delay"])
def test_nothing_changes_at_zero_and_wrong_ranges_are_refused(name):
    wave = np.random.default_rng(0).uniform(1, 2, LENGTH)
    np.testing.assert_allclose(changed(f"{name}(most=0)", wave), np.tile(wave, (3, 1)), rtol=1e-6)
    with pytest.raises(UserError, match=f"{name}.*most must be between 0 and 0.9, not 1"):
        parse_op(f"{name}(most=1)")
