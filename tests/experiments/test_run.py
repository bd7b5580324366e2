"""The runner: what is finished is not run again, a killed one goes on, a failed cell stops no other."""

import dataclasses
import fcntl
import json
import os
import signal
import time

import numpy as np
import pytest
from absl.flags import FLAGS
from absl.testing import flagsaver

from data.errors import UserError
from experiments import cells, launch, run, together
from experiments.cells import Group, Outcome, Place
from experiments.experiment import Cell, Paper, Scale, cell_config, experiment, parse_cell
from experiments.recipes import digits_mlp
from tests.experiments import tiny
from tests.training import commands
from training import config as config_lib
from training.seeds import Seeds
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


def runner(whole, outdir, endings, together=False):
    return run.Runner(whole, "x.py:cpu", outdir, None, Made(whole, endings), together)


def left(workdir):
    """Returns what a run left, but for how long it took."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    timings = ("examples_per_second", "data_wait")
    rows = [{key: x for key, x in row.items() if key not in timings} for row in rows]
    return rows, (workdir / "results.json").read_text(), (workdir / "config.json").read_text()


def test_seeds_killed_together_go_on_bit_for_bit(tmp_path):
    whole, killed = (tmp_path / name / "run" for name in ("whole", "killed"))
    data_dir, row = f"--data_dir={tmp_path / 'tfds'}", (f"--config={RECIPE}:full", "--cell=wide", "--cell=wide,seed=1")
    code, _, err = commands.run(*row, data_dir, f"--outdir={whole}", script="-mexperiments.together")
    assert code == 0, err
    process = commands.start(*row, data_dir, f"--outdir={killed}", script="-mexperiments.together")
    wait_until(lambda: (killed / "wide/together-0-1/checkpoints/40").exists(), process)
    process.kill()
    process.communicate()
    begun = steps(killed / "wide/1")
    assert begun and begun[-1] < 300 and not (killed / "wide/1/results.json").exists()

    rest = f"--config={RECIPE}:full", data_dir, f"--outdir={killed}"
    code, out, err = commands.run(*rest, script="-mexperiments.run")
    assert code == 0 and "2/2" in out, err
    assert "continuing from step" in Place(killed / "wide/1").beside("out").read_text()
    for seed in "01":
        assert left(whole / "wide" / seed) == left(killed / "wide" / seed)
        assert Place(killed / "wide" / seed).seconds() > 0 and (whole / "wide" / seed / "checkpoints/300").is_dir()
    assert not (killed / "wide/together-0-1").exists()
    records = [json.loads(line) for line in (killed / "results.jsonl").read_text().splitlines()]
    assert [record["seed"] for record in records] == [0, 1] and all(record["gradients"] for record in records)


def test_a_seed_that_diverges_is_a_result_and_the_others_finish(tmp_path, monkeypatch):
    whole = tiny.get_config("full")
    whole.base.train.steps = 3
    members = [Cell("wide", 0), Cell("wide", 1)]
    place = cells.together(tmp_path / "run", members)
    original = Seeds.batches

    def broken(self, start):
        for batch in original(self, start):
            yield {**batch, "mask": batch["mask"] * np.array([[1], [np.nan]], np.float32)}

    monkeypatch.setattr(Seeds, "batches", broken)
    together.train(whole, members, tmp_path / "run", str(tmp_path / "tfds"))
    outcomes = [
        cells.ended(place, cell_config(whole, Cell("wide", seed)), 0) for seed, place in enumerate(place.members)
    ]
    assert outcomes[0].metrics.keys() >= {"test/accuracy"} and outcomes[1] == Outcome(diverged=True)


def test_the_seeds_of_a_row_are_one_job_where_its_config_allows_that(tmp_path):
    whole = declared(rows={"a": {}, "alone": {"data.buckets": 2}, "b": {}})
    one = runner(whole, tmp_path, lambda cell: 0.5, together=True)
    one.run()
    expected = [[Cell("a", 0), Cell("a", 1)], [Cell("alone", 0)], [Cell("alone", 1)], [Cell("b", 0), Cell("b", 1)]]
    assert one.launcher.jobs == expected and not any(outcome.failed for outcome in one.outcomes.values())
    seconds = [Place(tmp_path / f"b/{seed}").beside("seconds").read_text() for seed in (0, 1)]
    assert seconds[0] == seconds[1] and len(one.outcomes) == 6
    again = runner(whole, tmp_path / "again", lambda cell: 0.5)
    again.run()
    assert [len(job) for job in again.launcher.jobs] == [1] * 6


@pytest.mark.parametrize(
    ("key", "grid", "optimizer", "jobs"),
    [
        ("optimizer.learning_rate", (0.1, 0.2), "sgd", [2, 2]),
        ("optimizer.learning_rate", (0.1, 0.2), "adafactor", [1, 1, 2]),  # whose updates do not follow the rate
        ("train.batch_size", (4, 8), "sgd", [1, 1, 2]),
    ],
)
def test_rates_are_tried_together_as_are_further_seeds(key, grid, optimizer, jobs, tmp_path):
    base = digits_mlp(steps=10, batch_size=8)
    base.optimizer.name = optimizer
    whole = declared(
        rows={"a": {}},
        tune={key: grid},
        scales={"cpu": Scale(base=base, seeds=3)},
    )
    one = runner(whole, tmp_path, lambda cell: dict(cell.values)[key], together=True)
    one.run()
    assert [len(job) for job in one.launcher.jobs] == jobs
    assert one.launcher.jobs[-1][1] == Cell("a", 2, ((key, grid[1]),))


def test_what_was_begun_alone_or_together_goes_on_so(tmp_path):
    each = [Cell("a", seed) for seed in range(5)]
    (tmp_path / "a/1/checkpoints/20").mkdir(parents=True)
    (tmp_path / "a/together-1-2-3/checkpoints/7").mkdir(parents=True)
    (tmp_path / "a/together-0-4/checkpoints/7.orbax-checkpoint-tmp").mkdir(parents=True)  # not whole
    groups = cells.groups(declared(), [each[0], each[1], each[3]], tmp_path, lambda cell: True)
    assert groups == [Group((each[0],)), Group((each[1],)), Group((each[3],), tuple(each[1:4]))]
    place = groups[-1].place(tmp_path)
    assert place == Place(tmp_path / "a/together-1-2-3", (Place(tmp_path / "a/2"), Place(tmp_path / "a/3")))
    groups = cells.groups(declared(), [each[0], each[2], each[4]], tmp_path, lambda cell: True)
    assert groups == [Group((each[0], each[4]), (each[0], each[4])), Group((each[2],), tuple(each[1:4]))]


def test_a_failed_group_is_reported_for_each_cell(tmp_path, capsys):
    whole = declared()
    one = runner(whole, tmp_path, lambda cell: "error: out of memory" if cell.row == "a" else 0.5, together=True)
    one.run()
    assert {cell for cell, outcome in one.outcomes.items() if outcome.failed} == {Cell("a", 0), Cell("a", 1)}
    said = capsys.readouterr().out
    assert all(f"a seed {seed}: FAILED: error: out of memory" in said for seed in (0, 1)) and len(one.outcomes) == 4


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


@pytest.mark.parametrize("member", [Cell("a", 1), Cell("a", 0, (("optimizer.learning_rate", 0.1),))])
def test_a_group_locks_each_of_its_cells_and_tells_each_what_it_prints(member, tmp_path):
    group = cells.together(tmp_path, [Cell("a", 0), member])
    prints = "echo 'step 3/4  loss 1'; echo broken >&2; exec sleep 60"
    first = launch.Command(["sh", "-c", prints], group, {}).start(wait=False)
    try:
        for place in group.members:
            with pytest.raises(launch.Busy):
                launch.Command(["true"], place, {}).start(wait=False)
        wait_until(lambda: all(place.last_error() == "broken" for place in group.members), first)
        assert [place.progress() for place in group.members] == [0.75, 0.75]
    finally:
        first.kill()
        first.wait()
    alone = launch.Command(["sh", "-c", "echo alone >&2; exec sleep 60"], group.members[1], {}).start(wait=False)
    try:
        with pytest.raises(launch.Busy):
            launch.Command(["true"], group, {}).start(wait=False)
        assert not locked(group.members[0])  # of what could not be had nothing is kept
    finally:
        wait_until(lambda: group.members[1].last_error(), alone)
        alone.kill()
        alone.wait()
    assert group.members[0].last_error() == "broken" and group.members[1].last_error() == "alone"


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
