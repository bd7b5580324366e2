"""Normalisation: x' = (x - mean) / std per channel."""

import dataclasses
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Array, Float

from core.errors import nearest
from core.info import PIXELS, Info
from data.augment.op import Batch, Keys, Op


@dataclasses.dataclass(frozen=True)
class Normalise(Op):
    """Subtracts the mean and divides by the standard deviation of the training split, in training and evaluation.

    Attributes:
        keys: batch keys; () = every image, volume and video with statistics, which may be none.
        mean, std: given statistics, one number or one per channel; () = of the training split.
        start: takes the statistics of the run or the published weights in `config.init_from`, which expect them.
    """

    keys: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    start: bool = False

    when: ClassVar[Literal["train", "always"]] = "always"

    def __post_init__(self) -> None:
        if bool(self.mean) != bool(self.std) or (self.mean and self.start):
            self.refuse("give both mean and std, or start, or none of them")

    @property
    def from_start(self) -> bool:
        return self.start

    def bind(self, info: Info) -> "Op":
        bound = super().bind(info)
        for key in self.keys:
            if key not in info.keys:
                self.refuse(f"{info.name} has no key {key!r}: {nearest(key, info.keys)}")
            if not (self.mean or info.keys[key].statistics):
                self.refuse(f"{key!r} of {info.name} has no statistics: give mean and std")
        for key in bound.normalised:
            for name, numbers in bound.statistics(key).items():
                if numbers.shape not in ((), (1,), info.keys[key].shape[-1:]):
                    self.refuse(f"{name} has {len(numbers)} numbers, but {key!r} the shape {info.keys[key].shape}")
        return bound

    @property
    def normalised(self) -> list[str]:
        """The keys of the data set that the op changes."""
        found = [key for key in self.keys_of(*PIXELS) if self.mean or self.info.keys[key].statistics]
        return list(self.keys) or found

    def statistics(self, key: str) -> dict[str, Float[np.ndarray, "..."]]:
        """Returns "mean" and "std", each one number or one per channel."""
        given = {"mean": self.mean, "std": self.std} if self.mean else self.info.keys[key].statistics
        return {name: np.asarray(given[name], np.float32) for name in ("mean", "std")}

    def __call__(self, keys: Keys, batch: Batch) -> Batch:
        del keys
        present = [key for key in self.normalised if key in batch]  # new inputs lack the answers
        return batch | {key: _normalised(batch[key], **self.statistics(key)) for key in present}


def _normalised(
    x: Float[Array | np.ndarray, "..."], mean: Float[np.ndarray, "..."], std: Float[np.ndarray, "..."]
) -> Float[Array | np.ndarray, "..."]:
    return (x - mean) / np.where(std > 0, std, 1)  # a channel that never varies is only centred
