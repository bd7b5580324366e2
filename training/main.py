"""What `train.py` does: train a config in a workdir and report, or repeat a workdir's final evaluation."""

import platform
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from core.errors import UserError
from training import config as config_lib
from training import figures, parallel, report
from training.checkpoint import FOLDERS, Checkpoints
from training.diagnostics import TIME
from training.display import Display, describe_devices, model_table
from training.loop import Results, Trainer
from training.run import Run, build_run
from training.state import State
from training.workdir import Workdir, to_json, write_whole

REPORTED = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint", "tensorflow-datasets")


def train(config: ConfigDict, workdir: str, data_dir: str | None, command: str) -> Results:
    """Trains, or goes on training, and returns the final metrics of every split but the training one.

    Writes results.json and report.html beside what the loop writes. Raises UserError, Diverged and Stopped.
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


def _finish(trainer: Trainer, state: State, command: str) -> Results:
    """Evaluates the best or the last weights on every split, and writes results.json and the report."""
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
        write_whole(folder.path / "results.json", to_json({"step": step, "results": results}, indent=2))
        _report(run, folder, results, arrays, command)
        files = "report.html, results.json, metrics.jsonl, tensorboard/, checkpoints/, config.json"
        display.say(f"\nof step {step} ({label}); everything is in {folder.path}/: {files}")
    return results


def _report(
    run: Run, folder: Workdir, results: Results, arrays: dict[str, dict[str, np.ndarray]], command: str
) -> None:
    """Writes report.html; its pictures are of the test split if there is one, else of the first evaluated one."""
    drawn = []
    if results:
        shown = "test" if "test" in results else next(iter(results))
        drawn += _prediction_figures(run, shown, arrays[shown])
    if run.config.augment.ops and "image" in run.info.shapes:
        drawn.append(_augmented(run))
    norms = [row for row in folder.rows if row["split"] == "gradients"]
    if norms:
        over_time = [name for name in norms[0] if name.startswith(TIME)]
        drawn += [figures.gradients_by_layer(norms), *(figures.gradients_by_time(norms, name) for name in over_time)]
    versions = {"python": platform.python_version(), "devices": describe_devices()}
    report.write(
        folder.path / "report.html",
        title=f"{run.config.model.name} on {run.info.name}",
        command=command,
        versions=versions | {name: metadata.version(name) for name in REPORTED},
        summary=results,
        history=[row for row in folder.rows if row["split"] != "gradients"],
        figures=drawn,
        config=run.config.to_dict(),
    )


def _prediction_figures(run: Run, split: str, arrays: dict[str, np.ndarray]) -> list[figures.Figure]:
    if "target" in arrays:
        return [figures.predicted_against_true(arrays["target"], arrays["prediction"])]
    if "label" not in arrays:
        return []
    answers = arrays["label"], arrays["prediction"]
    drawn = [figures.confusion_matrix(*answers, run.info.classes)]
    if "image" in run.info.shapes:

        def images(indices):
            return run.splits[split].batch(indices)["image"]

        drawn.append(figures.worst_images(images, *answers, arrays["loss"], run.info.classes))
    return drawn


def _augmented(run: Run) -> figures.Figure:
    train = run.splits["train"]
    batch = train.batch(np.arange(min(16, len(train))))
    batch["mask"] = np.ones(len(batch["image"]), np.float32)
    images = run.transform.augmented(jax.random.key(run.config.seed), batch)["image"]
    caption = f"As the model sees them in training, before normalisation: {', '.join(run.config.augment.ops)}."
    return figures.image_grid(np.asarray(images), (), title="An augmented batch", caption=caption)
