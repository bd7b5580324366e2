"""Augmentation on the device: the factories below return pure functions `op(rng, batch) -> batch`.

They run inside the train step, before normalisation. `rng` is one key; each example draws from its own key. Images are
float32 [b, h, w, c] in [0, 1] under "image" and stay in that range; audio is standardised spectra, float32 [b, t, d]
under "frames", with `frames_lengths` [b] real frames. Examples whose `mask` is 0 are padding: they are never mixed
into real ones. Under data parallelism an op sees, and mixes within, the local batch.

Single-image operations come from dm-pix where it implements the published one. Geometric operations sample the nearest
pixel, as the published code does: dm-pix's linear interpolation is 50 times slower on a CPU.
"""

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from core.errors import UserError

# b batch, h height, w width, c channels, t frames
Image = Float[Array, "h w c"]
Images = Float[Array, "b h w c"]
Spectrum = Float[Array, "t stacked bands"]
PerExample = Float[Array, "b"]
Rng = Key[Array, ""]
Batch = dict[str, Any]
Number = int | float

GREY = 0.5  # fills blank pixels: the published code fills with the data's mean, which is unknown here


@dataclasses.dataclass(frozen=True)
class Op:
    """One augmentation, called as `op(rng, batch) -> batch`.

    keys: the batch keys that the op changes; the batch must have at least one of them.
    mixes: the op blends pairs of examples and their labels; a pipeline may contain one such op.
    moves: the op moves, hides or replaces parts of images but not the spatial targets of a batch, so it refuses these.
    """

    name: str
    keys: tuple[str, ...]
    apply: Callable[[Rng, Batch], Batch]
    mixes: bool = False
    moves: bool = False

    def __call__(self, rng: Rng, batch: Batch) -> Batch:
        """Raises UserError if the batch has none of `keys`, or a spatial target that the op leaves in place."""
        if not any(key in batch for key in self.keys):
            keys = " or ".join(self.keys)
            raise UserError(f"augment: {self.name} works on {keys}; this batch has {', '.join(sorted(batch))}")
        if self.moves and (spatial := [key for key in batch if _is_spatial(key, batch)]):
            raise UserError(f"augment: {self.name} changes the image, but not its spatial target {', '.join(spatial)}")
        return self.apply(rng, batch)


def flip() -> Op:
    """Mirrors left and right with probability 1/2."""

    def apply(rng: Rng, images: Images) -> Images:
        mirrored = jax.random.bernoulli(rng, shape=(len(images), 1, 1, 1))
        return jnp.where(mirrored, pix.flip_left_right(images), images)

    return _on_images("flip", apply, moves=True)


def padded_crop(padding: int = 4) -> Op:
    """Pads each side with `padding` black pixels and crops the original size at random (ResNet, 1512.03385, 4.2)."""
    _check("padded_crop", padding=(padding, 1, None))

    def crop(key: Rng, image: Image) -> Image:
        padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        return pix.random_crop(key, padded, image.shape)

    return _on_images("padded_crop", _each(crop), moves=True)


def cutout(size: int = 8, fill: Number = GREY) -> Op:
    """Fills a square of side `size` centred on a random pixel; edges cut it off (Cutout, 1708.04552).

    The paper's sides: 16 for CIFAR-10, 8 for CIFAR-100, 20 for SVHN.
    """
    _check("cutout", size=(size, 1, None), fill=(fill, 0, 1))

    def apply(rng: Rng, images: Images) -> Images:
        hidden = _boxes(rng, images.shape[:3], jnp.full(len(images), size), jnp.full(len(images), size))
        return jnp.where(hidden[..., None], fill, images)

    return _on_images("cutout", apply, moves=True)


