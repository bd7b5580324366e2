"""Augmentation of the pixels of images, float32 [h, w, c] in [0, 1], which they stay in: colours and hidden parts.

Single operations come from dm-pix where it implements the published one. RandAugment samples the nearest pixel, as the
published code does: dm-pix's linear interpolation is 50 times slower on a CPU.
"""

import dataclasses
from functools import partial
from typing import ClassVar

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from core.info import Info
from data.augment.op import Batch, Keys, Number, Op, Rng

# h: height, w: width, c: channels

Image = Float[Array, "h w c"]

GREY = 0.5  # fills blank pixels, as in the published code, which fills with the data's mean


class _Pixels(Op):
    """Changes each image by `change`. `hides`: the op moves or hides parts, and refuses other spatial keys."""

    hides: ClassVar[bool] = False

    def bind(self, info: Info) -> "Op":
        bound = super().bind(info)
        bound.check_roles("image")
        if self.hides:
            bound.check_unmoved("image")
        return bound

    def __call__(self, keys: Keys, batch: Batch) -> Batch:
        return batch | {key: jax.vmap(self.change)(keys, batch[key]) for key in self.keys_of("image")}

    def change(self, key: Rng, image: Image) -> Image:
        """Returns the changed image of one example."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Cutout(_Pixels):
    """Fills a square of side `size` centred on a random pixel; edges cut it off (Cutout, 1708.04552).

    The paper's sides: 16 for CIFAR-10, 8 for CIFAR-100, 20 for SVHN.
    """

    size: int = 8
    fill: Number = GREY

    hides: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check_range(size=(1, None), fill=(0, 1))

    def change(self, key: Rng, image: Image) -> Image:
        side = jnp.array(self.size)
        return jnp.where(rectangle(key, image.shape[:2], side, side)[..., None], self.fill, image)


@dataclasses.dataclass(frozen=True)
class Shuffle(_Pixels):
    """Moves the patches of side `patch`, and the pixels of each patch, in the same way in all images, in evaluation too
    (MLP-Mixer, 2105.01601, section 3.4). With `patch=1` all pixels change places.

    Args:
        seed: of the permutations.
    """

    patch: int = 1
    seed: int = 0

    when: ClassVar[str] = "always"
    hides: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check_range(patch=(1, None), seed=(0, None))

    def change(self, key: Rng, image: Image) -> Image:
        height, width, _ = image.shape
        if height % self.patch or width % self.patch:
            self.refuse(f"patches of {self.patch} x {self.patch} do not fill images of {height} x {width}")
        rng, size = np.random.default_rng(self.seed), self.patch
        patches = rearrange(image, "(h p) (w q) c -> (h w) (p q) c", p=size, q=size)
        patches = patches[rng.permutation(len(patches))][:, rng.permutation(size * size)]
        return rearrange(patches, "(h w) (p q) c -> (h p) (w q) c", h=height // size, p=size)


@dataclasses.dataclass(frozen=True)
class RandomErasing(_Pixels):
    """Fills a random rectangle with noise, with a probability (Random Erasing, 1708.04896, algorithm 1).

    Attributes:
        area: least and largest area of the rectangle, in fractions of the image.
        ratio: least width / height; the largest is its inverse, and the logarithm is drawn uniformly, unlike the paper.
    """

    probability: Number = 0.25
    area: tuple[float, float] = (0.02, 0.4)
    ratio: Number = 0.3

    hides: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check_range(probability=(0, 1), ratio=(1e-3, 1))
        if not 0 < self.area[0] <= self.area[1] <= 1:
            self.refuse(f"area must be (least, largest) above 0 up to 1, not {self.area}")

    def change(self, key: Rng, image: Image) -> Image:
        erased, area, ratio, place, noise = jax.random.split(key, 5)
        pixels = (
            jax.random.uniform(area, (), minval=self.area[0], maxval=self.area[1]) * image.shape[0] * image.shape[1]
        )
        stretch = jnp.exp(jax.random.uniform(ratio, (), minval=-1, maxval=1) * jnp.log(self.ratio) / 2)
        height, width = (jnp.round(jnp.sqrt(pixels) * factor).astype(int) for factor in (1 / stretch, stretch))
        hidden = rectangle(place, image.shape[:2], height, width) & jax.random.bernoulli(erased, self.probability)
        return jnp.where(hidden[..., None], jax.random.uniform(noise, image.shape), image)


@dataclasses.dataclass(frozen=True)
class ColorJitter(_Pixels):
    """Scales brightness, contrast and saturation by factors in 1 +- strength; turns the hue by +-`hue` of a circle.

    The colour distortion of SimCLR (2002.05709, appendix A), in this order. Saturation and hue change images with three
    channels only.
    """

    brightness: Number = 0.4
    contrast: Number = 0.4
    saturation: Number = 0.4
    hue: Number = 0.1

    def __post_init__(self) -> None:
        self.check_range(brightness=(0, 1), contrast=(0, 1), saturation=(0, 1), hue=(0, 0.5))

    def change(self, key: Rng, image: Image) -> Image:
        draws = jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
        image = image * (1 + self.brightness * draws[0])
        image = jnp.clip(pix.adjust_contrast(image, 1 + self.contrast * draws[1]), 0, 1)
        if image.shape[-1] == 3 and self.saturation:
            image = pix.adjust_saturation(image, 1 + self.saturation * draws[2])
        if image.shape[-1] == 3 and self.hue:
            image = pix.adjust_hue(image, self.hue * draws[3])
        return jnp.clip(image, 0, 1)


@dataclasses.dataclass(frozen=True)
class RandAugment(_Pixels):
    """Applies operations drawn uniformly per example from the paper's 14 (RandAugment, 1909.13719, figure 2).

    Attributes:
        num_ops: N of the paper, at least 1.
        magnitude: M of the paper, 0 to 10: the strength of every operation. Directed operations draw a random sign.
        fill: the value of pixels that come from outside the image.
    """

    num_ops: int = 2
    magnitude: Number = 9
    fill: Number = GREY

    hides: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check_range(num_ops=(1, None), magnitude=(0, 10), fill=(0, 1))

    def change(self, key: Rng, image: Image) -> Image:
        for layer in jax.random.split(key, self.num_ops):
            image = _random_operation(layer, image, self.magnitude / 10, self.fill)
        return image


def rectangle(key: Rng, size: tuple[int, int], height: Int[Array, ""], width: Int[Array, ""]) -> Bool[Array, "h w"]:
    """Returns the pixels inside a rectangle around a random pixel; edges cut it off."""

    def inside(key: Rng, size: int, extent: Int[Array, ""]) -> Bool[Array, " side"]:
        distance = jnp.arange(size) - jax.random.randint(key, (), 0, size) + extent // 2
        return (distance >= 0) & (distance < extent)

    row_key, column_key = jax.random.split(key)
    return inside(row_key, size[0], height)[:, None] & inside(column_key, size[1], width)


def _random_operation(key: Rng, image: Image, strength: Number, fill: Number) -> Image:
    """Applies one of RandAugment's operations. Geometry is always resampled once, with the identity matrix for most."""
    choice_key, sign_key = jax.random.split(key)
    choice = jax.random.randint(choice_key, (), 0, 1 + len(_GEOMETRY) + len(_COLOR))  # 0: identity
    signed = strength * jax.random.rademacher(sign_key, (), jnp.float32)
    moved = _GEOMETRY * signed * jax.nn.one_hot(choice - 1, len(_GEOMETRY))
    rotate, shear_x, shear_y, translate_x, translate_y = moved
    cos, sin = jnp.cos(rotate), jnp.sin(rotate)
    matrix = jnp.array([[cos, sin + shear_y, 0], [shear_x - sin, cos, 0], [0, 0, 1]])
    center = (jnp.array(image.shape) - 1) / 2
    shift = jnp.array([translate_y * image.shape[0], translate_x * image.shape[1], 0])
    offset = center - matrix @ center + shift
    image = pix.affine_transform(image, matrix, offset=offset, order=0, mode="constant", cval=fill)
    colors = [lambda image: image, *(partial(color, strength=strength, signed=signed) for color in _COLOR)]
    return jax.lax.switch(jnp.maximum(choice - len(_GEOMETRY), 0), colors, image)


