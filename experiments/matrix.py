"""The answer of experiments/suite.py, one table and one picture: python -m experiments.matrix [FOLDER...]

Reads the kept results, `experiments/results/suite-*`, or folders of results; writes suite.md and suite.png beside them.
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs import suite
from core import cli
from core.errors import UserError
from experiments.engine.plot import SETTINGS
from experiments.engine.statistics import Interval
from experiments.suite import MEASURED, TIME
from experiments.table import RESULTS, Measured, markdown, spread
from reporting.drawing import PLAIN, canvas
from training.workdir import write_whole, writing

BASELINE = "simple baseline"
FAR = 5  # distance from the best, in median half intervals, from which on a row may have the colour of the worst
TITLES = {"": "equal parameters", TIME: "equal training time"}


@dataclasses.dataclass(frozen=True)
class Column:
    """Results on one modality.

    Attributes:
        name: of the modality; `metric` as in `Experiment.metric`.
        intervals: row -> mean and interval.
        cost: row -> (parameters, seconds per run), as texts.
    """

    name: str
    metric: str
    intervals: Mapping[str, Interval]
    cost: Mapping[str, tuple[str, str]]

    @property
    def sign(self) -> int:
        return -1 if self.metric.startswith("-") else 1

    def shares(self, ending: str) -> dict[str, float]:
        """Returns the place of each row with this ending between the worst (0) and the best (1) of the column, without
        the ending; that of the baseline is cut to this range. Where all are alike, within FAR, the places are too."""
        rows = rows_of(self.intervals, ending)
        values = {row: self.sign * of.mean for row, of in rows.items() if math.isfinite(of.mean)}
        learned = [value for row, value in values.items() if row != BASELINE] or list(values.values())
        halves = [of.high - of.mean for of in rows.values() if math.isfinite(of.high)]
        best, noise = max(learned, default=0.0), statistics.median(halves or [0.0])
        span = max(best - min(learned, default=0.0), FAR * noise) or 1.0
        return {row: float(np.clip(1 - (best - value) / span, 0, 1)) for row, value in values.items()}


def rows_of(intervals: Mapping[str, Interval], ending: str) -> dict[str, Interval]:
    """Returns the rows at equal parameters or time, by architecture, and the baseline."""
    named = {row: row.removesuffix(TIME) for row in intervals if row == BASELINE or row.endswith(TIME) == bool(ending)}
    return {name: intervals[row] for row, name in named.items()}


def column(measured: Measured, baselines: Mapping[str, Mapping[str, Any]]) -> Column:
    """Returns the results of one experiment, with the baseline of its modality if there is one."""
    name = measured.experiment.scale
    intervals = {row.label: row.interval for row in measured.rows if row.values}
    if value := baselines.get(name, {}).get("value"):
        intervals[BASELINE] = Interval(value, -math.inf, math.inf)
    return Column(name, measured.experiment.metric, intervals, {row: measured.cost(row) for row in intervals})


def draw(columns: Sequence[Column], path: Path) -> None:
    """Draws architectures against modalities, one panel at equal parameters and one at equal time; each cell has the
    mean and half its interval, and its colour the place between the worst and the best of its column."""
    known = {name for of in columns for ending in TITLES for name in of.shares(ending)}
    names = [name for name in (BASELINE, *suite.ARCHITECTURES) if name in known]
    panels = [ending for ending in TITLES if any(len(of.shares(ending)) > (BASELINE in of.intervals) for of in columns)]
    with canvas(1.6 + len(panels) * (1.4 + 0.9 * len(columns)), 1.4 + 0.42 * len(names), SETTINGS) as figure:
        for axes, ending in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            shares = np.full((len(names), len(columns)), np.nan)
            for x, of in enumerate(columns):
                rows = rows_of(of.intervals, ending)
                for name, share in of.shares(ending).items():
                    y = names.index(name)
                    shares[y, x] = share
                    text = spread(rows[name]).replace(" ± ", "\n±")
                    axes.text(x, y, text, ha="center", va="center", fontsize=6.5, color="#1b2330", **PLAIN)
            axes.imshow(shares, cmap="RdYlGn", vmin=-0.35, vmax=1.35, aspect="auto")
            labels = [f"{of.name}\n{of.metric.rpartition('/')[2]} {'↓' if of.sign < 0 else '↑'}" for of in columns]
            axes.set_xticks(range(len(columns)), labels, fontsize=7, rotation=30, ha="right", **PLAIN)
            axes.set_yticks(range(len(names)), names, fontsize=8, **PLAIN)
            axes.set_title(TITLES[ending])
            axes.tick_params(length=0)
        with writing(path) as file:
            figure.savefig(file, format="png", metadata={"Software": None})


def text(columns: Sequence[Column]) -> str:
    """Returns the Markdown tables: results of each panel, the best architecture of a column in bold, and the cost."""
    heading = ["", *(f"{of.name}, {of.metric.lstrip('-').rpartition('/')[2]}" for of in columns)]
    parts = []
    for ending, title in TITLES.items():
        lines = []
        for name in (BASELINE, *suite.ARCHITECTURES):
            cells = [_cell(of, name, ending) for of in columns]
            if any(cells):
                lines.append([name, *cells])
        parts += [f"**At {title}**", markdown(heading, lines)]
    lines = [
        [row, *(", ".join(filter(None, of.cost[row])) if row in of.cost else "" for of in columns)]
        for row in dict.fromkeys(row for of in columns for row in of.intervals if row != BASELINE)
    ]
    return "\n\n".join([*parts, "**Cost: parameters, seconds per run**", markdown(heading, lines)]) + "\n"


def _cell(of: Column, name: str, ending: str) -> str:
    rows = rows_of(of.intervals, ending)
    if name not in rows:
        return ""
    learned = [of.sign * interval.mean for row, interval in rows.items() if row != BASELINE]
    mark = "**" if name != BASELINE and of.sign * rows[name].mean == max(learned) else ""
    return f"{mark}{spread(rows[name])}{mark}"


def main(argv: list[str]) -> None:
    folders = [Path(path) for path in argv[1:]] or [path.parent for path in sorted(RESULTS.glob("suite-*/meta.json"))]
    if not folders:
        raise UserError(f"{RESULTS} has no results of experiments/suite.py: run one, and keep it by experiments.table")
    baselines = json.loads(MEASURED.read_text())["baselines"]
    measured = [Measured.of(folder) for folder in folders]
    for folder, one in zip(folders, measured, strict=True):
        if not one.meta["config"].startswith("experiments/suite.py:"):
            raise UserError(f"{folder} holds results of {one.meta['config']}, not of experiments/suite.py")
    columns = [column(one, baselines) for one in measured]
    columns.sort(key=lambda of: list(suite.MODALITIES).index(of.name))
    target = folders[0].parent
    draw(columns, target / "suite.png")
    write_whole(target / "suite.md", text(columns))
    print(f"{target}/suite.png, {target}/suite.md: {len(columns)} modalities")


if __name__ == "__main__":
    cli.run(main)
