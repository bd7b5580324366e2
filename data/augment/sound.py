"""Augmentation of sound: standardised spectra under the role "frames", [t, d], with `<key>_lengths` real frames, or
without this key all of them.

A frame holds one spectrum or several stacked ones, d = stacked * bands.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from core.info import Info
from data.augment.op import Batch, Keys, Number, Op, Rng

# t: frames

Spectra = Float[Array, "t stacked bands"]


@dataclasses.dataclass(frozen=True)
class _Sound(Op):
    """Changes the spectra of each example by `change`. `bands`: number of bands of one spectrum."""

    bands: int

    def bind(self, info: Info) -> "Op":
        bound = super().bind(info)
        bound.check_roles("frames")
        for key in bound.keys_of("frames"):
            width = info.keys[key].shape[-1]
            if width % self.bands:
                self.refuse(f"bands={self.bands}: the width of {key!r}, {width}, is not a multiple of bands")
        return bound

    def __call__(self, keys: Keys, batch: Batch) -> Batch:
        changed = {}
        for key in self.keys_of("frames"):
            frames = batch[key]
            spectra = frames.reshape(*frames.shape[:2], -1, self.bands)
            lengths = batch.get(f"{key}_lengths", jnp.full(*frames.shape[:2]))
            changed[key] = jax.vmap(self.change)(keys, spectra, lengths).reshape(frames.shape)
        return batch | changed

    def change(self, key: Rng, spectra: Spectra, length: Int[Array, ""]) -> Spectra:
        """Returns the changed spectra of one example with `length` real frames."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class SpecAugment(_Sound):
    """Sets blocks of bands and of frames to zero, the mean of standardised spectra (Park et al. 2019, SpecAugment,
    arXiv 1904.08779, sec. 2, without time warping).

    Attributes:
        frequency, time: largest width of a block, in bands or frames; widths are drawn uniformly from 0.
        masks: number of blocks per kind.
    """

    frequency: int = 8
    time: int = 10
    masks: int = 2

    def __post_init__(self) -> None:
        self.check_range(bands=(1, None), frequency=(0, self.bands), time=(0, None), masks=(1, None))

    def change(self, key: Rng, spectra: Spectra, length: Int[Array, ""]) -> Spectra:
        for mask_key in jax.random.split(key, self.masks):
            band_key, frame_key = jax.random.split(mask_key)
            hidden_bands = _block(band_key, self.bands, jnp.array(self.bands), self.frequency)
            hidden_frames = _block(frame_key, len(spectra), length, self.time)
            spectra = jnp.where(hidden_bands | hidden_frames[:, None, None], 0, spectra)
        return spectra


@dataclasses.dataclass(frozen=True)
class VocalTract(_Sound):
    """Stretches each example's spectra along the bands by one factor from 1 - `most` to 1 + `most`, which simulates a
    shorter or longer vocal tract (Jaitly and Hinton 2013, "Vocal Tract Length Perturbation improves speech
    recognition").
    """

    most: Number = 0.15

    def __post_init__(self) -> None:
        self.check_range(bands=(2, None), most=(0, 0.9))

    def change(self, key: Rng, spectra: Spectra, length: Int[Array, ""]) -> Spectra:
        del length
        factor = jax.random.uniform(key, (), minval=1 - self.most, maxval=1 + self.most)
        place = jnp.minimum(jnp.arange(self.bands) * factor, self.bands - 1)
        below = jnp.minimum(place.astype(int), self.bands - 2)
        weight = place - below
        return (1 - weight) * spectra[..., below] + weight * spectra[..., below + 1]


def _block(key: Rng, size: int, extent: Int[Array, ""], most: int) -> Bool[Array, " size"]:
    """Returns a block of 0 to `most` positions at a random place below `extent`."""
    width_key, start_key = jax.random.split(key)
    width = jax.random.randint(width_key, (), 0, most + 1)
    start = jax.random.randint(start_key, (), 0, jnp.maximum(extent - width, 0) + 1)
    distance = jnp.arange(size) - start
    return (distance >= 0) & (distance < width)
