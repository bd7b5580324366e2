"""Pictures of attention: the weights of source words, or places of an image, at each generated token."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from reporting.drawing import PLAIN, canvas
from training.workdir import writing

# l: generated tokens, s: source words, h height, w width, c channels, i rows and j columns of a feature map

COLUMNS = (7, 6, 5)  # candidates for images per line; the one with the fewest empty places is used
PALE = 0.85  # share of white where the weight is 0


def over_words(path: str, source: list[str], written: list[str], weights: Float[np.ndarray, "l s"]) -> None:
    """Draws the weights as a matrix, generated tokens down and source tokens across (Bahdanau 2014, figure 3)."""
    with canvas(2 + 0.3 * len(source), 1.5 + 0.3 * len(written), {}) as figure:
        axes = figure.subplots()
        shown = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(source)), source, rotation=45, ha="left", rotation_mode="anchor", **PLAIN)
        axes.set_yticks(range(len(written)), written, **PLAIN)
        axes.xaxis.tick_top()
        axes.set_xticks(np.arange(1, len(source)) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, len(written)) - 0.5, minor=True)
        axes.grid(which="minor", color="white")
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(shown, ticks=(0, 0.5, 1), shrink=min(1, 4 / len(written)), aspect=15, pad=0.02)
        bar.outline.set_visible(False)
        with writing(Path(path)) as file:
            figure.savefig(file, dpi=150)


def over_image(
    path: str, image: Num[np.ndarray, "h w c"], written: list[str], weights: Float[np.ndarray, "l i j"]
) -> None:
    """Draws the image once per generated token, pale where the weights are low (as Xu et al. 2015, figure 3)."""
    columns = min(COLUMNS, key=lambda columns: -(len(written) + 1) % columns)
    rows = -(-(len(written) + 1) // columns)
    height, width = image.shape[:2]
    smooth = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "interpolation": "bicubic"}
    with canvas(2.0 * columns, (2 * height / width + 0.3) * rows, {}) as figure:
        for axes in (places := figure.subplots(rows, columns, squeeze=False).ravel()):
            axes.axis("off")
        places[0].imshow(image.squeeze(), cmap="gray", **smooth)
        for axes, word, each in zip(places[1:], written, weights, strict=False):
            axes.imshow(image.squeeze(), cmap="gray", **smooth)
            shade = each / max(each.max(), 1e-9)
            axes.imshow(np.ones((*each.shape, 3)), alpha=PALE * (1 - shade), **smooth)
            axes.set_title(word, fontsize=11, **PLAIN)
        with writing(Path(path)) as file:
            figure.savefig(file, dpi=150)
