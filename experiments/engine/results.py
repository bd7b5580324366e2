"""Measured results: results.jsonl, one line per cell, and meta.json, the setting. Tables are made from these alone."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import data
from core.errors import UserError
from data.augment.transform import Transform
from experiments.engine import cells
from experiments.engine.cells import CellFiles
from experiments.engine.experiment import Cell, Experiment, cell_config, declared
from training import build, environment
from training.workdir import from_json, to_json, write_whole


@dataclasses.dataclass(frozen=True)
class Record:
    """A cell's result.

    Attributes:
        values: of the tuned keys; `chosen`: whether the row uses these values.
        seconds: wall time of its processes.
        parameters: number of parameters of the model; 0 = unknown.
        metrics: SPLIT/METRIC -> value, of the final evaluation; empty if the run `diverged`.
        gradients: layer -> norm of the gradient at the first step, if the config logs it.
    """

    row: str
    seed: int
    values: dict[str, Any]
    chosen: bool
    diverged: bool
    seconds: float
    metrics: dict[str, float]
    gradients: dict[str, float]
    parameters: int = 0


def write(outdir: Path, experiment: Experiment, recipe: str, command: str, data_dir: str | None = None) -> None:
    """Writes results.jsonl and meta.json of all finished cells under `outdir`, including earlier sessions.

    Args:
        recipe: FILE.py:SCALE.
        command: the command line that reproduces the results.
        data_dir: folder of its data sets.
    """
    outcomes = cells.all_finished(experiment, outdir)
    chosen = {row: cells.choose(experiment, row, outcomes) for row in experiment.rows}
    sizes = _parameters(experiment, dict.fromkeys(cell.row for cell in outcomes), data_dir)
    records = []
    for cell, outcome in outcomes.items():
        files = CellFiles(outdir / cell.folder)
        setting = {"values": dict(cell.values), "chosen": cell.values == chosen[cell.row], "seconds": files.seconds()}
        measured = {"metrics": dict(outcome.metrics), "gradients": _gradients(files), "diverged": outcome.diverged}
        records.append(Record(row=cell.row, seed=cell.seed, parameters=sizes[cell.row], **setting, **measured))
    order = list(experiment.rows)
    records.sort(key=lambda record: (order.index(record.row), tuple(record.values.items()), record.seed))
    outdir.mkdir(parents=True, exist_ok=True)
    write_whole(outdir / "results.jsonl", "".join(to_json(dataclasses.asdict(x)) + "\n" for x in records))
    meta = {
        "config": recipe,
        "command": command,
        **_machines([CellFiles(outdir / cell.folder) for cell in outcomes]),
        "changes": experiment.change_texts,
        "rows": declared(experiment),
    }
    write_whole(outdir / "meta.json", json.dumps(meta, indent=1) + "\n")


def read(folder: Path) -> tuple[list[Record], dict[str, Any]]:
    """Returns the records and metadata of a folder written by `write`. Raises UserError."""
    try:
        lines = (folder / "results.jsonl").read_text().splitlines()
        meta = json.loads((folder / "meta.json").read_text())
        meta["config"].partition(":")
        return [Record(**from_json(line)) for line in lines], meta
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{folder} does not contain the results of an experiment: {error}") from error


def changes(meta: dict[str, Any], experiment: Experiment) -> list[str]:
    """Returns "ROW KEY: old -> new" for each value whose declaration has changed since the measurement."""
    new = json.loads(json.dumps(declared(experiment)))
    return [
        f"{row} {key}: {meta['rows'][row].get(key, 'default')!r} -> {new[row].get(key, 'default')!r}"
        for row in meta["rows"]
        if row in new
        for key in dict.fromkeys([*meta["rows"][row], *new[row]])
        if meta["rows"][row].get(key) != new[row].get(key)
    ]


def _parameters(experiment: Experiment, rows: Iterable[str], data_dir: str | None) -> dict[str, int]:
    """Returns row -> number of parameters; rows with the same model, task and data are counted once."""
    counts, result = {}, {}
    for row in rows:
        config = cell_config(experiment, Cell(row))
        decides = repr([config[group].to_dict() for group in ("model", "task", "data")])
        result[row] = counts[decides] = counts.get(decides) or _count(config, data_dir)
    return result


def _count(config: ConfigDict, data_dir: str | None) -> int:
    """Returns a model's number of parameters, by initialising it on shapes only; 0 if its data is unavailable."""
    try:
        _, info = data.load(config.data, data_dir)
    except UserError:
        return 0
    transform = Transform.create(config.augment.ops, info)
    task = build.build_task(config, info, transform)
    model = build.build_model(config, task, info)
    inputs = build.model_inputs(task, transform, info)
    zeros = [jnp.zeros(x.shape, x.dtype) for x in inputs]
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), *zeros, train=False))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _gradients(files: CellFiles) -> dict[str, float]:
    path = files.workdir / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        row = from_json(line)
        if row["split"] == "gradients":
            return {name.removeprefix("layer/"): x for name, x in row.items() if name.startswith("layer/")}
    return {}


def _machines(all_files: list[CellFiles]) -> dict[str, Any]:
    """Returns the hardware and the versions that the cells' results.json name, each once; cells may have run on several
    machines. Without any, as if all cells had diverged, those of this machine.
    """
    paths = [files.workdir / "results.json" for files in all_files]
    runs = [from_json(path.read_text()) for path in paths if path.exists()]
    versions: dict[str, dict[str, None]] = {}
    for name, version in (pair for run in runs for pair in run["versions"].items()):
        versions.setdefault(name, {})[version] = None
    hardware = dict.fromkeys(f"{run['processor']}; {run['devices']}" for run in runs)
    return {
        "hardware": " and ".join(hardware or [environment.processor()]),
        "versions": {name: ", ".join(each) for name, each in versions.items()} or environment.versions(),
    }
