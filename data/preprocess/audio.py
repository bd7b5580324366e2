"""Audio on the host: WAV files, and the log-mel frames that speech models read."""

import dataclasses
import functools
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Num
from scipy.io import wavfile
from scipy.signal import get_window

from core.errors import UserError

# n: samples, t: frames, m: mel bands, f: frequencies of the spectrum, d: width of a frame

WINDOW, HOP = 0.025, 0.010  # seconds; the usual values of speech recognisers
FLOOR = 1e-6  # power added before the logarithm: about 60 dB below speech
Audio = Num[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Converts audio to a model's frames: `log_mel`, each band standardised over the recording, `stack` frames joined.

    Standardisation removes the loudness of the voice and the colouring by the microphone.

    Attributes:
        rate: samples per second.
        bands: number of mel bands.
        stack: number of 10 ms frames joined into one; divides the length of a sequence.

    Raises:
        UserError: `bands` or `stack` is not positive, or `bands` exceeds the resolution of the spectrum.
    """

    rate: int = 8_000
    bands: int = 40
    stack: int = 1

    def __post_init__(self):
        for key in ("bands", "stack"):
            if getattr(self, key) < 1:
                raise UserError(f"data.audio: {key} must be at least 1, not {getattr(self, key)}")
        mel_filters(self.rate, self.bands)

    @property
    def width(self) -> int:
        """Width of a frame: bands * stack."""
        return self.bands * self.stack

    def __call__(self, audio: Audio) -> Float32[np.ndarray, "t d"]:
        """Returns the frames of samples at `rate`."""
        frames = log_mel(audio, self.rate, bands=self.bands)
        deviation = frames.std(axis=0)
        frames = (frames - frames.mean(axis=0)) / np.where(deviation > 1e-3, deviation, 1)  # 1: a silent band stays 0
        return stack_frames(frames.astype(np.float32), self.stack)

    def of_file(self, path: str | Path) -> Float32[np.ndarray, "t d"]:
        """Returns the frames of a WAV file. Raises UserError for another file type or another sampling rate."""
        audio, rate = read_wav(path)
        if rate != self.rate:
            raise UserError(f"{path} has {rate} samples per second, not {self.rate}: resample it first")
        return self(audio)


def log_mel(audio: Audio, rate: int, *, bands: int = 40) -> Float32[np.ndarray, "t m"]:
    """Returns the natural logarithm of the power in mel bands, for Hann windows of 25 ms every 10 ms.

    The first window starts at the first sample and the last one ends within the signal; a shorter signal is one window,
    padded with zeros. The signal's mean is removed; integers are scaled to fractions of their range. The FFT size is
    the next power of two above the window's size.

    Source: S. Davis and P. Mermelstein, Comparison of Parametric Representations for Monosyllabic Word Recognition,
    IEEE Transactions on Acoustics, Speech, and Signal Processing 28, 1980, without the cosine transform.
    """
    size, hop = round(WINDOW * rate), round(HOP * rate)
    audio = as_float(audio)
    audio = np.pad(audio - audio.mean(), (0, max(0, size - len(audio)))) if len(audio) else np.zeros(size, np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(audio, size)[::hop]
    spectrum = np.fft.rfft(windows * get_window("hann", size), _points(rate))
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mel = np.einsum("tf,mf->tm", power, mel_filters(rate, bands))  # @ would wake a thread pool for 1 ms of work
    return np.log(mel + FLOOR).astype(np.float32)


@functools.lru_cache(maxsize=8)
def mel_filters(rate: int, bands: int) -> Float64[np.ndarray, "m f"]:
    """Returns triangles of height 1, their corners evenly spaced in mel = 2595 log10(1 + Hz / 700) from 0 to rate / 2.

    Raises:
        UserError: a triangle lies between two frequencies of the spectrum.
    """
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    low, peak, high = (corners[i : bands + i, None] for i in range(3))
    frequencies = np.arange(_points(rate) // 2 + 1) * rate / _points(rate)
    filters = np.maximum(np.minimum((frequencies - low) / (peak - low), (high - frequencies) / (high - peak)), 0)
    if not filters.any(axis=1).all():
        raise UserError(f"data.audio: bands={bands} exceeds the spectrum's resolution at {rate} samples per second")
    return filters


def stack_frames(frames: Float32[np.ndarray, "t d"], k: int) -> Float32[np.ndarray, "s kd"]:
    """Returns groups of `k` successive frames as one row each, ceil(t / k) rows; zeros fill the last."""
    frames = np.pad(frames, ((0, -len(frames) % k), (0, 0)))
    return frames.reshape(len(frames) // k, -1)


def read_wav(path: str | Path) -> tuple[Float32[np.ndarray, "n"], int]:
    """Returns the signal of a WAV file in [-1, 1], the mean of its channels, and its samples per second.

    Raises:
        UserError: the file does not exist, or is not a WAV file.
    """
    try:
        rate, audio = wavfile.read(path)
    except FileNotFoundError:
        raise UserError(f"file {path} does not exist") from None
    except (OSError, ValueError, EOFError, struct.error) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is not a readable WAV file: {reason}") from error
    audio = as_float(audio)
    return audio if audio.ndim == 1 else audio.mean(axis=1), rate


def as_float(audio: Num[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Returns samples as float32; integers (unsigned ones relative to their middle) are scaled to [-1, 1]."""
    if audio.dtype.kind == "f":
        return audio.astype(np.float32)
    half = 2.0 ** (8 * audio.dtype.itemsize - 1)
    middle = half if audio.dtype.kind == "u" else 0
    return ((audio.astype(np.float64) - middle) / half).astype(np.float32)


def _points(rate: int) -> int:
    return 1 << (round(WINDOW * rate) - 1).bit_length()
