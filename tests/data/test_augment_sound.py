"""Augmentation of sound: frames [b, t, d] of stacked spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from data.augment.op import example_keys, parse_op
from tests.data.infos import sounds

KEY, BANDS, STACK, LENGTHS = jax.random.key(0), 8, 3, (12, 5, 9)
FRAMES = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (3, 12, BANDS * STACK)), jnp.float32)
BATCH = {"frames": FRAMES, "frames_lengths": jnp.array(LENGTHS), "mask": jnp.ones(3)}


def op_of(text):
    """Returns the op of a call as a function of one key and a batch."""
    op = parse_op(text).bind(sounds(12, BANDS * STACK))
    return lambda key, batch: op(example_keys(key, 0, jnp.arange(3)), batch)


def spectra(batch) -> np.ndarray:
    return np.asarray(batch["frames"]).reshape(3, 12, STACK, BANDS)


def test_spec_augment_clears_whole_bands_and_whole_frames():
    op = jax.jit(op_of(f"spec_augment({BANDS}, frequency=3, time=4, masks=1)"))
    cleared = [spectra(op(jax.random.key(seed), BATCH)) == 0 for seed in range(40)]
    for example in np.concatenate(cleared):
        bands, frames = example.all(axis=(0, 1)), example.all(axis=(1, 2))
        expected = np.broadcast_to(bands | frames[:, None, None], example.shape)  # in every stacked frame alike
        np.testing.assert_array_equal(example, expected)
        assert bands.sum() <= 3 and frames.sum() <= 4
        assert (np.diff(np.flatnonzero(bands)) == 1).all() and (np.diff(np.flatnonzero(frames)) == 1).all()
    widths = [example.all(axis=(0, 1)).sum() for example in np.concatenate(cleared)]
    assert set(widths) == {0, 1, 2, 3}
    frames = np.array([example.all(axis=(2, 3)) for example in cleared])  # [seeds, b, t]
    for example, length in enumerate(LENGTHS):
        assert not frames[:, example, length:].any() and frames[:, example, :length].any(axis=0).all()
    equal = {key: value for key, value in BATCH.items() if key != "frames_lengths"}  # all frames are real
    np.testing.assert_array_equal(
        op(KEY, equal)["frames"], op(KEY, equal | {"frames_lengths": jnp.full(3, 12)})["frames"]
    )


def test_vocal_tract_moves_what_stands_in_the_bands():
    ramp = {**BATCH, "frames": jnp.broadcast_to(jnp.tile(jnp.arange(BANDS, dtype=jnp.float32), STACK), FRAMES.shape)}
    stretched = spectra(op_of(f"vocal_tract({BANDS}, most=0.5)")(KEY, ramp))
    factors = stretched[:, 0, 0, 1]
    expected = np.minimum(np.arange(BANDS) * factors[:, None], BANDS - 1)
    np.testing.assert_allclose(stretched, np.broadcast_to(expected[:, None, None], stretched.shape), rtol=1e-5)
    assert len(set(factors)) == 3 and (factors >= 0.5).all() and (factors <= 1.5).all()
    same = op_of(f"vocal_tract({BANDS}, most=0)")(KEY, BATCH)["frames"]
    np.testing.assert_allclose(same, FRAMES, rtol=1e-6)


@pytest.mark.parametrize("name", ["spec_augment", "vocal_tract"])
def test_frames_that_are_no_multiple_of_the_bands_are_refused(name):
    with pytest.raises(UserError, match=r"bands=9: the width of 'frames', 24, is not a multiple"):
        op_of(f"{name}(9, 1)" if name == "spec_augment" else f"{name}(9)")
    with pytest.raises(UserError, match="bands must be at least"):
        parse_op(f"{name}(0)")
