"""Declaration of an experiment: the table of a paper, its claims, and the runs that test them.

Each file of `experiments/` defines `get_config(arg)`, which returns `experiment(arg, ...)`. The argument is

    ""  or  "cpu"  or  "full"             an Experiment: all rows of a scale
    "cpu,LABEL[,seed=3][,KEY=VALUE]..."   the config of one cell, for train.py; KEY is one of the tuned keys
"""

import ast
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from core import recipes
from core.errors import UserError, nearest
from training import config as config_lib
from training.overrides import assignments, override, to_text

Values = tuple[tuple[str, Any], ...]  # (dotted key, value)
LABEL = re.compile(r"[\w.+-]+")  # a folder name without a comma or = (see `get_config`)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """A size of an experiment: "cpu" takes at most 10 minutes in total on two cores, "full" is the paper's.

    Attributes:
        base: the recipe that rows override.
        seeds: number of seeds per row: 0 to seeds - 1.
        minutes: total time of all cells; 0 = unknown.
        rows: labels of the rows of this scale; () = all.
    """

    base: ConfigDict
    seeds: int = 5
    minutes: float = 0.0
    rows: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
    """The paper and its published numbers.

    Attributes:
        table: location of the values in the paper.
        metric: unit of the values, with the paper's data set if it differs from the experiment's.
        values: label of a row -> published value.
        recalled: rows whose value was not checked against a copy; printed as unverified.
    """

    title: str
    arxiv: str
    table: str = ""
    metric: str = ""
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    recalled: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Claim:
    """Row `better` is better than row `worse` by more than `least`, in units of the metric.

    A negative `least` claims that `better` is worse by less than that.
    """

    better: str
    worse: str
    sentence: str
    least: float = 0.0


@dataclasses.dataclass(frozen=True)
class Curves:
    """Curves of the figure: `points` maps the label of a row to (name of its curve, x); `x` labels the axis."""

    x: str
    points: Mapping[str, tuple[str, float]]
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run: a row, a seed, and a value for each tuned key."""

    row: str
    seed: int = 0
    values: Values = ()

    @property
    def argument(self) -> str:
        """The part of a recipe's name after "FILE.py:SCALE,"."""
        return ",".join([self.row, f"seed={self.seed}", *(f"{key}={value!r}" for key, value in self.values)])

    @property
    def folder(self) -> str:
        """The workdir, relative to the experiment's folder."""
        return "/".join(
            [self.row, *(f"{key.rpartition('.')[2]}={value!r}" for key, value in self.values), f"{self.seed}"]
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment at one scale, restricted to the rows of that scale.

    Attributes:
        scales: names of all scales.
        metric: SPLIT/METRIC of results.json; with a leading minus if lower is better.
        base: the recipe.
        rows: label -> overrides of the recipe (dotted key -> value).
        tune: dotted key -> candidate values; each row takes the value that is best for seed 0 on the validation split,
            by the metric of the same name.
        diverged: value of a run whose loss became infinite; None: a row with such a run has no result.
        starts: row -> the row whose weights, of the same seed, initialise it (`config.init_from`).
        ladder: whether each row adds something to the row before; the table then has its gain.
        changes: overrides of all rows from the command line (`changed`).
    """

    scale: str
    scales: tuple[str, ...]
    metric: str
    seeds: tuple[int, ...]
    base: ConfigDict
    rows: Mapping[str, Mapping[str, Any]]
    paper: Paper
    minutes: float = 0.0
    claims: tuple[Claim, ...] = ()
    tune: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    curves: Curves | None = None
    diverged: float | None = None
    starts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ladder: bool = False
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def change_texts(self) -> list[str]:
        """Returns the changes in the form of the command line, KEY=VALUE."""
        return [to_text(key, value) for key, value in self.changes.items()]


def experiment(
    arg: str,
    *,
    metric: str,
    rows: Mapping[str, Mapping[str, Any]],
    scales: Mapping[str, Scale],
    paper: Paper,
    claims: tuple[Claim, ...] = (),
    tune: Mapping[str, tuple] | None = None,
    curves: Curves | None = None,
    diverged: float | None = None,
    starts: Mapping[str, str] | None = None,
    ladder: bool = False,
) -> Experiment | ConfigDict:
    """Returns the experiment at a scale, or the complete training config of one cell, as `arg` selects.

    The arguments are the attributes of `Experiment`, for all scales.

    Raises UserError for an unknown scale, row or key; for a claim, value, curve or start with an unknown row; and for a
    start row that is tuned or has a start itself.
    """
    scale, *rest = (arg or next(iter(scales))).split(",")
    if scale not in scales:
        raise UserError(f"unknown scale {scale!r}: {nearest(scale, scales)}")
    _check_labels(rows, scales[scale], paper, claims, curves)
    labels = scales[scale].rows or tuple(rows)
    starts = {row: start for row, start in (starts or {}).items() if row in labels}
    _check_starts(starts, labels, tune)
    result = Experiment(
        scale=scale,
        scales=tuple(scales),
        metric=metric,
        seeds=tuple(range(scales[scale].seeds)),
        minutes=scales[scale].minutes,
        base=scales[scale].base,
        rows={label: rows[label] for label in labels},
        paper=dataclasses.replace(paper, values={label: x for label, x in paper.values.items() if label in labels}),
        claims=tuple(claim for claim in claims if claim.better in labels and claim.worse in labels),
        tune=tune or {},
        curves=curves and dataclasses.replace(curves, points={k: x for k, x in curves.points.items() if k in labels}),
        diverged=diverged,
        starts=starts,
        ladder=ladder,
    )
    return cell_config(result, parse_cell(result, rest)) if rest else result


def load(text: str) -> tuple[Experiment, str]:
    """Returns the experiment of "FILE.py[:SCALE]", and its name including the scale. Raises UserError."""
    path, _, scale = text.partition(":")
    if "," in scale:
        raise UserError(f"--config {text} is one cell: run it with train.py, or name the scale only")
    loaded = recipes.load(text)
    if not isinstance(loaded, Experiment):
        raise UserError(
            f"--config {path} is not an experiment: it declares no rows; see experiments/engine/experiment.py"
        )
    return loaded, f"{path}:{loaded.scale}"


def changed(experiment: Experiment, texts: Iterable[str]) -> Experiment:
    """Returns the experiment with the overrides KEY=VALUE in all rows; tuning of an overridden key is dropped.

    Raises UserError for a malformed text, and for `seed`.
    """
    changes = assignments(texts)
    if "seed" in changes:
        raise UserError(f"--set seed={changes['seed']}: every row has several seeds; --seeds sets their number")
    tune = {key: grid for key, grid in experiment.tune.items() if key not in changes}
    return dataclasses.replace(experiment, changes=changes, tune=tune)


def folder_name(recipe: str, experiment: Experiment) -> str:
    """Returns the folder's name of an experiment FILE.py:SCALE, including its changes."""
    stem = Path(recipe.partition(":")[0]).stem
    return re.sub(r"[^\w.=+-]+", "_", "-".join([stem, experiment.scale, *experiment.change_texts]))


def equalised(experiment: Experiment) -> list[str]:
    """Returns the keys in which rows differ and which the experiment's changes replace."""
    before, after = (
        {row: dict(config_lib.leaves(cell_config(version, Cell(row)))) for row in experiment.rows}
        for version in (dataclasses.replace(experiment, changes={}), experiment)
    )
    keys = dict.fromkeys(key for leaves in before.values() for key in leaves)
    differ = [key for key in keys if len({repr(leaves.get(key)) for leaves in before.values()}) > 1]
    return [key for key in differ if any(before[row].get(key) != after[row].get(key) for row in before)]


def candidates(experiment: Experiment) -> list[Values]:
    """Returns the combinations of values of the tuned keys; one empty combination if no key is tuned."""
    return [tuple(zip(experiment.tune, values, strict=True)) for values in itertools.product(*experiment.tune.values())]


def parse_cell(experiment: Experiment, parts: list[str]) -> Cell:
    """Returns the cell that the parts of an argument after the scale describe. Raises UserError."""
    row, *settings = parts
    _known(row, experiment.rows, f"scale {experiment.scale!r}")
    seed, values = 0, []
    for setting in settings:
        key, _, text = setting.partition("=")
        if key not in ("seed", *experiment.tune):
            raise UserError(f"unknown setting {setting!r} of a cell: {nearest(key, ('seed', *experiment.tune))}")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError) as error:
            raise UserError(f"{setting!r}: write {key}=NUMBER") from error
        if key == "seed" and not (isinstance(value, int) and value >= 0):
            raise UserError(f"{setting!r}: a seed is an integer of at least 0")
        if key == "seed":
            seed = value
        else:
            values.append((key, value))
    return Cell(row, seed, tuple(values))


