"""Ops on the samples of a sound: waves of one length, and the codes that WaveNet reads.

n: samples, m: samples at another rate
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Int32, Num

from core import mu_law
from core.errors import UserError
from core.info import Key
from core.names import snake_case
from core.vocabulary import Vocabulary
from data.preprocess.op import Chunk, Examples, Keys, Op, check_keys
from data.sources.sounds import as_float, resample

BOUNDARY = mu_law.CODES  # the token before and after a sound
Audio = Num[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class _Waves(Op):
    """Base class of ops on `audio`.

    Attributes:
        rate: samples per second; audio of another rate is resampled.
    """

    stored: ClassVar[bool] = True

    rate: int = 8_000

    def __post_init__(self):
        if self.rate < 1:
            raise UserError(f"rate must be at least 1, not {self.rate}")

    def fit(self, splits: Mapping[str, Examples], keys: Keys) -> dict[str, int]:
        """Returns the rate of `audio`, `self.rate` if the set does not tell it."""
        check_keys(snake_case(type(self).__name__), ["audio"], keys, ("wave",))
        return {"rate": keys["audio"].statistics.get("rate", self.rate)}

    def samples(self, audio: Audio, state: dict[str, int]) -> Float32[np.ndarray, "m"]:
        """Returns the samples at `self.rate`."""
        return resample(as_float(audio), state["rate"], self.rate)


@dataclasses.dataclass(frozen=True)
class Waveform(_Waves):
    """Turns `audio` into float32 [length]: the first samples, at unit power over the recording, then zeros.

    Attributes:
        length: number of samples of every example.
    """

    length: int = 8_000

    def __post_init__(self):
        super().__post_init__()
        if self.length < 1:
            raise UserError(f"length must be at least 1, not {self.length}")

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({"audio"})

    def __call__(self, chunk: Chunk, state: dict[str, int]) -> Chunk:
        if "audio" not in chunk:
            return chunk
        return chunk | {"audio": [self.wave(audio, state) for audio in chunk["audio"]]}

    def wave(self, audio: Audio, state: dict[str, int]) -> Float32[np.ndarray, "length"]:
        """Returns the samples of one sound."""
        samples = self.samples(audio, state)
        samples = samples - samples.mean() if len(samples) else samples
        power = np.sqrt(np.square(samples).mean()) if len(samples) else 0.0
        samples = samples[: self.length] / np.float32(max(power, 1e-4))  # silence stays silent
        return np.pad(samples, (0, self.length - len(samples)))

    def describe(self, keys: Keys, state: dict[str, int]) -> Keys:
        return keys | {"audio": Key(role="wave", statistics={"rate": self.rate})}


@dataclasses.dataclass(frozen=True)
class MuLaw(_Waves):
    """Turns `audio` into `codes` int32 [n + 2]: its samples by mu-law coding, between two boundary tokens (256)."""

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({"audio", "codes"})

    def __call__(self, chunk: Chunk, state: dict[str, int]) -> Chunk:
        if "audio" not in chunk:
            return chunk
        codes = [self.codes(audio, state) for audio in chunk["audio"]]
        return {key: values for key, values in chunk.items() if key != "audio"} | {"codes": codes}

    def codes(self, audio: Audio, state: dict[str, int]) -> Int32[np.ndarray, "m"]:
        """Returns the tokens of one sound."""
        return np.pad(mu_law.encode(self.samples(audio, state)), 1, constant_values=BOUNDARY)

    def describe(self, keys: Keys, state: dict[str, int]) -> Keys:
        vocabulary = Vocabulary(mu_law.CODES + 1, bos=BOUNDARY, eos=BOUNDARY)
        record = Key(role="tokens", vocabulary=vocabulary, statistics={"rate": self.rate}, ragged=True)
        return {key: other for key, other in keys.items() if key != "audio"} | {"codes": record}
