"""The runner: what is finished is not run again, a killed one goes on, a failed cell stops no other."""

import dataclasses
import fcntl
import json
import os
import signal
import time

import pytest
from absl.flags import FLAGS
from absl.testing import flagsaver

from data.errors import UserError
from experiments import cells, launch, run
from experiments.cells import Outcome, Place
from experiments.experiment import Cell, Paper, Scale, cell_config, experiment, parse_cell
from experiments.recipes import digits_mlp
from tests.training import commands
from training import config as config_lib
from training.stop import EXIT_CODE

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


def test_two_cells_with_kills_in_between(tmp_path):
    outdir = tmp_path / "run"
    narrow, wide = Place(outdir / "narrow/0"), Place(outdir / "wide/0")
    process = commands.start(*command(outdir), script="-mexperiments.run")
    wait_until(lambda: any((place.workdir / "checkpoints/20").exists() for place in (narrow, wide)), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE and "the same command continues" in out, err
    assert not locked(narrow) and not narrow.workdir.joinpath("results.json").exists()

    process = commands.start(*command(outdir), script="-mexperiments.run")
    wait_until(
        lambda: narrow.beside("out").exists() and b"continuing from step" in narrow.beside("out").read_bytes(), process
    )
    process.kill()  # its cells do not notice
    process.communicate()

    code, out, err = commands.run(*command(outdir), script="-mexperiments.run")
    assert code == 0, err
    for place in (narrow, wide):
        assert steps(place.workdir) == list(range(10, 301, 10))
    assert "undecided" in out and "narrow" in (outdir / "table.md").read_text()
    assert (outdir / "table.png").stat().st_size > 1000 and (outdir / "gradients.png").stat().st_size > 1000
    records = [json.loads(line) for line in (outdir / "results.jsonl").read_text().splitlines()]
    whole = json.loads((wide.workdir / "results.json").read_text())["results"]["test"]["accuracy"]
    assert [record["row"] for record in records] == ["narrow", "wide"] and records[1]["metrics"][
        "test/accuracy"
    ] == whole
    meta = json.loads((outdir / "meta.json").read_text())
    assert meta["config"] == f"{RECIPE}:cpu" and "--workers=2" in meta["command"] and "jax" in meta["hardware"]

    before = narrow.beside("out").stat().st_mtime_ns
    code, out, _ = commands.run(*command(outdir), script="-mexperiments.run")
    assert code == 0 and "2 of 2 cells are finished already" in out
    assert narrow.beside("out").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--config=tests/experiments/tiny.py:cpuu",), ["'cpuu'", "did you mean 'cpu'"]),
        (("--config=tests/experiments/tiny.py:cpu,wide",), ["one cell", "train.py"]),
        (("--config=configs/digits.py",), ["no experiment"]),
        (("--config=tests/experiments/tiny.py", "--rows=wid"), ["'wid'", "did you mean 'wide'"]),
        (("--config=tests/experiments/tiny.py", "--outdir=setup.cfg"), ["--outdir", "is a file"]),
        ((), ["--config is missing"]),
    ],
)
def test_slips(flags, words):
    with flagsaver.flagsaver(config=None, outdir=None, rows=[]), pytest.raises(UserError) as refusal:
        FLAGS(["run", *flags])
        run.main(["run"])
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_a_slip_is_one_line():
    code, out, err = commands.run("--config=experiments/init_dept.py", script="-mexperiments.run")
    assert code == 2 and out == "" and err.count("\n") == 1 and "did you mean 'experiments/init_depth.py'" in err


@dataclasses.dataclass
class Job:
    code: int

    def poll(self):
        return self.code


class Made:
    """A launcher whose jobs end at once, as `endings` says: a value of the metric, or a last line of standard error."""

    def __init__(self, whole, endings):
        self.whole, self.endings, self.free, self.started = whole, endings, [0], []

    def start(self, command, place):
        parts = command[2].partition(":cpu,")[2].split(",")
        cell = parse_cell(self.whole, parts)
        self.started.append(cell)
        ending = self.endings(cell)
        place.workdir.mkdir(parents=True)
        (place.workdir / "config.json").write_text(config_lib.to_json(cell_config(self.whole, cell)))
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


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(run, "TICK_SECONDS", 0)


def runner(whole, outdir, endings):
    return run.Runner(whole, "x.py:cpu", outdir, None, Made(whole, endings))