def source(experiment: Experiment, cell: Cell) -> Cell | None:
    """Returns the cell whose final weights initialise `cell`, or None; it must run first."""
    row = experiment.starts.get(cell.row)
    return row and Cell(row, cell.seed)


def with_sources(experiment: Experiment, rows: Sequence[str]) -> list[str]:
    """Returns the labels of `rows` and of their start rows, in the order of the experiment."""
    wanted = {*rows, *(start for row, start in experiment.starts.items() if row in rows)}
    return [label for label in experiment.rows if label in wanted]


def cell_config(experiment: Experiment, cell: Cell, outdir: Path = Path()) -> ConfigDict:
    """Returns the complete training config of a cell: the recipe, its row, seed and tuned values, then the changes.

    `outdir` is the folder of the experiment, which contains the workdirs, and so the `init_from` of a row with a start.
    Raises UserError for an override of an unknown key.
    """
    fixed = {**dict(cell.values), "seed": cell.seed}
    if start := source(experiment, cell):
        fixed["init_from"] = str(outdir / start.folder)
    config = experiment.base
    for layer in (experiment.rows[cell.row], fixed, experiment.changes):
        config, _ = override(config, layer)
    return config_lib.validate(config)


def declared(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Returns, per row, the keys whose values differ from the defaults: the setting that its results belong to."""
    plain = dict(config_lib.leaves(config_lib.default()))
    return {label: dict(_unlike(plain, cell_config(experiment, Cell(label)))) for label in experiment.rows}


def _unlike(plain: Mapping[str, Any], config: ConfigDict) -> Iterator[tuple[str, Any]]:
    for key, value in config_lib.leaves(config):
        shown = key.partition(".")[0] not in config_lib.DISPLAY_GROUPS
        if shown and (key not in plain or plain[key] != value):
            yield key, value


def _check_labels(
    rows: Iterable[str], scale: Scale, paper: Paper, claims: Iterable[Claim], curves: Curves | None
) -> None:
    named = {
        "the rows of the scale": scale.rows,
        "the curves": curves.points if curves else (),
        "the paper's values": (*paper.values, *paper.recalled),
        "the claims": [label for claim in claims for label in (claim.better, claim.worse)],
    }
    for group, group_labels in named.items():
        for label in group_labels:
            _known(label, rows, group)
    for label in rows:
        if not LABEL.fullmatch(label):
            raise UserError(f"row {label!r}: a label consists of letters, digits and the characters _ . + -")


def _check_starts(starts: Mapping[str, str], labels: Sequence[str], tune: Any) -> None:
    for row, start in starts.items():
        _known(start, labels, f"starts: row {row!r} starts from a row of this scale")
        if start in starts:
            raise UserError(f"starts: row {row!r} starts from {start!r}, which has a start itself")
    if starts and tune:
        raise UserError("starts and tune exclude each other: a tuned start row has several weights")


def _known(label: str, known: Iterable[str], where: str) -> None:
    if label not in known:
        raise UserError(f"{where}: unknown row {label!r}: {nearest(label, known)}")
