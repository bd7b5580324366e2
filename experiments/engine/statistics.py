"""Means, intervals and verdicts over a few seeds."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from experiments.engine.experiment import Claim, Experiment
from experiments.engine.results import Record

CONFIDENCE = 0.95
REPRODUCED, NOT, UNDECIDED = "reproduced", "not reproduced", "undecided"
TEST = (
    "A claim is judged by the paired t interval (95%) of the difference over seeds: *reproduced* if the interval is "
    "above the claimed minimum, *not reproduced* if it is below, *undecided* otherwise, and with one seed."
)


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and its t interval; `low` and `high` are infinite for one value, NaN without values."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        if not values:
            return cls(math.nan, math.nan, math.nan)
        mean = float(np.mean(values))
        if len(values) == 1:
            return cls(mean, -math.inf, math.inf)
        half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
        return cls(mean, float(mean - half), float(mean + half))


@dataclasses.dataclass(frozen=True)
class Row:
    """A row's measurements: seed -> metric, the tuned values, and the number of diverged runs."""

    label: str
    values: Mapping[int, float]
    tuned: Mapping[str, float]
    diverged: int = 0

    @property
    def interval(self) -> Interval:
        return Interval.of(list(self.values.values()))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A judged claim; `difference` is positive if `claim.better` is better."""

    claim: Claim
    difference: Interval
    seeds: int
    verdict: str


def rows(experiment: Experiment, records: Sequence[Record]) -> list[Row]:
    """Returns the rows in their order; rows without results have no values.

    A diverged run has the value that the experiment declares; without a declared one, its row has no values.
    """
    result = []
    for label in experiment.rows:
        chosen = [record for record in records if record.row == label and record.chosen]
        lost = [record for record in chosen if record.diverged]
        unknown = lost and experiment.diverged is None
        values = {} if unknown else {record.seed: _value(experiment, record) for record in chosen}
        result.append(Row(label, values, chosen[0].values if chosen else {}, len(lost)))
    return result


def verdicts(experiment: Experiment, measured: Sequence[Row]) -> list[Verdict]:
    """Returns the verdict on each claim."""
    by_label = {row.label: row for row in measured}
    result = []
    for claim in experiment.claims:
        interval, seeds = gain(experiment, by_label[claim.better], by_label[claim.worse])
        result.append(Verdict(claim, interval, seeds, judge(interval, claim.least)))
    return result


def gain(experiment: Experiment, row: Row, other: Row) -> tuple[Interval, int]:
    """Returns by how much a row is better than another, over their common seeds, and the number of these."""
    sign = -1 if experiment.metric.startswith("-") else 1
    seeds = sorted(row.values.keys() & other.values.keys())
    return Interval.of([sign * (row.values[seed] - other.values[seed]) for seed in seeds]), len(seeds)


def judge(difference: Interval, least: float) -> str:
    """Returns the verdict on a difference of "more than `least`"."""
    if difference.low > least:
        return REPRODUCED
    return NOT if difference.high < least else UNDECIDED


def _value(experiment: Experiment, record: Record) -> float:
    return experiment.diverged if record.diverged else record.metrics[experiment.metric.lstrip("-")]
