"""Image files as arrays, converted by value: images of any mode, and label maps.

h: height, w: width, c: channels
"""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import ExifTags, Image, ImageOps

from core.errors import UserError
from data.preprocess.values import narrow
from data.sources.files import reason

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
GREY = ("1", "L", "LA")
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # more than 8 bits per pixel, grey
IDS = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")  # modes of label maps
JPEG_PIXELS = 2**26  # of larger images OpenCV checks the size before it takes memory

Type = Literal["uint8", "float32"]
Pixels = UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"]

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow refuses twice that size by itself


def read_image(path: str | Path, channels: int | None = None, dtype: Type | None = None) -> Pixels:
    """Returns the image of a file, upright, grey (1 channel) or colour (3).

    8-bit images are uint8 in [0, 255], deeper ones float32 in [0, 1]. Transparent pixels are white. The first frame of
    an animation is read.

    Args:
        channels: 1 or 3; None keeps those of the file.
        dtype: of the result; None keeps the depth of the file.

    Raises UserError for other files, and for float images with values outside [0, 1].
    """
    with _opened(path) as image:
        pixels = _deep(image, path, channels or 1) if image.mode in DEEP else _shallow(image, channels)
    if dtype == "float32" and pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / 255
    if dtype == "uint8" and pixels.dtype == np.float32:
        return np.round(pixels * 255).astype(np.uint8)
    return pixels


def decode_colours(encoded: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the 8-bit pixels of an encoded image, not turned upright. Raises ValueError for other bytes."""
    import cv2  # decodes small images several times faster than Pillow; imported here: other data do not wait for it
    import simplejpeg  # takes two thirds of OpenCV's time for the same pixels

    with contextlib.suppress(ValueError):  # another format, or a form of JPEG that only OpenCV converts, such as CMYK
        height, width, *_ = simplejpeg.decode_jpeg_header(encoded)
        if height * width <= JPEG_PIXELS:
            return simplejpeg.decode_jpeg(encoded)
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("OpenCV cannot decode the image")
    return pixels


def _shallow(image: Image.Image, channels: int | None) -> UInt8[np.ndarray, "h w c"]:
    mode = "L" if channels == 1 or (channels is None and image.mode in GREY) else "RGB"
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return np.asarray(image.convert(mode)).reshape(image.height, image.width, -1)


def _deep(image: Image.Image, path: str | Path, channels: int) -> Float32[np.ndarray, "h w c"]:
    """Returns a grey image of 16 or 32 bits in [0, 1]; Pillow reads 16 bits as 32 from some formats."""
    values = np.asarray(image).astype(np.float64)[..., None]
    if image.mode != "F":
        values /= 65535
    if not (values.min() >= 0 and values.max() <= 1):  # NaN compares false, too
        unit = "in [0, 1]" if image.mode == "F" else "from 0 to 65535"
        raise UserError(f"{path} has pixels outside the range of its type, which must be {unit}: scale it first")
    return np.repeat(values.astype(np.float32), channels, axis=-1)


def read_label_map(path: str | Path) -> np.ndarray:
    """Returns the class ids of a file, [h, w, 1], uint8 or int32: grey levels, or numbers of palette entries.

    Raises UserError for other files, such as colours without palette.
    """
    with _opened(path) as image:
        if image.mode not in IDS:
            raise UserError(f"{path} holds colours (mode {image.mode}): save class ids as a grey or palette image")
        return narrow(np.asarray(image).astype(np.uint8 if image.mode in ("1", "L", "P") else np.int32))[..., None]


def image_format(paths: Iterable[str | Path]) -> tuple[int, Type]:
    """Returns the channels and the type that hold all images: grey only if all are grey, uint8 only if all have 8 bits.

    Only the headers are read. Raises UserError for files that are not images.
    """
    modes = {_header(path)[0] for path in paths}
    channels = 1 if modes.issubset(GREY + DEEP) else 3
    return channels, "uint8" if modes.isdisjoint(DEEP) else "float32"


def image_size(path: str | Path) -> tuple[int, int]:
    """Returns the height and width of an image, upright, from its header."""
    return _header(path)[1]


def _header(path: str | Path) -> tuple[str, tuple[int, int]]:
    with _errors(path), Image.open(path) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # 5 to 8 exchange height and width
        return image.mode, image.size if turned else image.size[::-1]


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """Yields the image of a file, upright."""
    with _errors(path), Image.open(path) as image:
        yield ImageOps.exif_transpose(image)


@contextlib.contextmanager
def _errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise any type for a broken file
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> UserError:
    if not Path(path).exists():
        return UserError(f"{path} does not exist")
    return UserError(f"{path} is not an image that Pillow can read ({reason(error)})")
