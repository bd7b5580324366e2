"""Augmentation that moves images, and with them every other spatial key of an example, by its role.

An op draws, per example, one affine map from places in its output to places in its input, (y, x) in fractions of the
height and width: pixel i of n covers i / n to (i + 1) / n. By role:

- image [b, h, w, c], video and volume [b, t, h, w, c], all frames alike: sampled; places outside the input take `fill`.
- label_map [b, h, w] or [b, h, w, 1], of a volume [b, t, h, w, 1]: the nearest pixel; places outside take `ignore`.
- boxes [b, n, 4], [ymin, xmin, ymax, xmax] in fractions, as in TFDS: the box around the moved corners, cut off at the
  edges. `<key>_mask` [b, n] becomes 0 where nothing is left; the order is kept.
- points [b, n, 2], (y, x) in fractions: moved; `<key>_mask` becomes 0 outside.
- region [b, 4], the part of an image that is not padding: moved and cut off like a box.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from core.info import PIXELS, Info, Key
from data.augment.op import Batch, Keys, Number, Op, Rng

# b: batch, t: frames or layers, h: height, w: width, c: channels, n: boxes or points of an example
# i, j: height and width of the output

Size = tuple[int, int]  # height, width
Image = Float[Array, "h w c"]
Example = dict[str, Array]  # key -> values without the batch axis

SMALLEST = 1e-5  # side, in fractions of the image, below which a box has nothing left but rounding


class Affine(NamedTuple):
    """Maps a place in the output to input = matrix @ output + offset. Inside `vmap`, of one example."""

    matrix: Float[Array, "2 2"]
    offset: Float[Array, "2"]

    def __call__(self, places: Float[Array, "*n 2"]) -> Float[Array, "*n 2"]:
        return _times(self.matrix, places) + self.offset

    def inverse(self, places: Float[Array, "*n 2"]) -> Float[Array, "*n 2"]:
        """Returns the places in the output of places in the input."""
        (a, b), (c, d) = self.matrix
        return _times(jnp.array([[d, -b], [-c, a]]) / (a * d - b * c), places - self.offset)


def _times(matrix: Float[Array, "2 2"], places: Float[Array, "*n 2"]) -> Float[Array, "*n 2"]:
    return jnp.einsum("rs,...s->...r", matrix, places, precision="highest")  # accelerators round to 8 bits otherwise


def nearest(image: Shaped[Array, "h w *c"], move: Affine, size: Size) -> Shaped[Array, "i j *c"]:
    """Returns an image sampled at the nearest pixels; exact for shifts by whole pixels and mirroring."""
    here = jnp.floor(move(_centres(size)) * jnp.array(image.shape[:2])).astype(int)
    rows, columns = (jnp.clip(here[..., axis], 0, image.shape[axis] - 1) for axis in (0, 1))
    return image[rows, columns]


def bilinear(image: Image, move: Affine, size: Size) -> Float[Array, "i j c"]:
    """Returns an image interpolated between the four nearest pixels, for maps that hardly change the scale."""
    here = move(_centres(size)) * jnp.array(image.shape[:2]) - 0.5
    low = jnp.floor(here).astype(int)
    weight = here - low
    result = jnp.zeros(())
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows, columns = (jnp.clip(low[..., axis] + corner[axis], 0, image.shape[axis] - 1) for axis in (0, 1))
        shares = [weight[..., axis] if corner[axis] else 1 - weight[..., axis] for axis in (0, 1)]
        result = result + (shares[0] * shares[1])[..., None] * image[rows, columns]
    return result


def resized(image: Image, move: Affine, size: Size) -> Float[Array, "i j c"]:
    """Returns an image resampled along each axis, with antialiasing where it shrinks; for maps that do not rotate."""
    (height, _), (_, width) = move.matrix
    extent, sides = jnp.stack([height, width]), jnp.array(image.shape[:2])
    scale, translation = jnp.array(size) / (extent * sides), -move.offset * jnp.array(size) / extent
    shape = (*size, image.shape[2])
    return jax.image.scale_and_translate(image, shape, (0, 1), scale, translation, "linear", antialias=True)


@dataclasses.dataclass(frozen=True)
class _Geometric(Op):
    """Moves every spatial key of an example by the same map, which `draw` draws."""

    fill: ClassVar[Number] = 0.0
    ignore: ClassVar[int] = 255
    sample: ClassVar[Callable] = staticmethod(nearest)  # of images

    def draw(self, key: Rng, size: Size) -> Affine:
        """Returns the map of one example, from its output to its input of this size."""
        raise NotImplementedError

    def output(self, size: Size) -> Size:
        """Returns the size of the output for an input of this size."""
        return size

    def bind(self, info: Info) -> "Op":
        bound = super().bind(info)
        bound.check_roles(*PIXELS)
        bound.check_unmoved(*_MOVE)
        maps = bound.keys_of(*PIXELS, "label_map")
        if len({_size(info.keys[key]) for key in maps}) > 1:
            self.refuse(f"needs one size: {', '.join(f'{key!r} {info.keys[key].shape}' for key in maps)}")
        for role, width in {"boxes": 4, "points": 2}.items():
            for key in bound.keys_of(role):
                shape = info.keys[key].shape
                if len(shape) != 2 or shape[1] != width:
                    self.refuse(f"{role} have the shape (n, {width}), not {key!r} {shape}")
                if f"{key}_mask" not in info.keys:
                    self.refuse(f"{key!r} needs {key + '_mask'!r}, which is 1 for real {role}")
        return bound

    def __call__(self, keys: Keys, batch: Batch) -> Batch:
        roles = {key: self.info.keys[key].role for key in self.keys_of(*_MOVE)}
        masks = [f"{key}_mask" for key, role in roles.items() if role in ("boxes", "points")]

        def one(rng: Rng, example: Example) -> Example:
            move = self.draw(rng, example[self.keys_of(*PIXELS)[0]].shape[-3:-1])
            moved = {}
            for key, role in roles.items():
                moved |= _MOVE[role](self, move, key, example)
            return moved

        return batch | jax.vmap(one)(keys, {key: batch[key] for key in (*roles, *masks)})


@dataclasses.dataclass(frozen=True)
class Flip(_Geometric):
    """Mirrors left and right with probability 1/2.

    Attributes:
        vertical: also mirrors top and bottom, independently, for images without an upright position.
    """

    vertical: bool = False

    def draw(self, key: Rng, size: Size) -> Affine:
        mirrored = jax.random.bernoulli(key, shape=(2,)) if self.vertical else jax.random.bernoulli(key)
        mirrored = jnp.broadcast_to(mirrored, (2,)) & jnp.array([self.vertical, True])
        return Affine(jnp.diag(jnp.where(mirrored, -1.0, 1.0)), mirrored.astype(jnp.float32))


@dataclasses.dataclass(frozen=True)
class _Filling(_Geometric):
    """An op whose output may lie partly outside the input.

    Attributes:
        fill: value of pixels outside, in [0, 1]: 0 is black, 1 suits white paper.
        ignore: class of label maps outside; 255 is the usual class that no loss counts.
    """

    fill: Number = dataclasses.field(default=0.0, kw_only=True)
    ignore: int = dataclasses.field(default=255, kw_only=True)

    def __post_init__(self) -> None:
        self.check_range(fill=(0, 1))


@dataclasses.dataclass(frozen=True)
class PaddedCrop(_Filling):
    """Pads each side with `padding` pixels of `fill` and crops the old size at random (ResNet, 1512.03385, 4.2)."""

    padding: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range(padding=(1, None))

    def draw(self, key: Rng, size: Size) -> Affine:
        if self.padding > min(size):
            self.refuse(f"padding {self.padding} is larger than the image, {size}: a crop could be all padding")
        shift = jax.random.randint(key, (2,), -self.padding, self.padding + 1)
        return Affine(jnp.eye(2), shift / jnp.array(size))


@dataclasses.dataclass(frozen=True)
class Rotation(_Filling):
    """Rotates about the centre by an angle drawn uniformly from -`degrees` to `degrees`."""

    degrees: Number = 15.0

    sample: ClassVar[Callable] = staticmethod(bilinear)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range(degrees=(0, 180))

    def draw(self, key: Rng, size: Size) -> Affine:
        limit, aspect = math.radians(self.degrees), size[1] / size[0]
        angle = jax.random.uniform(key, (), minval=-limit, maxval=limit)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        matrix = jnp.array([[cos, -sin * aspect], [sin / aspect, cos]])  # of fractions, whose units differ by axis
        return Affine(matrix, 0.5 - matrix.sum(1) / 2)


@dataclasses.dataclass(frozen=True)
class _Resizing(_Geometric):
    """An op with an output of any size. `size`: its height and width in pixels; () = those of the input.

    Evaluation does not run the op: images there keep their size.
    """

    size: tuple[int, ...] = dataclasses.field(default=(), kw_only=True)

    sample: ClassVar[Callable] = staticmethod(resized)

    def __post_init__(self) -> None:
        if len(self.size) not in (0, 2) or any(side < 1 for side in self.size):
            self.refuse(f"size must be (height, width) or (), not {self.size}")

    def output(self, size: Size) -> Size:
        return self.size or size


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(_Resizing):
    """Crops a random part and resizes it (Inception, 1409.4842, section 6).

    Attributes:
        area: least and largest area of the part, in fractions of the image.
        ratio: least and largest width / height of the part; its logarithm is drawn uniformly. A side longer than the
            image becomes the image's.
    """

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in {"area": 1.0, "ratio": math.inf}.items():
            least, largest = getattr(self, name)
            if not 0 < least <= largest <= most:
                self.refuse(
                    f"{name} must be (least, largest) above 0{' up to 1' * (most == 1)}, not {(least, largest)}"
                )

    def draw(self, key: Rng, size: Size) -> Affine:
        area_key, ratio_key, place_key = jax.random.split(key, 3)
        area = jax.random.uniform(area_key, (), minval=self.area[0], maxval=self.area[1])
        low, high = map(math.log, self.ratio)
        ratio = jnp.exp(jax.random.uniform(ratio_key, (), minval=low, maxval=high)) * size[0] / size[1]
        extent = jnp.minimum(jnp.sqrt(area * jnp.stack([1 / ratio, ratio])), 1)
        return Affine(jnp.diag(extent), jax.random.uniform(place_key, (2,)) * (1 - extent))


@dataclasses.dataclass(frozen=True)
class CentralCrop(_Geometric):
    """Cuts `size` (height, width) pixels out of the centre, in evaluation, too; () = the complete image.

    Images that `random_resized_crop(size=...)` has already brought to this size stay as they are.
    """

    size: tuple[int, ...] = ()

    when: ClassVar[Literal["train", "always"]] = "always"

    def __post_init__(self) -> None:
        if len(self.size) not in (0, 2) or any(side < 1 for side in self.size):
            self.refuse(f"size must be (height, width) or (), not {self.size}")

    def output(self, size: Size) -> Size:
        if self.size and (self.size[0] > size[0] or self.size[1] > size[1]):
            self.refuse(f"size {self.size} is larger than the image, {size}")
        return self.size or size

    def draw(self, key: Rng, size: Size) -> Affine:
        extent = jnp.array(self.output(size)) / jnp.array(size)
        corner = jnp.array([(whole - part) // 2 / whole for whole, part in zip(size, self.output(size), strict=True)])
        return Affine(jnp.diag(extent), corner)


@dataclasses.dataclass(frozen=True)
class ScaleJitter(_Filling, _Resizing):
    """Resizes by a random factor, keeps the aspect, and crops at random, or pads below and to the right, to a fixed
    size: large-scale jitter (Simple Copy-Paste, 2012.07177, section 3).

    Attributes:
        low, high: least and largest factor; 1 fits the image into the output.
    """

    low: Number = 0.1
    high: Number = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _Resizing.__post_init__(self)
        self.check_range(low=(1e-3, None), high=(self.low, None))

    def draw(self, key: Rng, size: Size) -> Affine:
        scale_key, place_key = jax.random.split(key)
        output, sides = jnp.array(self.output(size)), jnp.array(size)
        factor = jax.random.uniform(scale_key, (), minval=self.low, maxval=self.high)
        scaled = factor * jnp.min(output / sides) * sides  # the complete image, in pixels of the output
        corner = jax.random.uniform(place_key, (2,)) * jnp.maximum(scaled - output, 0)
        return Affine(jnp.diag(output / scaled), corner / scaled)


def _size(record: Key) -> Size:
    """Returns the height and width of an image, a video, a volume or a label map."""
    return record.shape[-3:-1] if len(record.shape) > 2 else record.shape


def _move_image(op: _Geometric, move: Affine, key: str, example: Example) -> Example:
    size = op.output(example[key].shape[:2])
    inside = _inside(move(_centres(size)))[..., None]
    return {key: jnp.where(inside, op.sample(example[key], move, size), op.fill)}


def _move_frames(op: _Geometric, move: Affine, key: str, example: Example) -> Example:
    return jax.vmap(lambda frame: _move_image(op, move, key, {key: frame}))(example[key])


def _move_label_map(op: _Geometric, move: Affine, key: str, example: Example) -> Example:
    labels = example[key]
    if labels.ndim == 4:
        return jax.vmap(lambda layer: _move_label_map(op, move, key, {key: layer}))(labels)
    size = op.output(labels.shape[:2])
    inside = jnp.expand_dims(_inside(move(_centres(size))), range(2, labels.ndim))
    return {key: jnp.where(inside, nearest(labels, move, size), op.ignore).astype(labels.dtype)}


def _move_boxes(op: _Geometric, move: Affine, key: str, example: Example) -> Example:
    moved = _moved(example[key], move)
    return _kept(key, example, moved, jnp.all(moved[:, 2:] - moved[:, :2] > SMALLEST, -1))


def _move_region(op: _Geometric, move: Affine, key: str, example: Example) -> Example:
    return {key: _moved(example[key], move)}


def _moved(boxes: Float[Array, "*n 4"], move: Affine) -> Float[Array, "*n 4"]:
    """Returns the boxes around the moved corners, cut off at the edges of the output."""
    ymin, xmin, ymax, xmax = jnp.moveaxis(boxes, -1, 0)
    corners = move.inverse(jnp.stack([jnp.stack([y, x], -1) for y in (ymin, ymax) for x in (xmin, xmax)]))
    return jnp.concatenate([jnp.clip(edge, 0, 1) for edge in (corners.min(0), corners.max(0))], -1)


def _move_points(op: _Geometric, move: Affine, key: str, example: Example) -> Example:
    places = move.inverse(example[key])
    return _kept(key, example, places, _inside(places))


def _kept(key: str, example: Example, moved: Float[Array, "n k"], kept: Bool[Array, "n"]) -> Example:
    """Returns moved boxes or points with their mask; both are 0 where nothing is left, or was."""
    mask = example[f"{key}_mask"]
    kept = kept & (mask > 0)
    return {key: jnp.where(kept[:, None], moved, 0), f"{key}_mask": jnp.where(kept, mask, jnp.zeros_like(mask))}


# role -> function that moves a key of an example
_MOVE: Mapping[str, Callable[[_Geometric, Affine, str, Example], Example]] = MappingProxyType(
    {
        "image": _move_image,
        "video": _move_frames,
        "volume": _move_frames,
        "label_map": _move_label_map,
        "boxes": _move_boxes,
        "points": _move_points,
        "region": _move_region,
    }
)


def _centres(size: Size) -> Float[Array, "i j 2"]:
    """Returns the centres of the pixels of an image."""
    rows, columns = ((jnp.arange(side) + 0.5) / side for side in size)
    return jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), -1)


def _inside(places: Float[Array, "*n 2"]) -> Bool[Array, "*n"]:
    return jnp.all((places >= 0) & (places <= 1), -1)
