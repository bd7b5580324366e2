"""Pictures of coloured shapes with a class per pixel and a box per shape, generated at preparation."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw

from data.builders import scenes

# n: shapes of a picture

SIDE = 64  # of a picture, in pixels
MOST = 4  # shapes of a picture
HALF = (5.0, 13.0)  # least and greatest half width of a shape, in pixels
CROWDED = 0.4  # greatest share of a shape's square that may lie in those of other shapes
CLASSES = ("background", *scenes.SHAPES)
COLOURS = list(scenes.COLOURS.values())
SPLITS = {"train": 4_000, "validation": 500, "test": 1_000}


class Drawn(NamedTuple):
    """A picture.

    Attributes:
        image: its pixels.
        objects: 1 + number of the shape that a pixel shows, 0 for the background.
        labels: of each shape, its number in `scenes.SHAPES`.
    """

    image: UInt8[np.ndarray, "64 64 3"]
    objects: UInt8[np.ndarray, "64 64"]
    labels: list[int]


class Shapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Pictures of one to four shapes, `shapes`, for segmentation and detection.

    - `image` uint8 [64, 64, 3].
    - `label_map` uint8 [64, 64, 1]: 0 background, 1 circle, 2 square, 3 triangle.
    - `objects/bbox` float32 [n, 4]: ymin, xmin, ymax, xmax in fractions of the image, around the visible pixels.
    - `objects/label` [n]: 0 circle, 1 square, 2 triangle.

    Shapes are 10 to 26 pixels wide, of seven colours that do not depend on the class; a later one may hide a part of an
    earlier one. The background is a grey ramp with noise. 4,000 for training, 500 for validation, 1,000 for testing.

    Source: generated, after the scenes of the set `scenes`. Generated: no licence.
    """

    name = "shapes"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(names=list(CLASSES[1:]))
        features = {
            "image": tfds.features.Tensor(shape=(SIDE, SIDE, 3), dtype=np.uint8, encoding="zlib"),
            "label_map": tfds.features.Tensor(shape=(SIDE, SIDE, 1), dtype=np.uint8, encoding="zlib"),
            "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature(), "label": label}),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(classes={"label_map": list(CLASSES)}),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {split: self._generate_examples(split, seed) for seed, split in enumerate(SPLITS)}

    def _generate_examples(self, split: str, seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
        random = np.random.default_rng(seed)
        for i in range(SPLITS[split]):
            drawn = draw(random)
            pairs = zip(boxes(drawn), drawn.labels, strict=True)
            objects = [{"bbox": tfds.features.BBox(*map(float, box)), "label": label} for box, label in pairs]
            yield i, {"image": drawn.image, "label_map": label_map(drawn), "objects": objects}


def draw(random: np.random.Generator) -> Drawn:
    """Returns a picture of one to four shapes."""
    side, finer = SIDE * scenes.FINER, scenes.FINER
    picture = Image.fromarray(np.repeat(_background(random).repeat(finer, 0).repeat(finer, 1)[..., None], 3, -1))
    objects = Image.new("L", (side, side))
    pens = ImageDraw.Draw(picture), ImageDraw.Draw(objects)
    labels: list[int] = []
    for number, corners in enumerate(_places(random), start=1):
        labels.append(int(random.integers(len(scenes.SHAPES))))
        for pen, colour in zip(pens, (COLOURS[random.integers(len(COLOURS))], number), strict=True):
            scenes.draw_shape(pen, scenes.SHAPES[labels[-1]], [x * finer for x in corners], colour)
    image = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)) + random.normal(0, 8, (SIDE, SIDE, 3))
    centres = np.asarray(objects)[finer // 2 :: finer, finer // 2 :: finer]
    return Drawn(np.clip(np.round(image), 0, 255).astype(np.uint8), centres, labels)


def label_map(drawn: Drawn) -> UInt8[np.ndarray, "64 64 1"]:
    """Returns the class of each pixel."""
    return np.array([0, *(label + 1 for label in drawn.labels)], np.uint8)[drawn.objects][..., None]


def boxes(drawn: Drawn) -> Float32[np.ndarray, "n 4"]:
    """Returns the box around the visible pixels of each shape."""
    found = []
    for number in range(1, len(drawn.labels) + 1):
        places = np.argwhere(drawn.objects == number)
        found.append([*places.min(0), *(places.max(0) + 1)])
    return np.array(found, np.float32) / SIDE


def _background(random: np.random.Generator) -> UInt8[np.ndarray, "64 64"]:
    grey, slopes = random.uniform(90, 180), random.uniform(-30, 30, 2)
    ramp = np.linspace(-1, 1, SIDE)
    return np.round(grey + slopes[0] * ramp[:, None] + slopes[1] * ramp).astype(np.uint8)


def _places(random: np.random.Generator) -> list[tuple[float, float, float, float]]:
    """Returns left, top, right, bottom of the square around each shape, in pixels."""
    count, places = random.integers(1, MOST, endpoint=True), []
    while len(places) < count:
        half = random.uniform(*HALF)
        x, y = random.uniform(half, SIDE - half, 2)
        more = [*places, (x - half, y - half, x + half, y + half)]
        # the overlap of a square with itself is 1
        if all(sum(_overlap(one, other) for other in more) <= 1 + CROWDED for one in more):
            places = more
    return places


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Returns the common area of two squares, in shares of the smaller one."""
    sides = [min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1)]
    smaller = min(square[2] - square[0] for square in (one, other))
    return max(sides[0], 0) * max(sides[1], 0) / smaller**2