def color_jitter(brightness: Number = 0.4, contrast: Number = 0.4, saturation: Number = 0.4, hue: Number = 0.1) -> Op:
    """Scales brightness, contrast and saturation by factors in 1 +- strength; turns the hue by +-`hue` of a circle.

    The colour distortion of SimCLR (2002.05709, appendix A), in this order. Saturation and hue change images with three
    channels only.
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    _check("color_jitter", **{name: (value, 0, 1) for name, value in strengths.items()}, hue=(hue, 0, 0.5))

    def jitter(key: Rng, image: Image) -> Image:
        draws = jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
        image = image * (1 + brightness * draws[0])
        image = jnp.clip(pix.adjust_contrast(image, 1 + contrast * draws[1]), 0, 1)
        if image.shape[-1] == 3 and saturation:
            image = pix.adjust_saturation(image, 1 + saturation * draws[2])
        if image.shape[-1] == 3 and hue:
            image = pix.adjust_hue(image, hue * draws[3])
        return jnp.clip(image, 0, 1)

    return _on_images("color_jitter", _each(jitter))


def mixup(alpha: Number = 0.2) -> Op:
    """Blends each example with another: w x + (1 - w) x', w ~ Beta(alpha, alpha) (mixup, 1710.09412, section 2).

    Works on `image` and `features`. A `label` gets a partner, `mixed_label` [b], and a weight w, `mix_weight` [b]; a
    `target` is blended like the inputs. Unlike in the authors' code, each example draws its own w.
    """
    _check("mixup", alpha=(alpha, 1e-3, None))

    def apply(rng: Rng, batch: Batch) -> Batch:
        partner_rng, weight_rng = jax.random.split(rng)
        partner = _partners(partner_rng, batch)
        weight = jax.random.beta(weight_rng, alpha, alpha, partner.shape)
        inputs = {key: _blend(weight, batch[key], batch[key][partner]) for key in ("image", "features") if key in batch}
        return _mix_answers("mixup", batch | inputs, partner, weight)

    return Op("mixup", ("image", "features"), apply, mixes=True, moves=True)


def cutmix(alpha: Number = 1.0) -> Op:
    """Pastes a random box of another image over each image (CutMix, 1905.04899, section 3.1).

    The box is centred on a random pixel and covers 1 - w of an image's area before it is cut off at the edges,
    w ~ Beta(alpha, alpha). Labels are mixed as in `mixup`, weighted by the area that remains visible.
    """
    _check("cutmix", alpha=(alpha, 1e-3, None))

    def apply(rng: Rng, batch: Batch) -> Batch:
        partner_rng, weight_rng, box_rng = jax.random.split(rng, 3)
        images, partner = batch["image"], _partners(partner_rng, batch)
        side = jnp.sqrt(1 - jax.random.beta(weight_rng, alpha, alpha, partner.shape))
        height, width = (jnp.round(side * size).astype(int) for size in images.shape[1:3])
        pasted = _boxes(box_rng, images.shape[:3], height, width)
        mixed = jnp.where(pasted[..., None], images[partner], images)
        return _mix_answers("cutmix", batch | {"image": mixed}, partner, 1 - pasted.mean((1, 2)))

    return Op("cutmix", ("image",), apply, mixes=True, moves=True)


def rand_augment(num_ops: int = 2, magnitude: Number = 9, fill: Number = GREY) -> Op:
    """Applies operations drawn uniformly per example from the paper's 14 (RandAugment, 1909.13719, figure 2).

    Args:
        num_ops: N of the paper, at least 1.
        magnitude: M of the paper, 0 to 10: the strength of every operation. Directed operations draw a random sign.
        fill: the value of pixels that come from outside the image.
    """
    _check("rand_augment", num_ops=(num_ops, 1, None), magnitude=(magnitude, 0, 10), fill=(fill, 0, 1))

    def apply(rng: Rng, images: Images) -> Images:
        for layer in jax.random.split(rng, num_ops):
            images = _each(lambda key, image: _random_operation(key, image, magnitude / 10, fill))(layer, images)
        return images

    return _on_images("rand_augment", apply, moves=True)


def spec_augment(bands: int, frequency: int = 8, time: int = 10, masks: int = 2) -> Op:
    """Sets blocks of bands and of frames to zero, the mean of standardised spectra (Park et al. 2019, SpecAugment,
    arXiv 1904.08779, sec. 2, without time warping).

    Args:
        bands: number of bands of the spectrum; a frame may hold several stacked spectra.
        frequency, time: largest width of a block, in bands or frames; widths are drawn uniformly from 0.
        masks: number of blocks per kind.
    """
    _check(
        "spec_augment",
        bands=(bands, 1, None),
        frequency=(frequency, 0, bands),
        time=(time, 0, None),
        masks=(masks, 1, None),
    )

    def block(key: Rng, size: int, extent: Array, width: int) -> Bool[Array, "size"]:
        width_key, start_key = jax.random.split(key)
        width = jax.random.randint(width_key, (), 0, width + 1)
        start = jax.random.randint(start_key, (), 0, jnp.maximum(extent - width, 0) + 1)
        distance = jnp.arange(size) - start
        return (distance >= 0) & (distance < width)

    def apply(key: Rng, frames: Spectrum, length: Int[Array, ""]) -> Spectrum:
        for mask_key in jax.random.split(key, masks):
            band_key, frame_key = jax.random.split(mask_key)
            frames = jnp.where(block(band_key, bands, jnp.array(bands), frequency), 0, frames)
            frames = jnp.where(block(frame_key, len(frames), length, time)[:, None, None], 0, frames)
        return frames

    return _on_spectra("spec_augment", bands, apply)


def vocal_tract(bands: int, most: Number = 0.15) -> Op:
    """Stretches each example's spectra along the bands by one factor from 1 - `most` to 1 + `most`, which simulates a
    shorter or longer vocal tract (Jaitly and Hinton 2013, "Vocal Tract Length Perturbation improves speech
    recognition").
    """
    _check("vocal_tract", bands=(bands, 2, None), most=(most, 0, 0.9))

    def apply(key: Rng, frames: Spectrum, length: Int[Array, ""]) -> Spectrum:
        del length
        factor = jax.random.uniform(key, (), minval=1 - most, maxval=1 + most)
        place = jnp.minimum(jnp.arange(bands) * factor, bands - 1)
        below = jnp.minimum(place.astype(int), bands - 2)
        weight = place - below
        return (1 - weight) * frames[..., below] + weight * frames[..., below + 1]

    return _on_spectra("vocal_tract", bands, apply)


def _check(op: str, **arguments: tuple[Number, Number, Number | None]) -> None:
    """Raises UserError unless each argument, given as (value, least, most), lies within its bounds."""
    for name, (value, least, most) in arguments.items():
        if value < least or (most is not None and value > most):
            bounds = f"at least {least}" if most is None else f"between {least} and {most}"
            raise UserError(f"augment: {op}({name}={value}): {name} must be {bounds}")


def _is_spatial(key: str, batch: Batch) -> bool:
    """Whether a key holds places in the image: boxes, points, or a map with the image's height and width."""
    words = re.split("[^a-z]+", key.lower())
    is_named = any(re.fullmatch("b?box(es)?|key_?points?|points?", word) for word in words)
    if key in ("image", "mask") or "image" not in batch:
        return False
    return (is_named and batch[key].ndim > 1) or batch[key].shape[1:3] == batch["image"].shape[1:3]


def _on_images(name: str, apply: Callable[[Rng, Images], Images], moves: bool = False) -> Op:
    return Op(name, ("image",), lambda rng, batch: batch | {"image": apply(rng, batch["image"])}, moves=moves)


def _on_spectra(name: str, bands: int, apply: Callable[[Rng, Spectrum, Int[Array, ""]], Spectrum]) -> Op:
    """Returns an op on spectra [b, t, stacked * bands]; each example [t, stacked, bands] has its own key and length."""

    def on_batch(rng: Rng, batch: Batch) -> Batch:
        frames = batch["frames"]
        if frames.shape[-1] % bands:
            raise UserError(
                f"augment: {name}(bands={bands}): the frames' width, {frames.shape[-1]}, is not a multiple of bands"
            )
        spectra = frames.reshape(*frames.shape[:2], -1, bands)
        changed = jax.vmap(apply)(jax.random.split(rng, len(frames)), spectra, batch["frames_lengths"])
        return batch | {"frames": changed.reshape(frames.shape)}

    return Op(name, ("frames",), on_batch)


def _each(function: Callable[[Rng, Image], Image]) -> Callable[[Rng, Images], Images]:
    """Lifts a function of (key, image) to a batch, each image with its own key."""
    return lambda rng, images: jax.vmap(function)(jax.random.split(rng, len(images)), images)


def _boxes(
    rng: Rng, shape: tuple[int, int, int], height: Int[Array, "b"], width: Int[Array, "b"]
) -> Bool[Array, "b h w"]:
    """Returns, per example, the pixels inside a box of the given size around a random pixel."""

    def inside(key: Rng, size: int, extent: Int[Array, "b"]) -> Bool[Array, "b side"]:
        start = jax.random.randint(key, extent.shape, 0, size) - extent // 2
        distance = jnp.arange(size) - start[:, None]
        return (distance >= 0) & (distance < extent[:, None])

    row_rng, column_rng = jax.random.split(rng)
    return inside(row_rng, shape[1], height)[:, :, None] & inside(column_rng, shape[2], width)[:, None, :]


def _partners(rng: Rng, batch: Batch) -> Int[Array, "b"]:
    """Returns each example's partner: the next in a random cycle of the real examples. Padding is its own partner."""
    size = len(next(iter(batch.values())))
    real = batch["mask"] > 0 if "mask" in batch else jnp.ones(size, bool)
    cycle = jnp.argsort(jnp.where(real, jax.random.uniform(rng, (size,)), 2.0))  # the real ones come first
    count, place = real.sum(), jnp.arange(size)
    following = jnp.where(place < count, (place + 1) % jnp.maximum(count, 1), place)
    return jnp.zeros(size, int).at[cycle].set(cycle[following])


def _blend(weight: PerExample, first: Shaped[Array, "b ..."], second: Shaped[Array, "b ..."]) -> Shaped[Array, "b ..."]:
    weight = weight.reshape(-1, *(1,) * (first.ndim - 1))
    return weight * first + (1 - weight) * second


def _mix_answers(op: str, batch: Batch, partner: Int[Array, "b"], weight: PerExample) -> Batch:
    answers: Batch = {}
    if "target" in batch:
        answers["target"] = _blend(weight, batch["target"], batch["target"][partner])
    if "label" in batch:
        answers |= {"mixed_label": batch["label"][partner], "mix_weight": weight}
    if not answers:
        raise UserError(f"augment: {op} mixes label or target; this batch has {', '.join(sorted(batch))}")
    return batch | answers


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
