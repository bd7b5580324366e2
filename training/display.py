"""The display of a run: devices, the model's table, a live bar on a terminal, otherwise plain lines."""

import functools
import time

import flax.linen as nn
import jax
from flax.linen.summary import _get_module_table
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from core.errors import printable


def model_table(model: nn.Module, inputs: tuple) -> Table:
    """Returns the table of layers, output shapes, parameters and FLOPs of one forward pass of `inputs`, of which only
    shapes matter.
    """
    # nn.tabulate's numbers without its rows for kernels and biases, which hide the overview of a deep network
    rngs = {"params": jax.random.key(0)}
    rows = _get_module_table(model, 1, False, True, False)(rngs, *inputs, train=False)
    params = jax.eval_shape(lambda: model.init(rngs, *inputs, train=False)).get("params", {})
    table = Table("layer", "type", "output", title=type(model).__name__, title_justify="left")
    for name in ("parameters", "FLOPs"):
        table.add_column(name, justify="right")
    for row in sorted(rows, key=lambda row: not row.path):
        shapes = ", ".join(str(x.shape) for x in jax.tree.leaves(row.outputs) if hasattr(x, "shape"))
        layer = functools.reduce(lambda tree, name: tree.get(name, {}), row.path, params)
        count = sum(x.size for x in jax.tree.leaves(layer))
        table.add_row(
            "/".join(row.path) or "all", type(row.module_copy).__name__, shapes, f"{count:,}", f"{row.flops:,}"
        )
    return table


class Display:
    """Prints; a terminal keeps a bar with loss, examples/s, share of time waiting for data and ETA at the bottom."""

    def __init__(self, quiet: bool = False):
        self.console = Console(quiet=quiet, soft_wrap=True, highlight=False)
        self._progress = None

    def say(self, text: str | Table) -> None:
        """Prints lines without the control characters that texts of a data set may contain."""
        if isinstance(text, str):
            text = "\n".join(map(printable, text.split("\n")))
        self.console.print(text, markup=False)

    def start(self, step: int, steps: int) -> None:
        """Starts the bar on a terminal."""
        self._began, self._first, self._steps = time.monotonic(), step, steps
        if self.console.is_terminal:
            columns = (BarColumn(None), TextColumn("{task.completed}/{task.total}"), TextColumn("{task.description}"))
            self._progress = Progress(*columns, console=self.console, expand=True)
            self._progress.start()
            self._bar = self._progress.add_task("compiling", total=steps, completed=step)

    def advance(self, step: int) -> None:
        if self._progress:
            self._progress.update(self._bar, completed=step)

    def train(self, step: int, metrics: dict[str, float]) -> None:
        """Shows the metrics of the steps since the last call."""
        spent = time.monotonic() - self._began
        eta = spent / max(step - self._first, 1) * (self._steps - step)
        in_line = ("loss", "examples_per_second", "data_wait", "learning_rate", "grad_norm")
        rest = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name not in in_line)
        line = (
            f"loss {metrics['loss']:.4f}  {rest}  {metrics['examples_per_second']:.0f} examples/s"
            f"  data {metrics['data_wait']:.0%}  eta {_duration(eta)}"
        )
        if self._progress:
            self._progress.update(self._bar, completed=step, description=line)
        else:
            self.say(f"step {step}/{self._steps}  {line}")

    def evaluation(self, step: int, split: str, metrics: dict[str, float]) -> None:
        self.say(f"step {step}  {split}: " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))

    def stop(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None

    def results(self, results: dict[str, dict[str, float]]) -> None:
        """Prints the table of final metrics, one row per metric and one column per split."""
        table = Table("metric")
        for split in results:
            table.add_column(split, justify="right")
        for name in dict.fromkeys(name for metrics in results.values() for name in metrics):
            table.add_row(
                Text(printable(name)),
                *(f"{metrics[name]:.4f}" if name in metrics else "" for metrics in results.values()),
            )
        self.console.print(table)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
