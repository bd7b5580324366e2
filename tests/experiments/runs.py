"""What the tests of the runner share: a launcher whose jobs end at once, real ones to wait for."""

import dataclasses
import fcntl
import json
import time

from experiments import run
from experiments.engine.bases import digits_mlp
from experiments.engine.experiment import Paper, Scale, cell_config, experiment, parse_cell
from training import config as config_lib

RECIPE = "tests/experiments/tiny.py"


def command(outdir, *more):
    return f"--config={RECIPE}", f"--outdir={outdir}", f"--data_dir={outdir.parent / 'tfds'}", "--workers=2", *more


def wait_until(moment, process):
    deadline = time.monotonic() + 240
    while not moment() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()


def steps(workdir, split="train"):
    path = workdir / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row["step"] for row in rows if row["split"] == split]


def locked(place):
    with place.beside("lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@dataclasses.dataclass
class Job:
    code: int

    def poll(self):
        return self.code


class Made:
    """A launcher whose jobs end at once, as `endings` gives for each cell: a value of the metric, "diverged", or a last
    line of standard error.
    """

    def __init__(self, whole, endings):
        self.whole, self.endings, self.free, self.started, self.jobs = whole, endings, [0], [], []

    def start(self, command, place):
        alone = [x.partition(":cpu,")[2] for x in command if x.startswith("--config=") and ":cpu," in x]
        named = alone or [x.removeprefix("--cell=") for x in command if x.startswith("--cell=")]
        self.jobs.append([parse_cell(self.whole, text.split(",")) for text in named])
        places = place.members or (place,)
        return Job(max(self._end(*one).code for one in zip(self.jobs[-1], places, strict=True)))

    def _end(self, cell, place):
        self.started.append(cell)
        ending = self.endings(cell)
        place.workdir.mkdir(parents=True, exist_ok=True)
        (place.workdir / "config.json").write_text(
            config_lib.to_json(cell_config(self.whole, cell, place.workdir.parents[1]))
        )
        if ending == "diverged":
            (place.workdir / "status.json").write_text(json.dumps({"state": ending, "step": 3, "steps": 10}))
            return Job(1)
        if isinstance(ending, str):
            place.beside("err").write_text(f"warning\n{ending}\n\n")
            return Job(1)
        results = {split: {"accuracy": ending} for split in ("validation", "test")}
        (place.workdir / "results.json").write_text(json.dumps({"step": 1, "results": results}))
        return Job(0)

    def ended(self, job):
        pass


def declared(**changes):
    base = digits_mlp(steps=10, batch_size=8)
    settings = {
        "metric": "test/accuracy",
        "rows": {"a": {}, "b": {"model.widths": (3,)}},
        "paper": Paper(title="A", arxiv=""),
    }
    return experiment("", **(settings | {"scales": {"cpu": Scale(base=base, seeds=2)}} | changes))


def runner(whole, outdir, endings, together=False):
    return run.Runner(whole, "x.py:cpu", outdir, None, Made(whole, endings), together)
