"""Sounds, sample by sample: the likelihood of recorded ones, and new ones that are drawn."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from core import mu_law
from core.errors import UserError
from core.info import Info
from core.vocabulary import Vocabulary
from tasks.sequence import TokenClassification
from tasks.task import Task


@dataclasses.dataclass(frozen=True)
class SoundGeneration(TokenClassification):
    """Trains a network on the codes of sounds, and draws new sounds for given conditions, such as a class.

    `bits_per_token` is the measure of the literature, bits per sample; the token after the end counts as one.

    Attributes:
        conditions: batch keys that a sound depends on.
        max_length: of a new sound, in samples.
        beams: 0 draws every sample from the model's distribution; see `tasks.generation`.
        vocabulary, rate: of the codes, and samples per second; filled in by `bind`.
    """

    inputs: tuple[str, ...] = ("label", "codes")
    target: str = "codes"
    shift: int = 1
    conditions: tuple[str, ...] = ("label",)
    max_length: int = 16_000
    beams: int = 0
    vocabulary: Vocabulary | None = None
    rate: int = 0

    generates: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        self.check_range(max_length=(1, None), beams=(0, None), rate=(0, None))

    @property
    def keys(self) -> tuple[str, ...]:
        return (*super().keys, *self.conditions)

    def bind(self, info: Info) -> Task:
        record = info.keys[self.target]
        rate = record.statistics.get("rate")
        if record.vocabulary is None or not rate:
            raise UserError(f"{self.target!r} of {info.name} does not hold codes of a sound: add the op mu_law()")
        return dataclasses.replace(super().bind(info), vocabulary=record.vocabulary, rate=rate)

    def row(self, example: Mapping[str, Any], prediction: Mapping[str, Any], info: Info) -> dict:
        """Returns the length of the sound."""
        return {"prediction": f"{len(self.sound(prediction)) / self.rate:.2f} s"}

    def sound(self, prediction: Mapping[str, Any]) -> Float32[np.ndarray, " n"]:
        """Returns the samples of one generated sound, in [-1, 1]."""
        codes = np.asarray(prediction["prediction"])
        ends = np.flatnonzero(codes == self.vocabulary.eos)
        codes = codes[: ends[0]] if len(ends) else codes
        return mu_law.decode(codes[codes < mu_law.CODES])
