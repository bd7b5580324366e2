"""Ops on sounds: sound files named by a column, and the log-mel frames that speech models read.

n: samples, t: frames, m: mel bands, f: frequencies of the spectrum, d: width of a frame
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Float64, Num

from core.errors import UserError
from core.info import Key
from data.preprocess.op import FOLDER, Chunk, Examples, Keys, Op, check_keys
from data.preprocess.paths import check_paths, paths
from data.sources.sounds import as_float, read_sound, resample

WINDOW, HOP = 0.025, 0.010  # seconds; the usual values of speech recognisers
FLOOR = 1e-6  # power added before the logarithm: about 60 dB below speech
Audio = Num[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class ReadSound(Op):
    """Turns the column `key`, paths of WAV files, into `audio` float32 [n], resampled to `rate` samples per second.

    Relative paths resolve against the folder of the table.
    """

    key: str
    rate: int = 16_000

    def __post_init__(self):
        if self.rate < 1:
            raise UserError(f"rate must be at least 1, not {self.rate}")

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({self.key, FOLDER, "audio"})

    @property
    def opens(self) -> tuple[str, str]:
        return self.key, "wave"

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> None:
        check_paths("read_sound", self.key, splits, keys)

    def __call__(self, chunk: Chunk, state: None) -> Chunk:
        if self.key not in chunk:
            return chunk
        sounds = [read_sound(path, self.rate) for path in paths(chunk, self.key)]
        return {key: values for key, values in chunk.items() if key != self.key} | {"audio": sounds}

    def describe(self, keys: Keys, state: None) -> Keys:
        record = Key(role="wave", ragged=True, statistics={"rate": self.rate})
        return {key: record for key, record in keys.items() if key != self.key} | {"audio": record}


@dataclasses.dataclass(frozen=True)
class LogMel(Op):
    """Turns `audio` into `frames` [t, d]: `log_mel`, each band standardised over the recording, `stack` frames joined.

    Standardisation removes the loudness of the voice and the colouring by the microphone.

    Attributes:
        rate: samples per second; audio of another rate is resampled.
        bands: number of mel bands.
        stack: number of 10 ms frames joined into one; divides the length of a sequence.

    Raises:
        UserError: `bands` or `stack` is not positive, or `bands` exceeds the resolution of the spectrum.
    """

    stored: ClassVar[bool] = True

    rate: int = 8_000
    bands: int = 40
    stack: int = 1

    def __post_init__(self):
        for key in ("rate", "bands", "stack"):
            if getattr(self, key) < 1:
                raise UserError(f"{key} must be at least 1, not {getattr(self, key)}")
        mel_filters(self.rate, self.bands)

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({"audio", "frames"})

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> dict[str, int]:
        """Returns the rate of `audio`, `self.rate` if the set does not tell it."""
        check_keys("log_mel", ["audio"], keys, ("wave",))
        return {"rate": keys["audio"].statistics.get("rate", self.rate)}

    def __call__(self, chunk: Chunk, state: dict[str, int]) -> Chunk:
        if "audio" not in chunk:
            return chunk
        frames = [self.frames(audio, state["rate"]) for audio in chunk["audio"]]
        return {key: values for key, values in chunk.items() if key != "audio"} | {"frames": frames}

    def frames(self, audio: Audio, rate: int) -> Float32[np.ndarray, "t d"]:
        """Returns the frames of samples at `rate`."""
        if rate != self.rate:
            audio = resample(as_float(audio), rate, self.rate)
        frames = log_mel(audio, self.rate, bands=self.bands)
        deviation = frames.std(axis=0)
        frames = (frames - frames.mean(axis=0)) / np.where(deviation > 1e-3, deviation, 1)  # 1: a silent band stays 0
        return stack_frames(frames.astype(np.float32), self.stack)

    def describe(self, keys: Keys, state: dict[str, int]) -> Keys:
        others = {key: record for key, record in keys.items() if key != "audio"}
        return others | {"frames": Key(role="frames", ragged=keys["audio"].ragged)}


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
    from scipy.signal import get_window  # imported where it is used: other data do not wait for SciPy

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
        raise UserError(f"bands={bands} exceeds the spectrum's resolution at {rate} samples per second")
    return filters


def stack_frames(frames: Float32[np.ndarray, "t d"], k: int) -> Float32[np.ndarray, "s kd"]:
    """Returns groups of `k` successive frames as one row each, ceil(t / k) rows; zeros fill the last."""
    frames = np.pad(frames, ((0, -len(frames) % k), (0, 0)))
    return frames.reshape(len(frames) // k, -1)


def _points(rate: int) -> int:
    return 1 << (round(WINDOW * rate) - 1).bit_length()
