"""Encodes new inputs for a trained model in the same way as its data set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from core.errors import UserError, nearest
from core.info import Info
from core.vocabulary import load_tokenizer
from data.preprocess import columns, tags, text
from data.preprocess.examples import Batch, as_image, stack


def encode_text(info: Info, key: str, texts: Sequence[str], words: bool = False) -> Batch:
    """Returns new texts for `key` as a batch: `<key>` int32 [b, t], `<key>_mask` [b, t] and `<key>_lengths` [b].

    Begin and end tokens enclose the texts if they do in the set; windows of a running text have none.

    Args:
        words: tokenises space-separated words one by one, as for a tagger, and adds `<key>_starts` bool [b, t], true at
            the first token of each word.

    Raises:
        UserError: `key` is not tokenised text, or `texts` is empty.
    """
    tokenized = {name for name, record in info.keys.items() if record.vocabulary and record.vocabulary.tokenizer}
    if key not in tokenized:
        raise UserError(f"{info.name} has no text {key!r}: {nearest(key, tokenized)}")
    if not texts:
        raise UserError(f"no text for {key!r}")
    tokenizer = load_tokenizer(info.keys[key].vocabulary.tokenizer)
    if not words:
        return text.padded(key, tokenizer, texts)
    encodings = tags.encode_words(tokenizer, texts)
    longest = max(len(encoding.ids) for encoding in encodings)
    ids = [np.array(encoding.ids, np.int32) for encoding in encodings]
    starts = [np.isin(np.arange(longest), tags.starts(encoding)) for encoding in encodings]
    return stack({key: ids}, {key: longest}) | {f"{key}_starts": np.stack(starts)}


def encode(info: Info, value: str | Path | np.ndarray | pd.DataFrame) -> Batch:
    """Returns new inputs as a batch.

    Args:
        value: one image, as a file or an array [h, w] or [h, w, c], which gives `image` [1, h, w, c], resized to the
            set's size; or the rows of a table, which give `features` [n, f].

    Raises:
        UserError: a column is missing, the file is not an image, or the set has another kind of input.
    """
    if isinstance(value, pd.DataFrame):
        if "table" not in info.state:
            raise UserError(f"{info.name} is not a table: give {', '.join(info.keys)}")
        return {"features": columns.encode(info.state["table"], value)}
    if "image" not in info.keys:
        raise UserError(f"{info.name} has no images but {', '.join(info.keys)}: give a table")
    record = info.keys["image"]
    height, width, channels = record.shape
    image = as_image(value if isinstance(value, np.ndarray) else read_image(value, channels), (height, width))
    if image.shape[-1] != channels:
        raise UserError(f"an image has {image.shape[-1]} channels, {info.name} has {channels}")
    if record.dtype == "float32" and image.dtype == np.uint8:
        image = image.astype(np.float32) / 255
    return {"image": image[None]}


def read_image(path: str | Path, channels: int) -> np.ndarray:
    """Returns the file's image, uint8 [h, w, channels], grey (1) or colour (3). Raises UserError for any other file."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(image.height, image.width, -1)
    except FileNotFoundError:
        raise UserError(f"file {path} does not exist") from None
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path} is not an image that Pillow can read ({error})") from error
