"""Augmentation of the samples of sounds: the role "wave", [n].

n: samples
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from core.info import Info
from data.augment.op import Batch, Keys, Number, Op, Rng

Wave = Float[Array, "n"]


@dataclasses.dataclass(frozen=True)
class _Wave(Op):
    """Changes each wave by `change`."""

    def bind(self, info: Info) -> "Op":
        bound = super().bind(info)
        bound.check_roles("wave")
        return bound

    def __call__(self, keys: Keys, batch: Batch) -> Batch:
        return batch | {key: jax.vmap(self.change)(keys, batch[key]) for key in self.keys_of("wave")}

    def change(self, key: Rng, wave: Wave) -> Wave:
        """Returns the changed wave of one example."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Speed(_Wave):
    """Plays each wave from 1 - `most` to 1 + `most` times as fast, which also moves its pitch (Ko et al. 2015, "Audio
    augmentation for speech recognition"). Zeros follow a faster wave; the end of a slower one is lost.
    """

    most: Number = 0.1

    def __post_init__(self) -> None:
        self.check_range(most=(0, 0.9))

    def change(self, key: Rng, wave: Wave) -> Wave:
        factor = jax.random.uniform(key, (), minval=1 - self.most, maxval=1 + self.most)
        place = jnp.arange(len(wave)) * factor
        below = place.astype(int)
        weight = place - below
        return (1 - weight) * _at(wave, below) + weight * _at(wave, below + 1)


@dataclasses.dataclass(frozen=True)
class Delay(_Wave):
    """Starts each wave up to `most` of its length later. Zeros precede it, and its end is lost."""

    most: Number = 0.1

    def __post_init__(self) -> None:
        self.check_range(most=(0, 0.9))

    def change(self, key: Rng, wave: Wave) -> Wave:
        start = jax.random.randint(key, (), 0, round(self.most * len(wave)) + 1)
        return _at(wave, jnp.arange(len(wave)) - start)


def _at(wave: Wave, place: Int[Array, "n"]) -> Wave:
    """Returns the samples at the places, 0 outside the wave."""
    inside = (place >= 0) & (place < len(wave))
    return jnp.where(inside, wave[jnp.clip(place, 0, len(wave) - 1)], 0)
