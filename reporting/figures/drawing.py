"""The pictures of a report: learning curves, confusion matrix, predicted against true, images.

Every figure is an SVG without background whose ink is `currentColor`, so that it follows a page's light or dark theme.
Matplotlib is imported when the first one is drawn, for it takes long to import; its global state is left alone.
"""

import dataclasses
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

# n examples, h height, w width, c channels, k classes
Images = Num[np.ndarray, "n h w c"]

PLAIN = {"parse_math": False}  # in a name from the data, "$" is a character like others
INK = "#010203"  # stands for the page's text colour while Matplotlib draws
COLORS = {"train": "#5b8def", "validation": "#ef8e3b", "test": "#2fa76d"}
ACCENT, WRONG = COLORS["train"], "#e0484d"
WIDTH = 4.8  # inches: a caption of 10 points is then still readable when a phone shrinks the figure

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


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture for the report: `image` is an SVG or PNG file's bytes, empty where there was nothing to show."""

    title: str
    caption: str
    image: bytes


def curves(history: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Draws one figure a metric, every split in it: those that were also evaluated first, and the loss before all.

    Args:
        history: rows of `metrics.jsonl`: `step`, `split`, then metrics. Values that are no finite number are left out.
    """
    series: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in history:
        for name, value in row.items():
            if name not in ("step", "split", "epoch") and isinstance(value, int | float) and np.isfinite(value):
                series.setdefault(name, {}).setdefault(row["split"], []).append((row["step"], value))
    order = sorted(series, key=lambda name: (set(series[name]) == {"train"}, name != "loss"))
    return [_curve(name, series[name]) for name in order]


def gradients_by_layer(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the norm of each layer's gradient, in the order of the network, a line a logged step.

    Args:
        history: rows of `training.diagnostics.gradient_norms`: `step`, then norms by name.
    """
    names = [name for name in history[0] if name.startswith("layer/")]

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        for row, color in _few(history):
            axes.plot([row[name] for name in names], color=color, marker=".", label=f"step {row['step']:,}")
        axes.set_xticks(range(len(names)), [_shorten(name.removeprefix("layer/"), 24) for name in names], **PLAIN)
        axes.tick_params(axis="x", rotation=90, labelsize=7 if len(names) < 40 else 4)
        _gradient_axes(axes)

    first, last = ([row[name] for name in names] for row in (history[0], history[-1]))
    ratios = " and ".join(f"{number(max(row) / max(min(row), 1e-30))} times" for row in (first, last))
    caption = f"Of the parameters, before clipping. The largest is {ratios} the smallest, first and last."
    return Figure("Gradient norm by layer", caption, _svg(WIDTH, 3.8, paint))


def gradients_by_time(history: Sequence[Mapping[str, Any]], name: str) -> Figure:
    """Draws the norm of the gradient of the watched input `name` ("time/...") over positions, a line a logged step."""

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        for row, color in _few(history):
            axes.plot(row[name], color=color, label=f"step {row['step']:,}", linewidth=1.2)
        axes.set_xlabel("position")
        _gradient_axes(axes)

    start, end = history[-1][name][0], history[-1][name][-1]
    caption = f"Last: {number(start)} at the first position, {number(end)} at the last."
    return Figure(f"Gradient norm by time step, {name.removeprefix('time/')}", caption, _svg(WIDTH, 3.1, paint))


def _few(rows: Sequence[Any], most: int = 5) -> list[tuple[Any, tuple[float, float, float, float]]]:
    """Returns rows evenly spaced from first to last, each with a colour of its own, the later the stronger."""
    from matplotlib.colors import to_rgb

    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))
    strengths = np.linspace(0.3, 1, len(chosen)) if len(chosen) > 1 else [1.0]
    return [(rows[i], (*to_rgb(ACCENT), strength)) for i, strength in zip(chosen, strengths, strict=True)]


def _gradient_axes(axes: Any) -> None:
    axes.set_yscale("log", nonpositive="mask")
    axes.grid(True)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.03, 1), ncols=3, fontsize=9, handlelength=1.4, columnspacing=1)


