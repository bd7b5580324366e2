"""The figures of an experiment: rows or curves with intervals next to the paper's values, and gradient norms."""

import contextlib
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.engine.experiment import Experiment
from experiments.engine.results import Record
from experiments.engine.statistics import Row
from reporting.drawing import ACCENT, CYCLE, PLAIN, STYLE, canvas
from training.workdir import writing

INKS = dict.fromkeys([name for name, value in STYLE.items() if value == STYLE["text.color"]], "#1b2330")
SETTINGS = STYLE | INKS | {"savefig.transparent": False, "savefig.facecolor": "white"}


def table(experiment: Experiment, rows: Sequence[Row], path: Path) -> None:
    """Draws the measured rows, as curves if the experiment declares them, and the paper's values in a separate panel,
    since their unit or data set differs.
    """
    curves, paper = bool(experiment.curves), experiment.paper.values
    height = 3.6 if curves else 0.9 + 0.32 * len(rows)
    with _canvas(path, 9.6 if paper else 5.6, height, 1 + bool(paper)) as panels:
        (_curves if curves else _points)(panels[0], experiment, rows)
        if paper:
            shown = [row.label for row in rows if row.label in paper or not curves]
            places = [place for place, label in enumerate(shown) if label in paper]
            panels[1].plot([paper[shown[place]] for place in places], places, "D", color="#5e6b7a")
            _label_rows(panels[1], shown)
            panels[1].set(
                xlabel=experiment.paper.metric,
                title=f"arXiv {experiment.paper.arxiv}" if experiment.paper.arxiv else "paper",
            )


def gradients(experiment: Experiment, records: Sequence[Record], path: Path) -> None:
    """Draws the gradient norm per layer at the first step, averaged over seeds; nothing if none was logged."""
    logged = [record for record in records if record.chosen and record.gradients]
    if not logged:
        return
    with _canvas(path, 7.2, 4.2, 1) as (axes,):
        for number, label in enumerate(experiment.rows):
            per_seed = [record.gradients for record in logged if record.row == label]
            if per_seed:
                norms = [np.mean([norms[name] for norms in per_seed]) for name in sorted(per_seed[0], key=_natural)]
                style = {
                    "color": CYCLE[number % len(CYCLE)],
                    "linestyle": ("-", "--", ":")[number // len(CYCLE) % 3],
                }
                axes.plot(range(1, len(norms) + 1), norms, marker=".", label=label, **style)
        axes.set_yscale("log", nonpositive="mask")
        axes.set(xlabel="layer", ylabel="gradient norm at the first step")
        axes.grid(True)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, handlelength=4)


def _curves(axes: Any, experiment: Experiment, rows: Sequence[Row]) -> None:
    measured = {row.label: row.interval for row in rows if row.values}
    curves = experiment.curves
    names = list(dict.fromkeys(name for name, _ in curves.points.values()))
    for color, name in zip(CYCLE * len(names), names, strict=False):
        points = [
            (x, measured[label]) for label, (curve, x) in curves.points.items() if curve == name and label in measured
        ]
        if not points:
            continue
        x, intervals = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        axes.errorbar(
            x, [y.mean for y in intervals], _errors(intervals), color=color, marker="o", label=name, capsize=3
        )
    axes.set(xlabel=curves.x, ylabel=experiment.metric.lstrip("-"))
    if curves.log:
        halved = all(math.frexp(x)[0] == 0.5 for _, x in curves.points.values())  # powers of two
        axes.set_xscale("log", base=2 if halved else 10)
    axes.grid(True)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.03, 1), ncols=3, fontsize=9)


def _points(axes: Any, experiment: Experiment, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        if row.values:
            axes.plot(list(row.values.values()), [place] * len(row.values), ".", color=ACCENT, alpha=0.4)
            axes.errorbar(row.interval.mean, place, xerr=_errors([row.interval]), color=ACCENT, marker="o", capsize=3)
    _label_rows(axes, [row.label for row in rows])
    axes.set_xlabel(experiment.metric.lstrip("-"))
    axes.grid(True, axis="x")


def _errors(intervals: Sequence[Any]) -> np.ndarray:
    """Returns [2, n], the distances from the means to the lower and upper bounds; 0 where they are infinite."""
    reach = np.array([[y.mean - y.low, y.high - y.mean] for y in intervals]).T
    return np.where(np.isfinite(reach), reach, 0)


def _natural(name: str) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _label_rows(axes: Any, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, **PLAIN)
    axes.set_ylim(len(labels) - 0.5, -0.5)


@contextlib.contextmanager
def _canvas(path: Path, width: float, height: float, panels: int) -> Iterator[list[Any]]:
    """Yields panels to draw in, then writes the figure."""
    with canvas(width, height, SETTINGS) as figure:
        yield list(figure.subplots(1, panels, squeeze=False)[0])
        for axes in figure.axes:  # row and curve names may contain a "$"; ticks of a logarithmic axis are math
            legend = axes.get_legend()
            for text in [axes.title, axes.xaxis.label, axes.yaxis.label, *(legend.get_texts() if legend else ())]:
                text.set_parse_math(False)
        with writing(path) as file:
            figure.savefig(file, format="png", metadata={"Software": None})
