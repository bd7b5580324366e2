"""What an experiment is: the table of a paper, its claims, and the runs by which they are tested, all plain data.

A file of this folder has one function, `get_config(arg)`, which returns `experiment(arg, ...)`. The argument is

    ""  or  "cpu"  or  "full"             the whole experiment at a scale
    "cpu,LABEL[,seed=3][,KEY=VALUE]..."   one cell's config, for train.py; KEY is one of the tuned keys
"""

import ast
import dataclasses
import importlib.util
import inspect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from core.errors import UserError, nearest
from training import config as config_lib

Values = tuple[tuple[str, Any], ...]  # (dotted key, value)
LABEL = re.compile(r"[\w.+-]+")  # a folder's name, and without the comma and the = of an argument


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """A size at which an experiment is run: "cpu" takes at most 10 minutes in all on two cores, "full" is the paper's.

    Attributes:
        base: the recipe that rows override.
        seeds: 0 to seeds - 1, for every row.
        minutes: the budget, of all cells together; 0 = not known.
        rows: labels of those that are of this scale; () = all.
    """

    base: ConfigDict
    seeds: int = 5
    minutes: float = 0.0
    rows: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
    """Whose table it is.

    Attributes:
        table: where in the paper the values are.
        metric: what they are, with the data set where it is another one.
        values: the number of each row that has one.
        recalled: rows whose number was not checked against a copy; printed as unverified.
    """

    title: str
    arxiv: str
    table: str = ""
    metric: str = ""
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    recalled: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Claim:
    """Row `better` is better than row `worse` by more than `least`, in the unit of the metric.

    A negative `least` claims that `better` is hardly worse.
    """

    better: str
    worse: str
    sentence: str
    least: float = 0.0


