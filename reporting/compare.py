"""One page that compares runs: python -m reporting.compare RUN RUN ... [--output=FILE.html]

RUN is the folder of a run, finished or not. The page has curves over each other, the table of final results, and the
keys in which the configs differ.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from core import cli
from core.errors import UserError, nearest
from reporting import curves, page
from training import config as config_lib
from training.workdir import Workdir, check_writable, from_json, metrics_row

UNSET = "unset"  # value of a key that a config lacks
LABEL_KEYS, LABEL_LENGTH = 3, 60  # labels of more keys or letters are names of folders


@dataclasses.dataclass(frozen=True)
class Run:
    """The content of a run's folder.

    Attributes:
        config: dotted key -> value.
        history: rows of metrics.jsonl.
        results: split -> metric -> value of the final evaluation; {} if the run has not finished.
    """

    path: Path
    config: dict[str, Any]
    history: list[dict[str, Any]]
    results: dict[str, dict[str, float]]

    @classmethod
    def read(cls, path: Path) -> "Run":
        """Reads a folder. Raises UserError if it is not the folder of a run."""
        if not path.is_dir():
            raise UserError(f"{path} does not exist: {nearest(path.name, _folders(path.parent))}")
        config = dict(config_lib.leaves(Workdir(str(path)).config()))
        metrics, results = path / "metrics.jsonl", path / "results.json"
        lines = metrics.read_bytes().split(b"\n") if metrics.exists() else []
        history = [row for row in map(metrics_row, lines) if row]  # a killed run may leave a part of a line
        try:
            return cls(path, config, history, from_json(results.read_text())["results"] if results.exists() else {})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{results} is damaged: {error}") from error


def write(paths: Sequence[Path], output: Path, title: str = "") -> None:
    """Writes the page that compares the runs in these folders.

    Raises UserError for a folder that is not that of a run, or an output that cannot be written.
    """
    runs = [Run.read(path) for path in paths]
    if not output.parent.is_dir():
        raise UserError(f"{output}: the folder {output.parent} does not exist")
    if output.is_dir():
        raise UserError(f"{output} is a folder: name a file, such as {output / 'compare.html'}")
    check_writable(output.parent, str(output))
    differing = differences(runs)
    names = labels(runs, differing)
    metrics = dict.fromkeys((split, name) for run in runs for split, values in run.results.items() for name in values)
    page.write(
        output,
        "compare.html.j2",
        title=title or f"Comparison of {len(runs)} runs",
        runs=list(zip(names, folders(runs), curves.line_styles(len(runs)), runs, strict=True)),
        metrics=sorted(metrics, key=lambda key: not key[0].startswith("test")),
        differing=differing,
        curves=curves.of_runs({name: run.history for name, run in zip(names, runs, strict=True)}),
    )


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Returns the value of every run for each dotted key in which the configs differ."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    values = {key: [run.config.get(key, UNSET) for run in runs] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def labels(runs: Sequence[Run], differing: dict[str, list[Any]]) -> list[str]:
    """Returns a label per run: the values of the keys that differ if these are few, otherwise the folder."""
    places = range(len(runs))
    last = [key.rpartition(".")[2] for key in differing]
    keys = last if len(set(last)) == len(last) else list(differing)
    named = [", ".join(f"{k}={row[i]}" for k, row in zip(keys, differing.values(), strict=True)) for i in places]
    fitting = 0 < len(differing) <= LABEL_KEYS and max(map(len, named)) <= LABEL_LENGTH
    return named if fitting and len(set(named)) == len(runs) else folders(runs)


def folders(runs: Sequence[Run]) -> list[str]:
    """Returns the folders of the runs, from the first one on in which they differ."""
    paths = [run.path.resolve() for run in runs]
    return [os.path.relpath(path, os.path.commonpath([path.parent for path in paths])) for path in paths]


def _folders(parent: Path) -> list[str]:
    return [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def main(argv: list[str]) -> None:
    paths, output = [Path(text) for text in argv[1:]], Path(flags.FLAGS.output)
    if len(paths) < 2:
        raise UserError("name the folders of two or more runs, such as runs/a runs/b")
    if repeated := [str(path) for path in dict.fromkeys(paths) if paths.count(path) > 1]:
        raise UserError(f"{repeated[0]} is named twice")
    write(paths, output)
    print(output)


if __name__ == "__main__":
    flags.DEFINE_string("output", "compare.html", "The page that is written.")
    cli.run(main)
