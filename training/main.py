"""What `train.py` does: train a config in a workdir and report, or repeat a workdir's final evaluation."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from core.errors import UserError
from training import config as config_lib
from training import parallel
from training.checkpoint import FOLDERS, Checkpoints
from training.display import Display, model_table
from training.environment import describe_devices
from training.loop import Results, Trainer
from training.run import Run, build_run
from training.state import State
from training.workdir import Workdir


class Finished(NamedTuple):
    """A run after its final evaluation.

    Attributes:
        results: split -> metric -> value.
        arrays: split -> the task's arrays, one row per example.
        step, label: of the evaluated weights; the label is "best/STEP", "checkpoints/STEP" or "the last".
    """

    run: Run
    workdir: Workdir
    results: Results
    arrays: dict[str, dict[str, np.ndarray]]
    step: int
    label: str


def train(config: ConfigDict, workdir: str, data_dir: str | None, command: str = "") -> Finished:
    """Trains a run, or continues it, evaluates it on every split but the training one, and writes results.json.

    Args:
        command: repeats the run; results.json has it.

    Raises UserError, Diverged and Stopped.
    """
    folder = Workdir(workdir)
    config = config_lib.validate(config)
    folder.check(config)
    parallel.use_cpu(config)  # before anything asks jax for its devices
    parallel.connect(config.parallel.hosts)
    display = Display(quiet=jax.process_index() > 0)
    display.say(f"devices: {describe_devices()}")
    run = build_run(config, data_dir)
    sizes = ", ".join(f"{len(split)} {name}" for name, split in run.splits.items())
    display.say(f"data: {run.info.name} ({sizes})\n")
    inputs = tuple(jnp.zeros(x.shape, x.dtype) for x in run.inputs)
    display.say(model_table(run.model, inputs))
    trainer = Trainer(run, folder, display)
    try:
        state = trainer.train()
        return _finish(trainer, state, command)
    finally:
        trainer.close()


def evaluate_only(workdir: str, data_dir: str | None) -> Results:
    """Repeats the final evaluation of a workdir's run and returns its metrics. Writes nothing but what it prints."""
    folder = Workdir(workdir)
    config = folder.config()
    parallel.use_cpu(config)
    run = build_run(config, data_dir)
    display = Display(quiet=jax.process_index() > 0)
    trainer = Trainer(run, folder, display)
    state, step, label = final_state(run, folder.path, display)
    display.say(f"evaluating {label} (step {step})")
    results, _ = trainer.evaluate(run.parallel.place(state), _evaluated(run), final=True)
    display.results(results)
    return results


def final_state(run: Run, path: Path, display: Display) -> tuple[State, int, str]:
    """Returns the state that is evaluated after training, its step and its name: the best checkpoint if it exists
    and can be read, else the newest.

    Raises UserError if there is no checkpoint, or none can be read.
    """
    template = run.parallel.template(jax.eval_shape(run.create_state))
    failure = UserError(f"--workdir {path} has no checkpoint")
    for folder in (path / name for name in FOLDERS if (path / name).is_dir()):
        try:
            if restored := Checkpoints(folder).restore(template, display.say, run.check_data):
                step = int(restored[0].step)
                return restored[0], step, f"{folder.name}/{step}"
        except UserError as error:
            failure = error
            if folder.name != FOLDERS[-1]:
                display.say(f"{error}; using the newest checkpoint")
    raise failure


def _evaluated(run: Run) -> list[str]:
    return [name for name in run.splits if name != "train"]


def _finish(trainer: Trainer, state: State, command: str) -> Finished:
    """Evaluates the best or the last weights on every split, and writes results.json."""
    run, folder, display = trainer.run, trainer.workdir, trainer.display
    step, label = int(run.parallel.read(state.step)), "the last"
    if trainer.best_checkpoint:
        trainer.best_checkpoint.wait()
        best, step, label = final_state(run, folder.path, display)
        state = run.parallel.place(best)
    results, arrays = trainer.evaluate(state, _evaluated(run), final=True)
    seen = {row["split"] for row in folder.rows}
    for split, metrics in results.items():
        if split not in seen:  # others have their curve, of which this is one point
            folder.log(step, split, metrics)
    display.results(results)
    if jax.process_index() == 0:
        folder.finish(run.config, step, results, command)
    return Finished(run, folder, results, arrays, step, label)


def is_first_host() -> bool:
    """Whether this process writes the files that all hosts of a run share."""
    return jax.process_index() == 0
