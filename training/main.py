"""The implementation of `train.py`: trains and evaluates a config in a workdir, or repeats the final evaluation."""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.errors import Diverged, Stopped, UserError
from core.info import Info
from training import compilation_cache, heartbeat, memory, parallel
from training import config as config_lib
from training.checkpoint import FOLDERS, Checkpoints, restore_first, steps_in, stored_meta
from training.display import Display, model_table
from training.environment import describe_devices
from training.loop import Arrays, Results, Trainer
from training.run import Run, build_run
from training.state import State
from training.stop import Stop
from training.workdir import Workdir, locked


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
    arrays: Arrays
    step: int
    label: str


def train(config: ConfigDict, workdir: str, data_dir: str | None, command: str = "") -> Finished:
    """Trains a run, or continues it, evaluates it on every split except training, and writes results.json.

    Args:
        command: the command line that repeats the run, stored in results.json.

    Raises UserError, Diverged and Stopped.
    """
    return _train([config], [Path(workdir)], Path(workdir), data_dir, command)[0]


def train_side_by_side(
    configs: Sequence[ConfigDict], workdirs: Sequence[Path | None], folder: Path, data_dir: str | None
) -> list[Finished]:
    """Trains runs that differ in seed, start and numbers of the optimizer in one program.

    Args:
        workdirs: one per run; a run with None is trained without writing files.
        folder: for the joint checkpoints of all runs; it is removed at the end.

    Raises UserError, Diverged (if all have diverged) and Stopped.
    """
    try:
        finished = _train(configs, workdirs, folder, data_dir)
    except Diverged:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
    return finished


def _train(
    configs: Sequence[ConfigDict],
    paths: Sequence[Path | None],
    folder: Path,
    data_dir: str | None,
    command: str = "",
) -> list[Finished]:
    workdirs = [path and Workdir(str(path)) for path in paths]
    configs = [config_lib.validate(config) for config in configs]
    for workdir, config in zip(workdirs, configs, strict=True):
        if workdir:
            workdir.check(config)
    compilation_cache.use()
    parallel.use_cpu(configs[0])  # before jax lists its devices
    parallel.connect(configs[0].parallel.hosts)
    with heartbeat.watched(), contextlib.ExitStack() as locks:
        display = Display(quiet=jax.process_index() > 0)
        run = _prepared(configs, data_dir, display)
        for path in {folder, *filter(None, paths)} if is_first_host() else ():
            locks.enter_context(locked(path))
        return _run(Trainer(run, workdirs, folder, display), command)


def _prepared(configs: Sequence[ConfigDict], data_dir: str | None, display: Display) -> Run:
    """Returns the run of the configs, and shows its devices, data and model."""
    display.say(f"devices: {describe_devices()}")
    run = build_run(configs[0], data_dir, configs[1:])
    memory.check(run)
    sizes = ", ".join(f"{len(split)} {name}" for name, split in run.splits.items())
    columns = run.info.state.get("columns")
    display.say(f"data: {run.info.name} ({sizes})" + f"; columns: {columns}" * bool(columns) + "\n")
    inputs = tuple(jnp.zeros(x.shape, x.dtype) for x in run.inputs)
    display.say(model_table(run.model, inputs))
    frozen, total = run.frozen_size
    if frozen:
        display.say(f"{frozen:,} of {total:,} parameters are frozen")
    if run.config.data.buckets:
        display.say(str(run.train_split))
    return run


def _run(trainer: Trainer, command: str) -> list[Finished]:
    """Trains and evaluates; status.json shows how that ended."""
    try:
        with Stop(jax.process_count()) as stop:
            return _finish(trainer, trainer.train(stop), command)
    except Stopped:
        for member in trainer.active:
            member.status("stopped", trainer.step)
        raise
    except Exception as error:
        if not isinstance(error, Diverged):
            for member in trainer.active:
                member.status("failed", trainer.step, str(error) or type(error).__name__)
        raise
    finally:
        trainer.close()


def evaluate_only(workdir: str, data_dir: str | None) -> Results:
    """Repeats the final evaluation of a workdir's run and returns its metrics. Prints, but writes no files.

    The data are preprocessed as in training, with the state in the checkpoint. Raises UserError for other data.
    """
    folder = Workdir(workdir)
    config = folder.config()
    compilation_cache.use()
    parallel.use_cpu(config)
    meta = stored_meta(folder.path)
    run = build_run(config, data_dir, trained=Info.from_json(meta["info"]))
    run.check_data(meta)
    display = Display(quiet=jax.process_index() > 0)
    trainer = Trainer(run, [folder], folder.path, display)
    state, step, label = final_state(run, folder.path, display)
    display.say(f"evaluating {label} (step {step})")
    ((results, _),) = trainer.evaluate(run.parallel.place(state), _evaluated(run), final=True)
    display.results(results)
    return results


def final_state(run: Run, path: Path, display: Display) -> tuple[State, int, str]:
    """Returns the state that is evaluated after training, its step and its name: the best checkpoint if it exists
    and can be read, else the newest.

    Raises UserError if no checkpoint exists or can be read.
    """
    template = run.parallel.template_one(jax.eval_shape(run.create_state))
    folders = [Checkpoints(path / name) for name in FOLDERS if (path / name).is_dir()]
    candidates = [(folder, step) for folder in folders for step in reversed(steps_in(folder.folder))]
    restored = restore_first(candidates, template, display.say, run.check_keys)
    if not restored:
        raise UserError(f"--workdir {path} has no checkpoint")
    state, _, label = restored
    return state, int(state.step), label


def _evaluated(run: Run) -> list[str]:
    return [name for name in run.splits if name != "train"]


def _finish(trainer: Trainer, state: PyTree, command: str = "") -> list[Finished]:
    """Evaluates the best or the last weights of each run on every split, and writes its results.json."""
    run, display, place = trainer.run, trainer.display, trainer.run.parallel
    members = [member for member in trainer.members if not member.diverged]
    trainer.save_each(state, run.steps)
    chosen = {member.index: (run.steps, "the last") for member in members}
    if run.config.checkpoint.best:
        states = [place.take_one(state, index) for index in range(len(run.configs))]
        for member in members:
            member.best_checkpoint.wait()
            states[member.index], *chosen[member.index] = final_state(run, member.workdir.path, display)
        state = place.place(place.stack(*states))
    for member in members:
        member.status("evaluating", run.steps)
    found = trainer.evaluate(state, _evaluated(run), final=True)
    finished = []
    for member in members:
        (results, arrays), (step, label) = found[member.index], chosen[member.index]
        seen = {row["split"] for row in member.workdir.rows}
        for split, metrics in results.items():
            if split not in seen:  # the others have a curve that contains this point
                member.workdir.log(step, split, metrics)
        if len(members) > 1:
            display.say(run.label(member.config))
        display.results(results)
        if jax.process_index() == 0:
            member.workdir.finish(member.config, step, results, command)
        member.status("finished", step)
        finished.append(Finished(run, member.workdir, results, arrays, step, label))
    return finished


def is_first_host() -> bool:
    """Whether this process writes the files that all hosts of a run share."""
    return jax.process_index() == 0