@dataclasses.dataclass(frozen=True)
class Curves:
    """Rows over a number: `points` has each row's (curve, x)."""

    x: str
    points: Mapping[str, tuple[str, float]]
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run: a row, a seed, and a value of each tuned key."""

    row: str
    seed: int = 0
    values: Values = ()

    @property
    def argument(self) -> str:
        """What stands behind "FILE.py:SCALE,"."""
        return ",".join([self.row, f"seed={self.seed}", *(f"{key}={value!r}" for key, value in self.values)])

    @property
    def folder(self) -> str:
        """The workdir, relative to that of the experiment."""
        return "/".join(
            [self.row, *(f"{key.rpartition('.')[2]}={value!r}" for key, value in self.values), f"{self.seed}"]
        )


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
) -> ConfigDict:
    """Returns the whole experiment at a scale, or the complete training config of one cell, as `arg` says.

    Args:
        metric: SPLIT/METRIC of results.json; with a minus where lower is better.
        rows: label -> dotted key -> value.
        tune: dotted key -> values to choose from, for each row by itself: the one that is best for seed 0 on the
            validation split, by the metric of the same name.
        diverged: what a run counts as whose loss became infinite; None: its row has no result.
        starts: row -> the row with whose weights, those of the same seed, it begins (`config.init_from`).

    Raises:
        UserError: an unknown scale, row or key; a claim, number, curve or start of a row that there is not; a start
            that has one itself, or is tuned.
    """
    scale, *rest = (arg or next(iter(scales))).split(",")
    if scale not in scales:
        raise UserError(f"there is no scale {scale!r}: {nearest(scale, scales)}")
    chosen, groups = scales[scale], {"rows of the scale": scales[scale].rows, "curves": curves.points if curves else ()}
    groups |= {"the paper's table": (*paper.values, *paper.recalled)}
    groups |= {"claims": [label for claim in claims for label in (claim.better, claim.worse)]}
    for group, named in groups.items():
        for label in named:
            _known(label, rows, f"{group}: there is")
    for label in rows:
        if not LABEL.fullmatch(label):
            raise UserError(f"row {label!r}: a label consists of letters, digits and the characters _ . + -")
    own = chosen.rows or tuple(rows)
    starts = {label: source for label, source in (starts or {}).items() if label in own}
    _check_starts(starts, own, tune)
    points = {label: point for label, point in curves.points.items() if label in own} if curves else {}
    whole = ConfigDict(
        {
            "scale": scale,
            "scales": tuple(scales),
            "metric": metric,
            "seeds": tuple(range(chosen.seeds)),
            "minutes": chosen.minutes,
            "rows": tuple((label, tuple(rows[label].items())) for label in own),
            "tune": tuple((tune or {}).items()),
            "diverged": diverged,
            "starts": tuple(starts.items()),
            "paper": {
                "title": paper.title,
                "arxiv": paper.arxiv,
                "table": paper.table,
                "metric": paper.metric,
                "values": tuple((k, v, k not in paper.recalled) for k, v in paper.values.items() if k in own),
            },
            "claims": tuple(
                dataclasses.astuple(claim) for claim in claims if claim.better in own and claim.worse in own
            ),
            "curves": {
                "x": curves.x if curves else "",
                "log": curves.log if curves else False,
                "points": tuple((label, *point) for label, point in points.items()),
            },
            "base": chosen.base,
        }
    )
    return cell_config(whole, parse_cell(whole, rest)) if rest else whole


def load(text: str) -> tuple[ConfigDict, str]:
    """Returns the whole experiment of "FILE.py[:SCALE]", and the same with the scale named. Raises UserError."""
    path, _, scale = text.partition(":")
    if "," in scale:
        raise UserError(f"--config {text} is one cell: run it by train.py, or name the scale alone")
    spec = importlib.util.spec_from_file_location(f"experiments.{Path(path).stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    declares = inspect.signature(getattr(module, "get_config", load)).parameters.keys() == {"arg"}
    whole = module.get_config(scale) if declares else {}
    if "rows" not in whole:
        raise UserError(f"--config {path} is no experiment: it declares no rows; see experiments/engine/experiment.py")
    return whole, f"{path}:{whole.scale}"


def candidates(whole: ConfigDict) -> list[Values]:
    """Returns the values of the tuned keys to choose from; one that is empty if none is tuned."""
    keys, grids = [key for key, _ in whole.tune], [grid for _, grid in whole.tune]
    return [tuple(zip(keys, values, strict=True)) for values in itertools.product(*grids)]


def labels(whole: ConfigDict) -> list[str]:
    return [label for label, _ in whole.rows]


def parse_cell(whole: ConfigDict, parts: list[str]) -> Cell:
    """Returns the cell of the parts of an argument behind the scale. Raises UserError."""
    row, *settings = parts
    _known(row, labels(whole), f"scale {whole.scale!r} has")
    seed, values = 0, []
    tuned = [key for key, _ in whole.tune]
    for setting in settings:
        key, _, text = setting.partition("=")
        if key not in ("seed", *tuned):
            raise UserError(f"{setting!r} is no setting of a cell: {nearest(key, ('seed', *tuned))}")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError) as error:
            raise UserError(f"{setting!r}: write {key}=NUMBER") from error
        if key == "seed" and not (isinstance(value, int) and value >= 0):
            raise UserError(f"{setting!r}: a seed is a number of 0 or more")
        if key == "seed":
            seed = value
        else:
            values.append((key, value))
    return Cell(row, seed, tuple(values))


def source(whole: ConfigDict, cell: Cell) -> Cell | None:
    """Returns the cell with whose weights a cell begins, which is to be run before it; None if there is none."""
    row = dict(whole.starts).get(cell.row)
    return row and Cell(row, cell.seed)


def with_sources(whole: ConfigDict, rows: Sequence[str]) -> list[str]:
    """Returns the labels of `rows` and of the rows that they start from, in the order of the experiment."""
    wanted = {*rows, *(start for row, start in whole.starts if row in rows)}
    return [label for label in labels(whole) if label in wanted]


def cell_config(whole: ConfigDict, cell: Cell, outdir: Path = Path()) -> ConfigDict:
    """Returns the complete training config of a cell. Raises UserError for an override of a key that there is not.

    Args:
        outdir: of the experiment, whose folders are the workdirs of cells: where the start of this one is found.
    """
    config = whole.base.copy_and_resolve_references()
    overrides = dict(whole.rows)[cell.row]
    start = source(whole, cell)
    overrides += (("init_from", str(outdir / start.folder)),) if start else ()
    with config.unlocked(), config.ignore_type():
        for dotted, value in (*overrides, *cell.values, ("seed", cell.seed)):
            *path, last = dotted.split(".")
            parent = config
            for name in path:
                if name not in parent:
                    parent[name] = ConfigDict()  # of a group that there is not: validate says so
                parent = parent[name]
            parent[last] = value
    return config_lib.validate(config)


def declared(whole: ConfigDict) -> dict[str, dict[str, Any]]:
    """Returns what each row's configs set to another value than the default: what its results are of."""
    plain = dict(config_lib.leaves(config_lib.default()))
    configs = {label: cell_config(whole, Cell(label)) for label in labels(whole)}
    return {label: dict(_unlike(plain, config)) for label, config in configs.items()}


def _unlike(plain: Mapping[str, Any], config: ConfigDict) -> Iterator[tuple[str, Any]]:
    for key, value in config_lib.leaves(config):
        shown = key.partition(".")[0] not in config_lib.DISPLAY_GROUPS
        if shown and (key not in plain or plain[key] != value):
            yield key, value


def _check_starts(starts: Mapping[str, str], own: Sequence[str], tune: Any) -> None:
    for row, start in starts.items():
        _known(start, own, f"starts: row {row!r} starts from one of another scale or from none: there is")
        if start in starts:
            raise UserError(f"starts: row {row!r} starts from {start!r}, which has a start itself")
    if starts and tune:
        raise UserError("starts and tune exclude each other: a row could start from any of several")


def _known(label: str, known: Any, there_is: str) -> None:
    if label not in known:
        raise UserError(f"{there_is} no row {label!r}: {nearest(label, known)}")
