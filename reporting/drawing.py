"""Drawing for report pages: the type of a figure, its style, and text and images as Matplotlib takes them.

A picture is an SVG without background whose ink is `currentColor`, so that it follows the page's light or dark theme.
Matplotlib is imported when the first picture is drawn, because the import is slow; its global state does not change.
"""

import contextlib
import dataclasses
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from core.errors import printable

# n examples, h height, w width, c channels
Images = Num[np.ndarray, "n h w c"]

PLAIN = {"parse_math": False}  # "$" in a name is an ordinary character
INK = "#010203"  # placeholder for the page's text colour while Matplotlib draws
COLORS = {"train": "#5b8def", "validation": "#ef8e3b", "test": "#2fa76d"}
ACCENT, WRONG = COLORS["train"], "#e0484d"
CYCLE = (ACCENT, "#ef8e3b", "#2fa76d", "#b04bc4", "#7a6248", "#e0484d", "#5e6b7a", "#12a4b8", "#c7a008", "#d36ba6")
WIDTH = 4.8  # inches; text of 10 points stays readable when a phone shrinks the figure
ABOVE = {"loc": "lower left", "bbox_to_anchor": (-0.03, 1), "fontsize": 9, "handlelength": 1.4, "columnspacing": 1}

INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
STYLE = dict.fromkeys(INKED, INK) | {
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 10,
    "grid.alpha": 0.13,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 160,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "",
}
CJK = re.compile(r"CJK|Han|Gothic|Mincho|Hei|Song|Nanum|Unifont|Droid Sans Fallback")  # in names of fonts


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of a page.

    Attributes:
        title, caption: above the picture.
        image: bytes of an SVG or PNG file; empty without a picture.
        table: rows of text, the first of which is the heading; empty without a table.
    """

    title: str
    caption: str
    image: bytes = b""
    table: Sequence[Sequence[str]] = ()


def svg(width: float, height: float, paint: Callable[[Any], None]) -> bytes:
    """Returns the SVG of a Matplotlib figure of this size in inches on which `paint` has drawn."""
    file = io.StringIO()
    with canvas(width, height, STYLE) as figure:
        paint(figure)
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])  # ids must be unique in a page of many figures
    return text.replace(INK, "currentColor").encode()


@contextlib.contextmanager
def canvas(width: float, height: float, style: dict[str, Any]) -> Iterator[Any]:
    """Yields a Matplotlib figure of this size in inches, to be drawn and saved inside the context.

    Characters that Matplotlib's own font lacks are drawn in an installed font that has them. Without such a font the
    file is still written: an SVG is text, which the browser draws in its own fonts.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(style | {"font.sans-serif": _fonts()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield Figure(figsize=(width, height), layout="constrained")


def _fonts() -> list[str]:
    """Returns Matplotlib's sans-serif font and the installed fonts with Chinese, Japanese and Korean characters."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *sorted(name for name in installed if CJK.search(name) and "Serif" not in name)]


def image_grid(images: Images, above: Sequence[str] = (), below: Sequence[str] = (), color: str = INK) -> bytes:
    """Returns an SVG of images (uint8, or float in [0, 1]; 1 or 3 channels), four across.

    Args:
        above, below: a text per image, or (); `fit` makes names as narrow as an image.
        color: of the text above.
    """
    if not len(images):
        return b""
    columns, rows = 4, -(-len(images) // 4)
    text = {"ha": "center", "fontsize": 9, **PLAIN}
    lines = [max((each.count("\n") + 1 for each in texts), default=0) for texts in (above, below)]
    height = WIDTH / 4 * images.shape[1] / images.shape[2] + 0.17 * sum(lines) + 0.08

    def paint(figure: Any) -> None:
        every = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in every:
            axes.axis("off")
        for index, (axes, image) in enumerate(zip(every, images, strict=False)):
            axes.imshow(pixels(image))  # the browser enlarges few pixels as sharp squares
            if len(above):
                axes.text(0.5, 1.03, above[index], transform=axes.transAxes, va="bottom", color=color, **text)
            if len(below):
                axes.text(0.5, -0.03, below[index], transform=axes.transAxes, va="top", **text)

    return svg(WIDTH, rows * height, paint)


def pixels(image: Num[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w 3"]:
    """Returns an image as RGB in [0, 1]; NaN is black."""
    scaled = np.asarray(image, np.float64) / (255 if np.issubdtype(image.dtype, np.integer) else 1)
    scaled = np.clip(np.nan_to_num(scaled), 0, 1)
    return scaled if scaled.shape[-1] == 3 else np.repeat(scaled[..., :1], 3, -1)


def shorten(name: str, length: int) -> str:
    """Returns a printable name of at most `length` characters, without its middle: numbers are at the end of names."""
    name = printable(name)
    return name if len(name) <= length else f"{name[: length - length // 2 - 1]}…{name[-(length // 2) :]}"


def fit(name: str, width: int = 12, lines: int = 2) -> str:
    """Returns a printable name on at most `lines` lines of `width` letters, without its middle if it is longer.

    Chinese, Japanese and Korean characters are as wide as two letters. A line ends after a space, "_" or "-" where its
    second half has one and the rest still fits.
    """
    if any(unicodedata.east_asian_width(character) in "WF" for character in name):
        width //= 2
    rest, result = shorten(name, width * lines), []
    for left in range(lines - 1, 0, -1):
        if len(rest) <= width:
            break
        ends = [
            end for end in range(width // 2, width + 1) if rest[end - 1] in " _-" and len(rest) - end <= left * width
        ]
        end = max(ends, default=width)
        result.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return "\n".join([*result, rest])


def readable(name: str) -> str:
    """Turns a metric's or split's name into a heading: `validation_ema` -> `Validation EMA`."""
    words = re.sub(r"\b(ema|auc|roc|mae|mse|rmse|r2|flops)\b", lambda match: match[0].upper(), name.replace("_", " "))
    return words[:1].upper() + words[1:]


def number(value: Any, name: str = "") -> str:
    """Writes a metric's value for people: accuracies in per cent, other fractions to four digits."""
    if not isinstance(value, int | float | np.number) or isinstance(value, bool):
        return str(value)
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else "∞" if value > 0 else "-∞"
    if "accuracy" in name:
        return f"{100 * value:.2f}%"
    whole = float(value).is_integer() or abs(value) >= 1e4
    return f"{value:,.0f}" if whole and abs(value) < 1e15 else f"{value:.4g}"