def confusion_matrix(labels: Int[np.ndarray, "n"], predictions: Int[np.ndarray, "n"], classes: Sequence[str]) -> Figure:
    """Draws true classes down, predicted across, each row as shares of its class; names and counts where they fit.

    Args:
        labels, predictions: [n] int, class numbers; pairs outside 0..k-1 are left out.
        classes: the k class names.
    """
    size, title = len(classes), "Confusion matrix"
    known = (labels >= 0) & (labels < size) & (predictions >= 0) & (predictions < size)
    if not known.any():
        return Figure(title, "No examples.", b"")
    counts = np.zeros((size, size), int)
    np.add.at(counts, (labels[known].astype(int), predictions[known].astype(int)), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.imshow(_pooled(share), cmap=_fade(ACCENT), vmin=0, vmax=1, extent=(-0.5, size - 0.5, size - 0.5, -0.5))
        axes.set(xlabel="predicted", ylabel="true")
        axes.spines[:].set_visible(True)
        if size <= 30:
            names = [_shorten(name, 16) for name in classes]
            upright = size > 6 and max(map(len, names)) > 2
            axes.set_xticks(
                range(size), names, rotation=90 if upright else 0, fontsize=10 if size <= 15 else 7, **PLAIN
            )
            axes.set_yticks(range(size), names, fontsize=10 if size <= 15 else 7, **PLAIN)
        if size <= 15:
            for row, column in np.argwhere(counts):
                color = "white" if share[row, column] > 0.5 else INK
                axes.text(column, row, counts[row, column], ha="center", va="center", color=color, fontsize=9)

    return Figure(title, _confusions(counts, classes), _svg(WIDTH, WIDTH if size > 4 else 3.6, paint))


def predicted_against_true(target: Float[np.ndarray, "n"], prediction: Float[np.ndarray, "n"]) -> Figure:
    """Draws a point an example and the line on which predictions are exact; the caption has R^2 and the mean error."""
    finite = np.isfinite(target) & np.isfinite(prediction)
    true, predicted = target[finite].astype(float), prediction[finite].astype(float)
    title = "Predicted against true"
    if not len(true):
        return Figure(title, "No finite predictions.", b"")

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        axes.axline((true.mean(), true.mean()), slope=1, color=INK, alpha=0.5, linewidth=1, linestyle="--")
        alpha = max(0.08, 0.6 / (1 + len(true) / 2000))
        many = len(true) > 2000  # as many vector shapes would make a page slow
        axes.scatter(true, predicted, s=14, color=ACCENT, alpha=alpha, linewidths=0, rasterized=many)
        axes.set(xlabel="true", ylabel="predicted", aspect="equal", adjustable="datalim")
        axes.grid(True)

    error, spread = predicted - true, ((true - true.mean()) ** 2).sum()
    fit = f"R² {1 - (error**2).sum() / spread:.3f}, " if spread > 0 else ""
    left_out = f" {(~finite).sum()} examples without a finite value are left out." if (~finite).any() else ""
    caption = f"{len(true):,} examples: {fit}mean absolute error {np.abs(error).mean():.4g}. Dashed: exact.{left_out}"
    return Figure(title, caption, _svg(WIDTH, WIDTH * 0.85, paint))


def worst_images(
    images: Callable[[Int[np.ndarray, " m"]], Images],
    labels: Int[np.ndarray, "n"],
    predictions: Int[np.ndarray, "n"],
    losses: Float[np.ndarray, "n"],
    classes: Sequence[str],
    count: int = 16,
) -> Figure:
    """Shows the wrongly classified images of highest loss; where nothing is wrong, the images of highest loss.

    Args:
        images: from indices to images, since only few of maybe very many are read; uint8, or float in [0, 1].
        labels, predictions: class numbers; `classes` has their names.
        losses: NaN counts as the worst.
    """
    mistakes = np.flatnonzero(labels != predictions)
    shown = mistakes if len(mistakes) else np.arange(len(labels))
    shown = shown[np.argsort(-np.nan_to_num(losses[shown], nan=np.inf, posinf=np.inf), kind="stable")][:count]
    above = [_shorten(str(classes[predictions[index]]), 13) for index in shown]
    below = [f"true: {_shorten(str(classes[labels[index]]), 13)}" for index in shown]
    color = WRONG if len(mistakes) else INK
    image = _grid(list(images(shown)) if len(shown) else [], above, below, color)
    if not len(mistakes):
        return Figure("Hardest examples", f"None of {len(labels):,} is wrong; these have the highest loss.", image)
    caption = f"{len(mistakes):,} of {len(labels):,} are wrong; highest loss first, the prediction above each image."
    return Figure("Worst mistakes", caption, image)


def image_grid(images: Images, titles: Sequence[str], *, title: str = "Images", caption: str = "") -> Figure:
    """Shows images (uint8, or float in [0, 1]; 1 or 3 channels) with their titles, or without where there are fewer."""
    above = [_shorten(str(each), 13) for each in titles][: len(images)]
    return Figure(title, caption, _grid(list(images), above + [""] * (len(images) - len(above))))


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


def _curve(name: str, splits: Mapping[str, list[tuple[int, float]]]) -> Figure:
    known = list(COLORS)
    place = {split: known.index(base) if (base := split.removesuffix("_ema")) in known else 9 for split in splits}
    order = sorted(splits, key=lambda split: (place[split], split))

    def paint(canvas: Any) -> None:
        axes = canvas.subplots()
        values = [value for points in splits.values() for _, value in points]
        if min(values) > 0 and max(values) > 50 * min(values) and "accuracy" not in name:
            axes.set_yscale("log")
        for split in order:
            _line(axes, split, np.array(sorted(splits[split]), float))
        axes.set_xlabel("step")
        axes.grid(True)
        if len(order) > 1:
            axes.legend(
                loc="lower left", bbox_to_anchor=(-0.03, 1), ncols=4, fontsize=9, handlelength=1.4, columnspacing=1
            )

    last = [f"{readable(split)} {number(max(splits[split])[1], name)}" for split in order]
    return Figure(readable(name), "Last: " + ", ".join(last) + ".", _svg(WIDTH, 3.1, paint))


def _line(axes: Any, split: str, points: Float[np.ndarray, "n 2"]) -> None:
    ema = split.endswith("_ema")
    style = {"color": COLORS.get(split.removesuffix("_ema"), INK), "linestyle": "--" if ema else "-"}
    step, value = points.T
    if len(points) == 1:
        style = style | {"linestyle": "none", "marker": "D" if ema else "o"}
        axes.plot(step, value, **style, label=readable(split))
    elif len(points) <= 60:
        axes.plot(step, value, **style, label=readable(split))
    else:  # a running mean over what is too noisy to follow; at most 500 points of each are drawn
        reach = len(points) // 60
        smooth = np.convolve(np.pad(value, reach, mode="edge"), np.full(2 * reach + 1, 1 / (2 * reach + 1)), "valid")
        every = slice(None, None, -(-len(points) // 500))
        axes.plot(step[every], value[every], **style, alpha=0.3, linewidth=1)
        axes.plot(step[every], smooth[every], **style, label=readable(split))


def _pooled(share: Float[np.ndarray, "k k"], most: int = 120) -> Float[np.ndarray, "m m"]:
    """Returns the greatest share of each block of cells, so that single ones stay visible among a thousand classes."""
    block = -(-len(share) // most)
    padding = -len(share) % block
    blocks = np.pad(share, (0, padding)).reshape(2 * ((len(share) + padding) // block, block))
    return blocks.max((1, 3))


def _confusions(counts: Int[np.ndarray, "k k"], classes: Sequence[str]) -> str:
    total, right = counts.sum(), np.trace(counts)
    wrong = counts - np.diag(np.diag(counts))
    worst = [np.unravel_index(index, wrong.shape) for index in np.argsort(-wrong, axis=None, kind="stable")[:3]]
    worst = [(row, column) for row, column in worst if wrong[row, column]]
    pairs = [f"{classes[row]} taken for {classes[column]} ({wrong[row, column]})" for row, column in worst]
    most = f" Most often {'; '.join(pairs)}." if pairs else ""
    return f"{right:,} of {total:,} right; colour is the share of a row.{most}"


def _grid(images: Sequence[Any], above: Sequence[str], below: Sequence[str] = (), color: str = INK) -> bytes:
    if not len(images):
        return b""
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    height = WIDTH / 4 * images[0].shape[0] / images[0].shape[1] + 0.22 * bool(any(above)) + 0.22 * bool(len(below))

    def paint(canvas: Any) -> None:
        every = canvas.subplots(rows, columns, squeeze=False).ravel()
        for axes in every:
            axes.axis("off")
        for index, (axes, image) in enumerate(zip(every, images, strict=False)):
            axes.imshow(_pixels(image))  # far smaller images than their place are drawn as sharp squares
            axes.set_title(above[index], color=color, pad=4, **PLAIN)
            if len(below):
                axes.text(
                    0.5, -0.05, below[index], transform=axes.transAxes, ha="center", va="top", fontsize=9, **PLAIN
                )

    return _svg(WIDTH * columns / 4, rows * height, paint)


def _pixels(image: Num[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w 3"]:
    scaled = np.asarray(image, np.float64) / (255 if np.issubdtype(image.dtype, np.integer) else 1)
    scaled = np.clip(np.nan_to_num(scaled), 0, 1)
    return scaled if scaled.shape[-1] == 3 else np.repeat(scaled[..., :1], 3, -1)


def _shorten(name: str, length: int) -> str:
    """Drops the middle, since numbered names differ at their end, and replaces characters that an SVG cannot hold."""
    name = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    return name if len(name) <= length else f"{name[: length - length // 2 - 1]}…{name[-(length // 2) :]}"


def _fade(color: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    # Square-root opacity: a few mistakes among many must still be seen.
    return LinearSegmentedColormap.from_list("fade", [(*to_rgb(color), alpha**0.5) for alpha in np.linspace(0, 1, 64)])


def _svg(width: float, height: float, paint: Callable[[Any], None]) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        paint(canvas)
        canvas.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])  # ids must be unique in a page of many figures
    return text.replace(INK, "currentColor").encode()
