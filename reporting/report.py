"""report.html of a finished run: results, learning curves, figures, and how to repeat it."""

import json

from reporting import curves, page
from reporting.shown import Shown, draw
from training import environment
from training.display import Display
from training.main import Finished


def write(finished: Finished, command: str) -> None:
    """Writes report.html into the workdir. Its figures show the test split, or else the first evaluated split.

    Args:
        command: repeats the run.
    """
    run, folder, results = finished.run, finished.workdir, finished.results
    history = [row for row in folder.rows if row["split"] != "gradients"]
    page.write(
        folder.path / "report.html",
        "report.html.j2",
        title=f"{run.config.model.name} on {run.info.name}",
        results={split: metrics for split, metrics in results.items() if metrics},
        curves=curves.of_run(history),
        figures=draw(_shown(finished)),
        evaluations=[row for row in history if row["split"] != "train"],
        config=json.dumps(run.config.to_dict(), indent=2),
        command=command,
        versions={"devices": environment.describe_devices(), **environment.versions()},
    )
    files = "report.html, results.json, metrics.jsonl, checkpoints/, config.json"
    Display().say(f"\nof step {finished.step} ({finished.label}); everything is in {folder.path}/: {files}")


def _shown(finished: Finished) -> Shown:
    run, arrays = finished.run, finished.arrays
    split = "test" if "test" in arrays else next(iter(arrays), None)
    return Shown(
        task=run.task,
        info=run.info,
        batch=run.splits[split].batch if split else lambda indices: {},
        arrays=arrays[split] if split else {},
        history=finished.workdir.rows,
        run=run,
        strings=run.splits[split].text if split else None,
    )
