"""WAV files as arrays.

n: samples, m: samples at another rate
"""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Num

from core.errors import UserError
from data.sources.files import reason

SOUND_SUFFIXES = (".wav",)
Audio = Float32[np.ndarray, "n"]


def read_sound(path: str | Path, rate: int | None = None) -> Audio:
    """Returns the signal of a WAV file at `rate` samples per second, None keeps its own; else as `read_wav`."""
    audio, own = read_wav(path)
    return resample(audio, own, rate or own)


def read_wav(path: str | Path) -> tuple[Audio, int]:
    """Returns the signal of a WAV file in [-1, 1], the mean of its channels, and its samples per second.

    Raises:
        UserError: the file does not exist, is not a WAV file, or has values that are not finite.
    """
    from scipy.io import wavfile  # imported where it is used: a start with other data does not wait for SciPy

    try:
        rate, audio = wavfile.read(path)
    except FileNotFoundError:
        raise UserError(f"file {path} does not exist") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is not a readable WAV file: {reason(error)}") from error
    except Exception as error:  # SciPy raises many other kinds
        raise UserError(f"{path} is not a readable WAV file: its header is damaged") from error
    if rate < 1:
        raise UserError(f"{path} is not a readable WAV file: its rate is {rate}")
    audio = as_float(audio)
    if not np.isfinite(audio).all():
        raise UserError(f"{path} has samples that are NaN or infinite")
    return audio if audio.ndim == 1 else audio.mean(axis=1), rate


def resample(audio: Audio, rate: int, new: int) -> Float32[np.ndarray, "m"]:
    """Returns a signal at another number of samples per second, by a polyphase filter that removes what aliases."""
    if rate == new or not len(audio):
        return audio
    from scipy.signal import resample_poly

    divisor = math.gcd(rate, new)
    return resample_poly(audio, new // divisor, rate // divisor).astype(np.float32)


def as_float(audio: Num[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Returns samples as float32; integers (unsigned ones relative to their middle) are scaled to [-1, 1]."""
    if audio.dtype.kind == "f":
        return audio.astype(np.float32)
    half = 2.0 ** (8 * audio.dtype.itemsize - 1)
    middle = half if audio.dtype.kind == "u" else 0
    return ((audio.astype(np.float64) - middle) / half).astype(np.float32)
