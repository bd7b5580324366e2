"""A blank whose filling stands elsewhere in the text: generated, for networks that read in one or both directions."""

import dataclasses
from typing import Literal

import numpy as np
import tensorflow_datasets as tfds

from data.builders.sequences import Columns, Procedural, integers


@dataclasses.dataclass(kw_only=True, eq=False)
class Side(tfds.core.BuilderConfig):
    """`side`: where the answer stands, seen from the blank."""

    side: Literal["left", "right"]


class Cloze(Procedural, skip_registration=True):
    """Texts with a blank, `cloze/right` and `cloze/left`: `tokens` and `labels` int32 [24], `labels_mask` bool [24].

    Tokens: 0 padding (unused), 1 the blank, 2 the marker, 3 to 10 random symbols. The blank lies in one half of the
    text and the marker in the other. The symbol after the marker fills the blank: `labels` repeats the tokens with the
    blank filled, and `labels_mask` is true there alone. Without a look at the answer's side the best accuracy is 1/8.
    20,000 for training, 1,000 and 1,000.
    Source: generated: no licence.
    """

    name = "cloze"
    BUILDER_CONFIGS = [Side(name=side, side=side) for side in ("right", "left")]
    SIZES = {"train": 20_000, "validation": 1_000, "test": 1_000}
    LENGTH, BLANK, MARKER, FIRST, SYMBOLS = 24, 1, 2, 3, 8

    def _info(self) -> tfds.core.DatasetInfo:
        mask = tfds.features.Tensor(shape=(self.LENGTH,), dtype=np.bool_)
        features = {"tokens": integers(self.LENGTH), "labels": integers(self.LENGTH), "labels_mask": mask}
        vocabulary = {"size": self.FIRST + self.SYMBOLS, "pad": 0, "mask": self.BLANK}
        return self._described(features, tokens=vocabulary, labels=vocabulary)

    def _draw(self, random: np.random.Generator, size: int) -> Columns:
        half, rows = self.LENGTH // 2, np.arange(size)
        tokens = random.integers(self.FIRST, self.FIRST + self.SYMBOLS, (size, self.LENGTH), dtype=np.int32)
        blank, marker = random.integers(half, size=size), random.integers(half - 1, size=size)
        blank, marker = (blank, half + marker) if self.builder_config.side == "right" else (half + blank, marker)
        tokens[rows, blank], tokens[rows, marker] = self.BLANK, self.MARKER
        labels = tokens.copy()
        labels[rows, blank] = tokens[rows, marker + 1]
        return {"tokens": tokens, "labels": labels, "labels_mask": np.arange(self.LENGTH) == blank[:, None]}