# At full strength: rotate (radians), shear x, shear y, translate x, translate y (share of the side): AutoAugment's
# ranges (1805.09501), on which RandAugment builds.
_GEOMETRY = np.array([np.pi / 6, 0.3, 0.3, 0.45, 0.45], np.float32)

# The colour operations share one signature; each reads the strength in [0, 1], its signed draw, or neither.
Signed = Float[Array, ""]


def _enhance(degenerate: Float[Array, "..."], image: Image, signed: Signed) -> Image:
    """Removes (signed < 0) or exaggerates (signed > 0) up to 0.9 of the difference to a degenerate image."""
    return jnp.clip(degenerate + (1 + 0.9 * signed) * (image - degenerate), 0, 1)


def _luma(image: Image) -> Float[Array, "h w _"]:
    return pix.rgb_to_grayscale(image) if image.shape[-1] == 3 else image


def _auto_contrast(image: Image, *, strength: float, signed: Signed) -> Image:
    low, high = image.min((0, 1)), image.max((0, 1))
    return jnp.where(high > low, (image - low) / jnp.where(high > low, high - low, 1), image)


def _equalize(image: Image, *, strength: float, signed: Signed) -> Image:
    """Flattens each channel's histogram of 256 levels, by PIL's table."""

    def one_channel(level: Int[Array, "h w"]) -> Int[Array, "h w"]:
        histogram = jnp.zeros(256, int).at[level].add(1)
        step = (level.size - histogram[level.max()]) // 255
        table = (jnp.cumsum(histogram) - histogram + step // 2) // jnp.maximum(step, 1)
        return jnp.where(step > 0, jnp.minimum(table, 255)[level], level)

    levels = jnp.round(image * 255).astype(int)
    return jax.vmap(one_channel, in_axes=-1, out_axes=-1)(levels) / 255


def _solarize(image: Image, *, strength: float, signed: Signed) -> Image:
    return pix.solarize(image, (1 - strength) * 256 / 255)  # at strength 0 even white is not inverted


def _posterize(image: Image, *, strength: float, signed: Signed) -> Image:
    step = 2 ** round(4 * strength)  # drops up to 4 of 8 bits
    return jnp.round(image * 255) // step * step / 255


def _color(image: Image, *, strength: float, signed: Signed) -> Image:
    return _enhance(_luma(image), image, signed)


def _contrast(image: Image, *, strength: float, signed: Signed) -> Image:
    return _enhance(_luma(image).mean(), image, signed)


def _brightness(image: Image, *, strength: float, signed: Signed) -> Image:
    return _enhance(jnp.zeros(()), image, signed)


def _sharpness(image: Image, *, strength: float, signed: Signed) -> Image:
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    neighbours = jax.lax.reduce_window(padded, 0.0, jax.lax.add, (3, 3, 1), (1, 1, 1), "valid")
    return _enhance((neighbours + 4 * image) / 13, image, signed)


_COLOR = (_auto_contrast, _equalize, _solarize, _posterize, _color, _contrast, _brightness, _sharpness)
