"""Runs of 4 steps whose outcome must not depend on kills."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from configs import tabular
from training import main
from training.checkpoint import read_meta, steps_in
from training.run import Run, build_run

TIMINGS = ("seconds", "examples_per_second", "data_wait")


def write_table(file: Path) -> None:
    draw = np.random.default_rng(0)
    rows = pd.DataFrame(draw.normal(size=(80, 3)), columns=list("abc")).assign(y=draw.choice(["p", "q"], 80))
    rows.to_csv(file, index=False)


def small_config(table: Path) -> ConfigDict:
    """Returns a run of 4 steps that saves a best checkpoint after 2 and 4, and others after 3 and 4."""
    config = tabular.get_config("class")
    config.data.name, config.data.target = f"csv:{table}", "y"
    config.model = {"name": "mlp.MLP", "widths": (4,), "dropout": 0.3, "norm": "layers.norm.batch_norm"}
    config.optimizer.update(name="sgd", learning_rate=0.1, weight_decay=0.0, warmup_steps=0.0)
    config.train.update(steps=4, epochs=0.0, batch_size=8, patience=0)
    config.eval.every, config.checkpoint.every, config.checkpoint.keep, config.log.every = 2, 3, 2, 2
    config.log.writers, config.checkpoint.best = (), "-validation/loss"
    return config


def compile_once(runs: dict[str, Run], patch: pytest.MonkeyPatch) -> None:
    """Makes all runs of a config share their parts and compiled functions, kept in `runs`."""

    def shared_run(config, data_dir, others=()):
        key = json.dumps([each.to_dict() for each in (config, *others)])
        if key not in runs:
            runs[key] = build_run(config, data_dir, others)
            for name in ("train_step", "eval_step", "gradient_norms", "create_states"):
                object.__setattr__(runs[key], name, functools.cache(getattr(runs[key], name)))
        return runs[key]

    patch.setattr(main, "build_run", shared_run)
    patch.setattr(main, "model_table", lambda *_: "")


def outcome(workdir: Path, folders: tuple[str, ...] = ("checkpoints", "best")) -> tuple:
    """Returns results, curves and checkpoints, without times."""
    record = json.loads((workdir / "results.json").read_text())
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    saved = {}
    for folder in folders:
        step = steps_in(workdir / folder)[-1]
        meta = read_meta(workdir / folder / str(step))
        saved[folder] = step, meta["sums"], meta["members"]
    return (
        {key: record[key] for key in ("step", "results", "seed")},
        [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows],
        saved,
    )
