"""Mu-law coding of sounds (ITU-T G.711 with mu = 255; WaveNet, arXiv 1609.03499, section 2.2): 256 codes."""

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

CODES = 256
MU = CODES - 1


def encode(samples: Float[np.ndarray, "*n"]) -> Int32[np.ndarray, "*n"]:
    """Returns the code, 0 to 255, of each sample in [-1, 1]; samples beyond are cut off. Silence has the code 128."""
    samples = np.clip(np.asarray(samples, np.float64), -1, 1)
    compressed = np.sign(samples) * np.log1p(MU * np.abs(samples)) / np.log1p(MU)
    return np.floor((compressed + 1) / 2 * MU + 0.5).astype(np.int32)


def decode(codes: Int[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """Returns the sample that each code stands for."""
    compressed = 2 * np.asarray(codes, np.float64) / MU - 1
    return (np.sign(compressed) * np.expm1(np.abs(compressed) * np.log1p(MU)) / MU).astype(np.float32)
