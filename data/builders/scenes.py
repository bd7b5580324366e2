"""Pictures of coloured shapes with captions, generated at preparation."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw

SIDE = 48  # of a picture, in pixels
FINER = 4  # supersampling factor, for smooth edges
CELL = SIDE // 3  # a cell holds at most one shape
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 220, 50),
    "purple": (150, 60, 180),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
}
SHAPES = ("circle", "square", "triangle")
SIZES = {"small": 4.0, "large": 7.0}  # half the width, in pixels
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
UNSEEN = frozenset(  # (colour, shape) pairs of the test split only; every colour and every shape occurs in training
    [("red", "triangle"), ("green", "square"), ("blue", "circle"), ("yellow", "triangle"), ("purple", "circle")]
)
SPLITS = {"train": 8_000, "validation": 500, "test": 1_000}


@dataclasses.dataclass(frozen=True)
class Thing:
    """A shape in a cell of the 3 x 3 grid."""

    colour: str
    shape: str
    size: str
    row: int
    column: int

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}"


class Scenes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Pictures of one to three shapes, `scenes`: `image` uint8 [48, 48, 3], `text` a caption, `references` all three.

    A shape is a circle, a square or a triangle, small or large, of seven colours, in a cell of a 3 x 3 grid, slightly
    off its centre; the background is grey, plain or noisy. Captions describe the shapes and their places: one shape by
    its position ("a small red circle at the top left"), two by their relation ("a small red circle above a large blue
    square"), three in order ("from left to right: ..."). `references` holds three captions, one per line; `text` is one
    of them. 8,000 for training, 500 for validation, 1,000 for testing.

    Five pairs of colour and shape, such as a blue circle, occur in every test picture and in no picture of training or
    validation: the test measures the composition of attributes that were learnt separately.

    Source: generated, after the compositional splits of J. Johnson and others, CLEVR, arXiv 1612.06890, section 4.7.
    Generated: no licence.
    """

    name = "scenes"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Tensor(shape=(SIDE, SIDE, 3), dtype=np.uint8, encoding="zlib"),
            "text": tfds.features.Text(),
            "references": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {split: self._generate_examples(split, seed) for seed, split in enumerate(SPLITS)}

    def _generate_examples(self, split: str, seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
        random = np.random.default_rng(seed)
        for i in range(SPLITS[split]):
            things = draw_things(random, unseen=split == "test")
            references = captions(things)
            text = references[random.integers(len(references))]
            yield i, {"image": draw(things, random), "text": text, "references": "\n".join(references)}


def draw_things(random: np.random.Generator, *, unseen: bool) -> list[Thing]:
    """Returns one to three things in the order of the captions: one in any cell, two in one row or column, three in
    three columns or three rows. `unseen`: at least one pair of colour and shape is in `UNSEEN`, otherwise none."""
    count = random.integers(1, 3, endpoint=True)
    across, along = random.integers(3, size=3), np.sort(random.permutation(3)[:count])
    if count == 2:
        across[1] = across[0]
    cells = list(zip(across.tolist(), along.tolist(), strict=False))
    if random.integers(2):
        cells = [(column, row) for row, column in cells]
    everything = list(itertools.product(COLOURS, SHAPES))
    while True:
        kinds = [everything[i] for i in random.integers(len(everything), size=count)]
        if bool(UNSEEN & set(kinds)) == unseen:
            break
    sizes = random.choice(list(SIZES), count).tolist()
    return [Thing(*kind, size, *cell) for kind, size, cell in zip(kinds, sizes, cells, strict=True)]


def captions(things: Sequence[Thing]) -> list[str]:
    """Returns three captions of the same picture."""
    if len(things) == 1:
        (one,) = things
        place = f"{ROWS[one.row]} {COLUMNS[one.column]}"
        return [f"{one} at the {place}", f"there is {one} at the {place}", f"the {place} has {one}"]
    in_row = all(one.column < other.column for one, other in itertools.pairwise(things))
    if len(things) == 2:
        one, other = things
        before, after = ("left of", "right of") if in_row else ("above", "below")
        return [f"{one} {before} {other}", f"{other} {after} {one}", f"there is {one} {before} {other}"]
    first, second, third = things
    direction = "from left to right" if in_row else "from top to bottom"
    back = "from right to left" if in_row else "from bottom to top"
    return [
        f"{direction}: {first}, {second} and {third}",
        f"{first}, then {second}, then {third}, {direction}",
        f"{back}: {third}, {second} and {first}",
    ]


def draw(things: Sequence[Thing], random: np.random.Generator) -> np.ndarray:
    """Returns the picture, uint8 [SIDE, SIDE, 3]."""
    grey = int(random.integers(90, 180))
    picture = Image.new("RGB", (SIDE * FINER, SIDE * FINER), (grey, grey, grey))
    pen = ImageDraw.Draw(picture)
    for thing in things:
        half = SIZES[thing.size]
        beside = random.uniform(-1, 1, 2) * (CELL / 2 - half)
        x, y = (np.array([thing.column, thing.row]) + 0.5) * CELL + beside
        corners = [(x - half) * FINER, (y - half) * FINER, (x + half) * FINER, (y + half) * FINER]
        draw_shape(pen, thing.shape, corners, COLOURS[thing.colour])
    image = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))
    if random.integers(2):
        return image
    noise = random.normal(0, 8, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def draw_shape(pen: ImageDraw.ImageDraw, shape: str, corners: list[float], colour: tuple[int, ...] | int) -> None:
    """Fills a shape within `corners`: left, top, right, bottom."""
    left, top, right, bottom = corners
    if shape == "circle":
        pen.ellipse(corners, fill=colour)
    elif shape == "square":
        pen.rectangle(corners, fill=colour)
    else:
        pen.polygon([(left, bottom), (right, bottom), ((left + right) / 2, top)], fill=colour)
