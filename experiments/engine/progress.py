"""The display of a running experiment: a live table on a terminal, otherwise one line per finished cell."""

import datetime
import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.engine import cells as cells_lib
from experiments.engine.cells import Outcome
from experiments.engine.experiment import Cell, Experiment


class Progress:
    """The display; the estimate of the remaining time ignores cells that were in `outcomes` at the start."""

    def __init__(self, experiment: Experiment, outcomes: Mapping[Cell, Outcome]):
        self.experiment = experiment
        self.total, self.before = cells_lib.count(experiment), len(outcomes)
        self.began = time.monotonic()
        self.console = Console(soft_wrap=True, highlight=False)
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self.live:
            self.live.start()
        elif self.before:
            self.say(f"{self.before} of {self.total} cells are finished already")
        return self

    def __exit__(self, *_) -> None:
        if self.live:
            self.live.stop()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def ended(self, cell: Cell, outcome: Outcome, outcomes: Mapping[Cell, Outcome]) -> None:
        """Prints the line of a finished cell; with a live table, which shows all others, only failures."""
        if self.live and not outcome.failed:
            return
        name = ", ".join([f"{cell.row} seed {cell.seed}", *(f"{key} {value!r}" for key, value in cell.values)])
        result = outcome.reason and f"FAILED: {outcome.reason}"
        result = result or f"{self.experiment.metric.lstrip('-')} {self._number(outcome)}"
        self.say(f"[{len(outcomes)}/{self.total}] {name}: {result}  eta {self.eta(outcomes, 0.0)}")

    def eta(self, outcomes: Mapping[Cell, Outcome], in_flight: float) -> str:
        """Returns the remaining time at this session's pace; `in_flight` sums the finished shares of running cells."""
        done = len(outcomes) - self.before + in_flight
        left = self.total - len(outcomes) - in_flight
        if not done:
            return "?"
        return str(datetime.timedelta(seconds=round((time.monotonic() - self.began) / done * left)))

    def refresh(self, outcomes: Mapping[Cell, Outcome], running: Mapping[Cell, float]) -> None:
        """Draws the table; `running` maps each running cell to the finished share of its steps."""
        if not self.live:
            return
        table = Table("row", "runs", self.experiment.metric.lstrip("-"), "", title_justify="left")
        for row in self.experiment.rows:
            row_outcomes = {cell: outcome for cell, outcome in outcomes.items() if cell.row == row}
            state = [f"seed {cell.seed} {share:.0%}" for cell, share in running.items() if cell.row == row]
            failed = sum(outcome.failed for outcome in row_outcomes.values())
            state += [f"{failed} failed"] * bool(failed)
            wanted = self.total // len(self.experiment.rows)
            newest = self._number(list(row_outcomes.values())[-1]) if row_outcomes else ""
            table.add_row(row, f"{len(row_outcomes)}/{wanted}", newest, ", ".join(state))
        share = sum(running.values())
        bar = ProgressBar(self.total, len(outcomes) + share, width=40)
        left = Text(f"{len(outcomes)}/{self.total} cells  eta {self.eta(outcomes, share)}")
        self.live.update(Group(table, bar, left), refresh=True)

    def _number(self, outcome: Outcome) -> str:
        if outcome.failed or outcome.diverged:
            return "failed" if outcome.failed else "diverged"
        return f"{outcome.metrics.get(self.experiment.metric.lstrip('-'), float('nan')):.4g}"
