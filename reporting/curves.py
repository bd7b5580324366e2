"""Learning curves: of one run, all splits of a metric in a figure; of several runs, a line per run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from core.errors import printable
from reporting.drawing import ABOVE, COLORS, CYCLE, INK, PLAIN, WIDTH, Figure, number, readable, svg

# n: points of a line

Row = Mapping[str, Any]  # of metrics.jsonl: `step`, `split`, then metrics
Points = list[tuple[int, float]]  # (step, value)

OTHER = ("step", "split", "epoch", "seconds")  # in a row, but not metrics
MANY = 60  # number of points from which a running mean is drawn over them


def of_run(history: Sequence[Row]) -> list[Figure]:
    """Returns a figure per metric with all its splits: metrics that were also evaluated first, the loss before all."""
    series: dict[str, dict[str, Points]] = {}
    for name, split, point in _points(history):
        series.setdefault(name, {}).setdefault(split, []).append(point)
    order = sorted(series, key=lambda name: (set(series[name]) == {"train"}, name != "loss"))
    return [_splits(name, series[name]) for name in order]


def of_runs(histories: Mapping[str, Sequence[Row]]) -> list[Figure]:
    """Returns a figure per split and metric with a line per run, evaluated splits before the training split.

    Metrics with one point in every run are left out.

    Args:
        histories: label of a run -> its rows. Order and number of the labels decide the colours.
    """
    histories = {printable(label): history for label, history in histories.items()}
    series: dict[tuple[str, str], dict[str, Points]] = {}
    for label, history in histories.items():
        for name, split, point in _points(history):
            series.setdefault((split, name), {}).setdefault(label, []).append(point)
    drawn = {key: lines for key, lines in series.items() if any(len(points) > 1 for points in lines.values())}
    order = sorted(drawn, key=lambda key: (key[0] == "train", key[1] != "loss"))
    return [_runs(name, split, drawn[split, name], list(histories)) for split, name in order]


def line_styles(count: int) -> list[dict[str, str]]:
    """Returns colours and dashes that distinguish this number of lines."""
    dashes = ("-", "--", ":", "-.")
    return [
        {"color": CYCLE[place % len(CYCLE)], "linestyle": dashes[place // len(CYCLE) % len(dashes)]}
        for place in range(count)
    ]


def _points(history: Sequence[Row]) -> Iterator[tuple[str, str, tuple[int, float]]]:
    """Yields (metric, split, (step, value)) for every finite number."""
    for row in history:
        for name, value in row.items():
            if name not in OTHER and isinstance(value, int | float) and np.isfinite(value):
                yield name, row["split"], (row["step"], value)


def _splits(name: str, splits: Mapping[str, Points]) -> Figure:
    known = list(COLORS)
    place = {split: known.index(base) if (base := split.removesuffix("_ema")) in known else 9 for split in splits}
    order = sorted(splits, key=lambda split: (place[split], split))

    def paint(canvas: Any) -> None:
        axes = _axes(canvas, name, splits)
        for split in order:
            dashes = "--" if split.endswith("_ema") else "-"
            style = {"color": COLORS.get(split.removesuffix("_ema"), INK), "linestyle": dashes}
            _line(axes, readable(split), np.array(sorted(splits[split]), float), style)
        if len(order) > 1:
            axes.legend(ncols=4, **ABOVE)

    last = [f"{readable(split)} {number(max(splits[split])[1], name)}" for split in order]
    return Figure(readable(name), "Last: " + ", ".join(last) + ".", svg(WIDTH, 3.1, paint))


def _runs(name: str, split: str, lines: Mapping[str, Points], labels: list[str]) -> Figure:
    styles = dict(zip(labels, line_styles(len(labels)), strict=True))

    def paint(canvas: Any) -> None:
        axes = _axes(canvas, name, lines)
        for label, points in lines.items():
            _line(axes, label, np.array(sorted(points), float), styles[label])
        if len(lines) <= 10:  # the table of results also has the colours
            legend = axes.legend(ncols=1 if max(map(len, lines)) > 24 else 2, **ABOVE)
            for text in legend.get_texts():
                text.set(**PLAIN)

    last = [f"{label}: {number(max(points)[1], name)}" for label, points in lines.items()]
    caption = f"Last: {'; '.join(last)}." if len(last) <= 4 else "Colours as in the table of results."
    height = 3.1 + 0.19 * (min(len(lines), 10) // 2)
    return Figure(f"{readable(name)}, {split.replace('_', ' ')}", caption, svg(WIDTH, height, paint))


def _axes(canvas: Any, name: str, lines: Mapping[str, Points]) -> Any:
    axes = canvas.subplots()
    values = [value for points in lines.values() for _, value in points]
    if min(values) > 0 and max(values) > 50 * min(values) and "accuracy" not in name:
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.grid(True)
    return axes


def _line(axes: Any, label: str, points: Float[np.ndarray, "n 2"], style: dict[str, str]) -> None:
    """Draws points, the label unchanged where Matplotlib would drop it or read it as mathematics."""
    step, value = points.T
    label = f"\N{ZERO WIDTH SPACE}{label}"  # Matplotlib drops a label that begins with "_"
    if len(points) == 1:
        marker = "D" if style["linestyle"] == "--" else "o"
        axes.plot(step, value, color=style["color"], linestyle="none", marker=marker, label=label)
    elif len(points) <= MANY:
        axes.plot(step, value, **style, label=label)
    else:  # at most 500 points of each line are drawn
        reach = len(points) // MANY
        smooth = np.convolve(np.pad(value, reach, mode="edge"), np.full(2 * reach + 1, 1 / (2 * reach + 1)), "valid")
        every = slice(None, None, -(-len(points) // 500))
        axes.plot(step[every], value[every], **style, alpha=0.3, linewidth=1)
        axes.plot(step[every], smooth[every], **style, label=label)
