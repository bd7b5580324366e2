"""Procedural sounds: tones whose frequency stays, rises, falls or swings."""

import numpy as np
import tensorflow_datasets as tfds

from data.builders.sequences import Columns, Procedural, of_lengths

RATE = 8_000  # samples per second
KINDS = ("steady", "rising", "falling", "swinging")
LOWEST, HIGHEST = 200.0, 1_600.0  # Hz
NOISE = 0.02  # standard deviation, relative to the tone's amplitude


class Tones(Procedural, skip_registration=True):
    """Tones and chirps, `tones/T`: `audio` int16 [T] at 8 kHz, `label`, one of four kinds.

    The frequency stays at f0, rises or falls exponentially between f0 and 2 f0, or swings around f0 by a third with a
    period of T / 2 samples. f0 is drawn between 200 and 800 Hz, evenly in its logarithm, the amplitude between 0.2 and
    0.8 of the range; faint noise is added. A stretch of few samples does not tell the kind. 2,000 for training, 200
    and 200.

    Source: generated: no licence.
    """

    name = "tones"
    BUILDER_CONFIGS = of_lengths(512, 1024, 2048)
    SIZES = {"train": 2_000, "validation": 200, "test": 200}

    def _info(self) -> tfds.core.DatasetInfo:
        audio = tfds.features.Tensor(shape=(self.builder_config.length,), dtype=np.int16, encoding="bytes")
        return self._described({"audio": audio, "label": tfds.features.ClassLabel(names=KINDS)})

    def _draw(self, random: np.random.Generator, size: int) -> Columns:
        time = np.linspace(0, 1, self.builder_config.length)
        label = np.arange(size) % len(KINDS)
        start = LOWEST * (HIGHEST / 2 / LOWEST) ** random.random((size, 1))
        phase = random.random((size, 1))
        octaves = np.stack([0 * time, time, 1 - time])[np.minimum(label, 2)]
        swing = np.log2(1 + np.sin(2 * np.pi * (2 * time + phase)) / 3)
        frequency = start * 2 ** np.where(label[:, None] == KINDS.index("swinging"), swing, octaves)
        angle = 2 * np.pi * (np.cumsum(frequency, axis=1) / RATE + random.random((size, 1)))
        amplitude = random.uniform(0.2, 0.8, (size, 1))
        audio = amplitude * (np.sin(angle) + NOISE * random.standard_normal(angle.shape))
        return {"audio": np.round(audio * np.iinfo(np.int16).max).astype(np.int16), "label": label}
