"""Handwritten digits that move, and digits as bodies in space, made of the set `digits` at preparation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float64, Int64, UInt8
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from data.builders.digits import scans
from data.builders.sequences import Columns, Procedural

# n: examples, t: frames


class _OfDigits(Procedural, skip_registration=True):
    """Base class: examples of the test split show digits that training and validation do not show."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {}
    SIZES = {"train": 4_000, "validation": 500, "test": 1_000}

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        images, digits, parts = scans()
        random, generators = np.random.default_rng(0), {}
        for split, size in self._sizes().items():
            chosen = random.choice(parts["test" if split == "test" else "train"], size)
            generators[split] = self._generate_examples(self._moved(random, images[chosen], digits[chosen]), 0, size)
        return generators

    def _moved(
        self, random: np.random.Generator, images: UInt8[np.ndarray, "n 8 8 1"], digits: Int64[np.ndarray, " n"]
    ) -> Columns:
        """Returns one example of each image."""
        raise NotImplementedError


class MovingDigits(_OfDigits, skip_registration=True):
    """Clips of a moving digit, `moving_digits`: `video` uint8 [8, 24, 24, 1], `label` the motion.

    A digit of 8 x 8 pixels moves to the left or to the right by 3 ("left", "right") or 9 pixels ("fast left", "fast
    right") per frame, and what leaves the picture at one side enters at the other. All four motions show the digit once
    at each of the same eight places, in another order: neither a frame nor all frames without their order tell the
    motion, and guessing (25%) is the best that a network without order can do. 4,000 for training, 500 and 1,000.

    Source: the digits of `digits`, CC BY 4.0; after N. Srivastava, E. Mansimov, R. Salakhutdinov, Moving MNIST, arXiv
    1502.04681, section 4.1. Licence of the digits: CC BY 4.0.
    """

    name = "moving_digits"
    FRAMES, SIDE = 8, 24
    MOTIONS = {"left": -3, "right": 3, "fast left": -9, "fast right": 9}  # pixels per frame

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (self.FRAMES, self.SIDE, self.SIDE, 1)
        video = tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="zlib")
        return self._described({"video": video, "label": tfds.features.ClassLabel(names=list(self.MOTIONS))})

    def _moved(
        self, random: np.random.Generator, images: UInt8[np.ndarray, "n 8 8 1"], digits: Int64[np.ndarray, " n"]
    ) -> Columns:
        labels = random.integers(len(self.MOTIONS), size=len(images))
        corners = random.integers((self.SIDE - 7, self.SIDE), size=(len(images), 2))  # top, left of the first frame
        clips = [self.clip(*example) for example in zip(images, corners, labels, strict=True)]
        return {"video": clips, "label": labels}

    @classmethod
    def clip(
        cls, image: UInt8[np.ndarray, "8 8 1"], corner: Int64[np.ndarray, "2"], motion: Any
    ) -> UInt8[np.ndarray, "t 24 24 1"]:
        """Returns the clip of a digit that starts at `corner`, with a motion by its number."""
        frame = np.zeros((cls.SIDE, cls.SIDE, 1), np.uint8)
        frame[:8, :8] = image
        (top, left), step = corner, list(cls.MOTIONS.values())[motion]
        return np.stack([np.roll(frame, (top, left + step * time), axis=(0, 1)) for time in range(cls.FRAMES)])


class DigitVolumes(_OfDigits, skip_registration=True):
    """Digits as bodies, `digit_volumes`: `volume` uint8 [16, 16, 16, 1], `label` the digit.

    A digit is made three of its pixels thick, 1.4 times as large, and turned about its centre by up to 60 degrees,
    around an axis of any direction. 4,000 for training, 500 and 1,000.

    Source: the digits of `digits`, CC BY 4.0. Licence of the digits: CC BY 4.0.
    """

    name = "digit_volumes"
    SIDE, THICKNESS, SCALE, DEGREES = 16, 3, 1.4, 60.0

    def _info(self) -> tfds.core.DatasetInfo:
        volume = tfds.features.Tensor(shape=(self.SIDE, self.SIDE, self.SIDE, 1), dtype=np.uint8, encoding="zlib")
        return self._described({"volume": volume, "label": tfds.features.ClassLabel(num_classes=10)})

    def _moved(
        self, random: np.random.Generator, images: UInt8[np.ndarray, "n 8 8 1"], digits: Int64[np.ndarray, " n"]
    ) -> Columns:
        axes = random.normal(size=(len(images), 3))
        angles = random.uniform(0, np.radians(self.DEGREES), len(images))
        turns = Rotation.from_rotvec(axes / np.linalg.norm(axes, axis=1, keepdims=True) * angles[:, None]).as_matrix()
        return {"volume": [self.body(*pair) for pair in zip(images, turns, strict=True)], "label": digits}

    @classmethod
    def body(
        cls, image: UInt8[np.ndarray, "8 8 1"], turn: Float64[np.ndarray, "3 3"]
    ) -> UInt8[np.ndarray, "16 16 16 1"]:
        """Returns the volume of a digit; `turn` maps places of the volume, from its centre, to those of the digit."""
        thick = np.repeat(image[None, :, :, 0], cls.THICKNESS, axis=0).astype(float)
        matrix = turn / cls.SCALE
        offset = (np.array(thick.shape) - 1) / 2 - matrix.sum(1) * (cls.SIDE - 1) / 2
        volume = affine_transform(thick, matrix, offset, output_shape=(cls.SIDE,) * 3, order=1, mode="grid-constant")
        return np.round(volume).astype(np.uint8)[..., None]