def test_a_failed_cell_stops_no_other_and_is_tried_again(tmp_path, capsys):
    whole = declared()
    one = runner(whole, tmp_path, lambda cell: "error: no such thing" if cell == Cell("a", 1) else 0.5)
    one.run()
    assert {cell for cell, outcome in one.outcomes.items() if outcome.failed} == {Cell("a", 1)}
    assert one.outcomes[Cell("a", 1)].reason == "error: no such thing" and len(one.launcher.started) == 4
    assert "a seed 1: FAILED: error: no such thing" in capsys.readouterr().out
    again = runner(whole, tmp_path, lambda cell: 0.5)
    place = Place(tmp_path / "a/1")
    place.beside("err").unlink()
    (place.workdir / "config.json").unlink()
    place.workdir.rmdir()
    again.run()
    assert again.launcher.started == [Cell("a", 1)] and not again.outcomes[Cell("a", 1)].failed


def test_divergence_is_a_result_that_is_not_run_again(tmp_path):
    whole = declared()
    one = runner(whole, tmp_path, lambda cell: "step 7: loss is nan; stopped, no checkpoint was saved before")
    one.run()
    assert all(outcome == Outcome(diverged=True) for outcome in one.outcomes.values()) and len(one.outcomes) == 4
    again = runner(whole, tmp_path, lambda cell: 0.5)
    again.run()
    assert again.launcher.started == [] and again.outcomes == one.outcomes


def test_each_row_is_tuned_on_validation_before_its_other_seeds(tmp_path):
    whole = declared(tune={"optimizer.learning_rate": (0.1, 0.2)})
    better = {"a": 0.1, "b": 0.2}
    one = runner(
        whole, tmp_path, lambda cell: 0.9 if dict(cell.values)["optimizer.learning_rate"] == better[cell.row] else 0.1
    )
    one.run()
    assert len(one.outcomes) == cells.count(whole) == 6
    for row, rate in better.items():
        assert cells.choose(whole, row, one.outcomes) == (("optimizer.learning_rate", rate),)
        assert Cell(row, 1, (("optimizer.learning_rate", rate),)) in one.outcomes


def test_a_workdir_of_another_config_is_refused(tmp_path):
    runner(declared(), tmp_path, lambda cell: 0.5).run()
    other = declared(rows={"a": {"optimizer.momentum": 0.1}, "b": {}})
    with pytest.raises(UserError, match=r"a/0 was run with another config \(optimizer.momentum: 0.9 -> 0.1"):
        runner(other, tmp_path, lambda cell: 0.5).run()


def test_a_lock_keeps_a_second_process_out(tmp_path):
    place = Place(tmp_path / "a/0")
    first = launch.Command(["sleep", "60"], place, {}).start(wait=False)
    try:
        with pytest.raises(launch.Busy):
            launch.Command(["true"], place, {}).start(wait=False)
    finally:
        first.kill()
        first.wait()
    assert launch.Command(["true"], place, {}).start(wait=False).wait() == 0


def test_one_cell_prepares_the_data_before_others_read_it(tmp_path):
    whole = declared()
    one = runner(whole, tmp_path, lambda cell: 0.5)
    one.launcher.free = [0, 1, 2]
    waiting = cells.wanted(whole, {})
    one._start(waiting)
    assert one.launcher.started == waiting[:1]
    one._place(waiting[0]).beside("out").write_text("devices: 1\ndata: digits\n")
    one._start(waiting[1:])
    assert one.launcher.started == waiting


def test_workers_share_cores_and_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    local = launch.Local(0)
    jobs = [local.start(["sh", "-c", "echo $CUDA_VISIBLE_DEVICES $NPROC"], Place(tmp_path / str(i))) for i in range(2)]
    assert local.free == []
    for job in jobs:
        job.process.wait()
        local.ended(job)
    cores = max(1, os.cpu_count() // 2)
    assert [Place(tmp_path / str(i)).beside("out").read_text() for i in range(2)] == [f"2 {cores}\n", f"3 {cores}\n"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert launch.visible_gpus() == [] and sorted(local.free) == [0, 1]


def test_jobs_of_submitit(tmp_path):
    pytest.importorskip("submitit")
    launcher = launch.Submitted(2, tmp_path, {"timeout_min": 2}, cluster="local")
    places = [Place(tmp_path / name) for name in ("good", "bad")]
    jobs = [
        launcher.start(["sh", "-c", f"echo here; exit {code}"], place)
        for code, place in zip((0, 3), places, strict=True)
    ]
    assert not launcher.free
    deadline = time.monotonic() + 120
    while any(job.poll() is None for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [job.poll() for job in jobs] == [0, 3] and places[0].beside("out").read_text() == "here\n"


def test_without_slurm_its_launcher_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no sbatch"):
        launch.Submitted(0, tmp_path, {})


def test_progress_is_what_was_last_printed(tmp_path):
    place = Place(tmp_path / "0")
    assert place.progress() == 0 and place.last_error() == ""
    place.beside("out").write_text("step 10/40  loss 1\nstep 20/40  loss 1\nstep 20  validation: loss 1\n")
    assert place.progress() == 0.5
