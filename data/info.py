"""What is known of a data set once it is loaded: stored in the checkpoint, enough to encode new inputs."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError
from tokenizers import Tokenizer

from core.errors import UserError, nearest
from data.preprocess import columns as tables
from data.preprocess import tags, text
from data.preprocess.examples import Batch, as_image, stack


@dataclasses.dataclass(frozen=True)
class Info:
    """Facts of a loaded data set; all statistics are of the training split only.

    Attributes:
        name: `config.data.name`.
        sizes: split -> number of examples.
        shapes: key of an example -> (shape, dtype name).
        classes: names of the values of `label`; () if there is none.
        statistics: "image" -> mean and std per channel of images in [0, 1]; "target" -> mean and std in its own units;
            "series" -> mean and std per channel.
        table: state of the table encoder (`data.preprocess.columns.fit`), None if the set is no table.
        tokenizers: key of token ids -> its tokenizer, as JSON.
    """

    name: str
    sizes: dict[str, int]
    shapes: dict[str, tuple[tuple[int, ...], str]]
    classes: tuple[str, ...] = ()
    statistics: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    table: list[dict[str, Any]] | None = None
    tokenizers: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns plain dicts, lists, strings and numbers."""
        fields = dataclasses.asdict(self)
        fields["classes"] = list(self.classes)
        fields["shapes"] = {key: [list(shape), dtype] for key, (shape, dtype) in self.shapes.items()}
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Info":
        """Inverse of `to_json`."""
        shapes = {key: (tuple(shape), dtype) for key, (shape, dtype) in fields["shapes"].items()}
        return cls(**{**fields, "shapes": shapes, "classes": tuple(fields["classes"])})

    def difference(self, other: "Info") -> list[str]:
        """Returns "FIELD: this -> other" per field that differs by more than rounding, a long value shortened."""
        before, after = (json.loads(json.dumps(info.to_json())) for info in (self, other))
        return [
            f"{field}: {_shortened(value)} -> {_shortened(after[field])}"
            for field, value in before.items()
            if not _equal(value, after[field])
        ]

    def vocabulary_size(self, key: str) -> int | None:
        """Returns the number of token ids of `key`, special ones included; None if it is not tokenised text."""
        tokenizer = self._tokenizer(key)
        return None if tokenizer is None else tokenizer.get_vocab_size()

    def detokenize(self, key: str) -> Callable[[Iterable], str] | None:
        """Returns the function from the token ids of `key` to text: up to <eos>, without special tokens; None if it is
        not tokenised text."""
        tokenizer = self._tokenizer(key)
        return None if tokenizer is None else functools.partial(text.decode, tokenizer)

    def encode_text(self, key: str, texts: Sequence[str], words: bool = False) -> Batch:
        """Returns new texts for `key` as a batch: `<key>` int32 [b, t], `<key>_mask` [b, t] and `<key>_lengths` [b].

        Texts stand between <bos> and <eos>, if those of the set do: windows of a running text do not.

        Args:
            words: whether words, which spaces part, are tokenised one by one, as a tagger's are; then `<key>_starts`
                bool [b, t] too, true at the first token of each.

        Raises:
            UserError: `key` is not tokenised text, or there are no texts.
        """
        tokenizer = self._tokenizer(key)
        if tokenizer is None:
            raise UserError(f"{self.name} has no text {key!r}: {nearest(key, self.tokenizers)}")
        if not texts:
            raise UserError(f"no text for {key!r}")
        if not words:
            return text.padded(key, tokenizer, texts)
        encodings = tags.encode_words(tokenizer, texts)
        longest = max(len(encoding.ids) for encoding in encodings)
        ids = [np.array(encoding.ids, np.int32) for encoding in encodings]
        starts = [np.isin(np.arange(longest), tags.starts(encoding)) for encoding in encodings]
        return stack({key: ids}, {key: longest}) | {f"{key}_starts": np.stack(starts)}

    def _tokenizer(self, key: str) -> Tokenizer | None:
        if key == "labels" and key not in self.tokenizers:  # of a language model: the tokens after `tokens`
            key = "tokens"
        return text.from_json(self.tokenizers[key]) if key in self.tokenizers else None

    def encode(self, value: str | Path | np.ndarray | pd.DataFrame) -> Batch:
        """Returns new inputs as a batch for the model trained on this set.

        Args:
            value: one image, as a file or an array [h, w] or [h, w, c]: gives `image` [1, h, w, c], resized to what
                the set has; or the rows of a table: gives `features` [n, f].

        Raises:
            UserError: a column is missing, the file is no image, or the set has not this kind of input.
        """
        if isinstance(value, pd.DataFrame):
            if self.table is None:
                raise UserError(f"{self.name} is not a table: give {', '.join(self.shapes)}")
            return {"features": tables.encode(self.table, value)}
        if "image" not in self.shapes:
            raise UserError(f"{self.name} has no images but {', '.join(self.shapes)}: give a table")
        if not isinstance(value, np.ndarray):
            value = read_image(value, self.shapes["image"][0][-1])
        (height, width, channels), dtype = self.shapes["image"]
        image = as_image(value, (height, width))
        if image.shape[-1] != channels:
            raise UserError(f"an image has {image.shape[-1]} channels, {self.name} has {channels}")
        if dtype == "float32" and image.dtype == np.uint8:
            image = image.astype(np.float32) / 255
        return {"image": image[None]}


def _equal(a: Any, b: Any) -> bool:
    """Whether JSON values are equal, numbers up to rounding: machines sum statistics in another order."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6) or (math.isnan(a) and math.isnan(b))
    return a == b


def _shortened(value: Any, limit: int = 80) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def read_image(path: str | Path, channels: int) -> np.ndarray:
    """Returns the file's image, uint8 [h, w, channels], grey (1) or colour (3). Raises UserError if it is none."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(image.height, image.width, -1)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path} is not an image that Pillow reads ({error})") from error
