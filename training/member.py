"""One run of a trainer: its workdir, its pending metrics, and its best checkpoint."""

import math
from collections.abc import Mapping
from typing import Any

from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.errors import UserError
from core.info import Info
from training import optimizer as optimizer_lib
from training.checkpoint import Checkpoints, read_meta, steps_in
from training.display import Display
from training.workdir import Workdir

NO_BEST = {"step": 0, "value": None, "worse": 0}  # worse: number of evaluations since the best one
ALONE = "0"  # index of a run in its own checkpoints


class Member:
    """The host state of one run of a trainer.

    Attributes:
        index: position of the run along the leading axis of runs.
        pending: metrics (name -> [sum, weight]) of each step since the last log.
        best: step and value of the best evaluation.
        ended: the step after which it stopped early, 0 while it trains.
        diverged: the reason of divergence, "" while its loss and gradient are finite.
    """

    def __init__(self, index: int, config: ConfigDict, workdir: Workdir, steps: int):
        self.index, self.config, self.workdir, self.steps = index, config, workdir, steps
        self.schedule = optimizer_lib.schedule(config.optimizer, steps)
        self.best_checkpoint = Checkpoints(workdir.path / "best") if config.checkpoint.best else None
        self.pending: list[dict[str, list[float]]] = []
        self.best, self.ended, self.diverged = NO_BEST, 0, ""
        self.patience = config.train.patience

    @property
    def active(self) -> bool:
        """Whether the run is still training."""
        return not self.ended and not self.diverged

    @property
    def meta(self) -> dict:
        """The part of a checkpoint that is specific to this run, except its state."""
        kept = {name: getattr(self, name) for name in ("pending", "best", "ended", "diverged")}
        return {"rows": len(self.workdir.rows), **kept}

    def begin(self, info: Info, step: int = 0, meta: Mapping | None = None, display: Display | None = None) -> None:
        """Starts the workdir, or continues it after `step` with the `meta` of a checkpoint."""
        if meta is not None:
            self.pending, self.ended, self.diverged = meta["pending"], meta["ended"], meta["diverged"]
            self.best = self._existing_best(meta["best"], display)
        if lost := self.workdir.begin(self.config, info, step, meta["rows"] if meta else 0):
            display.say(f"{self.workdir.path / 'metrics.jsonl'} is damaged: {lost} lines are lost")
        self.status("diverged" if self.diverged else "training", step, self.diverged)

    def _existing_best(self, best: dict, display: Display) -> dict:
        """Returns `best` of a checkpoint, or the content of best/ if that checkpoint is lost.

        A best checkpoint newer than the restored state is valid: the same steps lead to it again.
        """
        newest = max(steps_in(self.best_checkpoint.folder), default=0) if self.best_checkpoint else 0
        if not best["step"] or newest >= best["step"]:
            return best
        folder = self.best_checkpoint.folder / str(newest)
        held = read_meta(folder)["members"][ALONE]["best"] if newest else NO_BEST
        display.say(f"best/{best['step']} is missing; continuing with the best checkpoint of step {held['step']}")
        return held

    def add(self, step: int, metrics: Mapping[str, tuple[Any, Any]], watched: tuple[str, ...]) -> None:
        """Adds the metrics of a step; marks the run as diverged if a `watched` one is not finite."""
        self.pending.append({name: [float(total), float(weight)] for name, (total, weight) in metrics.items()})
        for name in watched:
            value = self.pending[-1][name][0]
            if not math.isfinite(value):
                self.diverge(step, f"step {step}: {name} is {value}")
                return

    def diverge(self, step: int, reason: str) -> None:
        """Marks the run as diverged."""
        self.diverged = reason
        self.status("diverged", step, reason)

    def evaluated(self, step: int, results: Mapping[str, Mapping[str, float]]) -> bool:
        """Compares the watched metric with the best one and returns whether it is better.

        Raises UserError if the metric does not exist or is NaN.
        """
        best = self.config.checkpoint.best
        split, _, metric = best.removeprefix("-").partition("/")
        value = results[split].get(metric, math.nan) * (-1 if best.startswith("-") else 1)
        if math.isnan(value):
            problem = "is NaN" if metric in results[split] else "does not exist"
            raise UserError(
                f"config.checkpoint.best {best!r} {problem} at step {step}: watch another metric of {split}"
            )
        better = self.best["value"] is None or value > self.best["value"]
        self.best = (
            {"step": step, "value": value, "worse": 0} if better else {**self.best, "worse": self.best["worse"] + 1}
        )
        return better

    @property
    def out_of_patience(self) -> bool:
        return bool(self.patience) and self.best["worse"] >= self.patience

    def save(self, to: Checkpoints, step: int, state: PyTree, info: dict, **facts: str) -> None:
        """Saves the state of this run alone. `facts` are added to its meta."""
        meta = {"step": step, "config": self.config.to_dict(), "info": info, "members": {ALONE: self.meta}}
        to.save(step, state, meta | facts)

    def status(self, state: str, step: int, error: str = "") -> None:
        self.workdir.status(state, step, self.steps, error)

    def close(self) -> None:
        if self.best_checkpoint:
            self.best_checkpoint.close()
        self.workdir.close()
