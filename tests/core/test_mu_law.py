"""Mu-law coding: its formula, one code by hand, and what is lost."""

import numpy as np

from core import mu_law


def test_codes_by_hand():
    assert mu_law.encode(np.array([-1.0, 0.0, 1.0])).tolist() == [0, 128, 255]
    assert mu_law.encode(np.array([0.1]))[0] == int((np.log(1 + 25.5) / np.log(256) + 1) / 2 * 255 + 0.5) == 203
    assert mu_law.encode(np.array([-3.0, 3.0])).tolist() == [0, 255]
    np.testing.assert_allclose(mu_law.decode(np.array([128])), (256 ** (1 / 255) - 1) / 255)  # silence is not 0


def test_every_code_is_that_of_its_sample():
    codes = np.arange(256)
    samples = mu_law.decode(codes)
    assert samples.dtype == np.float32 and (np.diff(samples) > 0).all() and samples[0] == -samples[-1] == -1
    np.testing.assert_array_equal(mu_law.encode(samples), codes)


def test_the_relative_error_of_loud_samples_is_small():
    samples = np.geomspace(0.02, 1, 1_000)
    assert (np.abs(mu_law.decode(mu_law.encode(samples)) / samples - 1) < 0.03).all()
