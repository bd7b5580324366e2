"""The report of a finished run."""

import platform
from importlib import metadata

import jax
import numpy as np

from reporting import report
from reporting.figures import drawing as figures
from training.diagnostics import TIME
from training.display import Display, describe_devices
from training.main import Finished
from training.run import Run

REPORTED = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint", "tensorflow-datasets")


def write(finished: Finished, command: str) -> None:
    """Writes report.html into the workdir. Its figures show the test split if there is one, else the first evaluated
    split.

    Args:
        command: repeats the run.
    """
    run, folder, results, arrays, step, label = finished
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
    files = "report.html, results.json, metrics.jsonl, tensorboard/, checkpoints/, config.json"
    Display().say(f"\nof step {step} ({label}); everything is in {folder.path}/: {files}")


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
