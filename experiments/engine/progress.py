"""The display of a running experiment: a live table on a terminal, elsewhere one line per finished cell."""

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
    """The display; cells in `outcomes` at the start do not count for the estimate of the time that is left."""

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
        """Prints the line of a finished cell; a live table shows everything but failures itself."""
        if self.live and not outcome.failed:
            return
        name = ", ".join([f"{cell.row} seed {cell.seed}", *(f"{key} {value!r}" for key, value in cell.values)])
        result = outcome.reason and f"FAILED: {outcome.reason}"
        result = result or f"{self.experiment.metric.lstrip('-')} {self._number(outcome)}"
        self.say(f"[{len(outcomes)}/{self.total}] {name}: {result}  eta {self.eta(outcomes, 0.0)}")

    def eta(self, outcomes: Mapping[Cell, Outcome], under_way: float) -> str:
        """Returns the time that is left at this session's pace; `under_way` is the sum of the running cells' shares."""
        done = len(outcomes) - self.before + under_way
        left = self.total - len(outcomes) - under_way
        if not done:
            return "?"
        return str(datetime.timedelta(seconds=round((time.monotonic() - self.began) / done * left)))

    def refresh(self, outcomes: Mapping[Cell, Outcome], running: Mapping[Cell, float]) -> None:
        """Draws the table; `running` maps each running cell to the share of its steps that are done."""
        if not self.live:
            return
        table = Table("row", "runs", self.experiment.metric.lstrip("-"), "", title_justify="left")
        for row in self.experiment.rows:
            own = {cell: outcome for cell, outcome in outcomes.items() if cell.row == row}
            state = [f"seed {cell.seed} {share:.0%}" for cell, share in running.items() if cell.row == row]
            failed = sum(outcome.failed for outcome in own.values())
            state += [f"{failed} failed"] * bool(failed)
            wanted = self.total // len(self.experiment.rows)
            newest = self._number(list(own.values())[-1]) if own else ""
            table.add_row(row, f"{len(own)}/{wanted}", newest, ", ".join(state))
        share = sum(running.values())
        bar = ProgressBar(self.total, len(outcomes) + share, width=40)
        left = Text(f"{len(outcomes)}/{self.total} cells  eta {self.eta(outcomes, share)}")
        self.live.update(Group(table, bar, left), refresh=True)

    def _number(self, outcome: Outcome) -> str:
        if outcome.failed or outcome.diverged:
            return "failed" if outcome.failed else "diverged"
        return f"{outcome.metrics.get(self.experiment.metric.lstrip('-'), float('nan')):.4g}"
