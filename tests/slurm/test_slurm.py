"""The runner on a real Slurm, of one node on this machine: make slurm (minutes; needs Debian's slurm-wlm and munge)."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from core.errors import Stopped
from experiments.engine.cells import CellFiles
from tests.slurm.cluster import Cluster, program
from tests.slurm.slow import STEPS
from tests.training import commands

pytestmark = [
    pytest.mark.skipif("SLURM_TESTS" not in os.environ, reason="only when asked for: make slurm"),
    pytest.mark.skipif(
        not all(map(program, ("sbatch", "slurmctld", "slurmd", "munged"))), reason="Slurm is not installed"
    ),
]


@pytest.fixture(scope="module")
def slurm():
    pytest.importorskip("submitit")
    with Cluster(cpus=2) as cluster:
        yield cluster
        print(cluster.log())


class Run:
    """The runner's command in a folder, and the one cell of the slow experiment."""

    def __init__(self, slurm, outdir, recipe="tests/slurm/slow.py", partition="low"):
        self.slurm, self.outdir = slurm, outdir
        self.place = CellFiles(outdir / "only/0")
        self.flags = (
            f"--config={recipe}",
            f"--outdir={outdir}",
            "--launcher=slurm",
            f"--slurm=slurm_partition={partition}",
            "--slurm=cpus_per_task=1",
        )

    def start(self):
        threads = dict.fromkeys(("NPROC", "OMP_NUM_THREADS"), "1")
        return commands.start(*self.flags, script="-mexperiments.run", **threads, **self.slurm.environment)

    def under_way(self):
        """Starts and returns the process when the cell has a checkpoint."""
        process = self.start()
        self.wait_until(lambda: any(self.outdir.glob("only/*/checkpoints/*00")), process)
        return process

    def finish(self, process=None):
        """Returns exit code, standard output and standard error of a process, a new one unless given."""
        process = process or self.start()
        try:
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
        assert "Traceback" not in err and "sacct" not in err, err
        return process.returncode, out, err

    def wait_until(self, moment, process, seconds=300):
        deadline = time.monotonic() + seconds
        while not moment() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if not moment() or process.poll() is not None:
            process.kill()
            raise AssertionError((process.communicate(), self.slurm.log()))

    def jobs(self):
        """Returns the numbers of the jobs that were submitted, in order."""
        return sorted((path.name.partition("_")[0] for path in self.outdir.glob("jobs/*_submitted.pkl")), key=int)

    def states(self):
        return [self.slurm.job(number)["JobState"] for number in self.jobs()]

    def finished_without_gap(self):
        """Whether the cell has every step's record once, and went on from a checkpoint."""
        rows = [json.loads(line) for line in (self.place.workdir / "metrics.jsonl").read_text().splitlines()]
        steps = [row["step"] for row in rows if row["split"] == "train"]
        went_on = "continuing from step" in self.place.beside("out").read_text()
        return went_on and steps == list(range(50, STEPS + 1, 50)) and (self.place.workdir / "results.json").exists()


def test_an_experiment_in_full(slurm, tmp_path):
    run = Run(slurm, tmp_path / "run", recipe="tests/experiments/tiny.py")
    code, out, err = run.finish()
    assert code == 0, (err, slurm.log())
    assert all((run.outdir / row / "0/results.json").exists() for row in ("narrow", "wide"))
    records = [json.loads(line) for line in (run.outdir / "results.jsonl").read_text().splitlines()]
    assert [record["row"] for record in records] == ["narrow", "wide"] and "Wide is better" in out
    assert run.states() == ["COMPLETED", "COMPLETED"]
    for number in run.jobs():
        job = slurm.job(number)
        assert job["Partition"] == "low" and job["NumCPUs"] == "1"
        assert Path(job["StdOut"]).parent == run.outdir / "jobs"
        assert f"job_id={number}," in Path(job["StdOut"]).read_text()


@pytest.mark.parametrize(
    ("signals", "reason"),
    [
        ((), f"exit code {Stopped.EXIT_CODE}"),  # it saves
        (("--full", "--signal=KILL"), "exit code 1"),  # nothing is written any more
    ],
)
def test_a_cancelled_job_has_failed_and_the_same_command_goes_on(slurm, tmp_path, signals, reason):
    run = Run(slurm, tmp_path / "run")
    process = run.under_way()
    slurm.answer("scancel", *signals, *run.jobs())
    code, out, err = run.finish(process)
    assert code == 1 and f"failed: only/0: {reason}" in err, (out, err)
    assert run.states() == ["CANCELLED"]
    code, out, err = run.finish()
    assert code == 0 and run.finished_without_gap(), (out, err)
    assert run.states() == ["CANCELLED", "COMPLETED"]


def test_a_runner_that_is_told_to_stop_cancels_its_jobs(slurm, tmp_path):
    run = Run(slurm, tmp_path / "run")
    process = run.under_way()
    process.send_signal(signal.SIGTERM)
    code, out, err = run.finish(process)
    assert code == Stopped.EXIT_CODE and "the same command continues" in out, err
    assert run.states() == ["CANCELLED"] and not (run.place.workdir / "results.json").exists()
    assert "SIGTERM: saved at step" in run.place.beside("out").read_text()
    code, out, err = run.finish()
    assert code == 0 and run.finished_without_gap(), (out, err)


@pytest.mark.parametrize(
    "command",
    [
        "scontrol requeue {job}",
        "scancel --signal=USR2 {job}",  # as Slurm does before the time limit
        "sbatch --partition=high --ntasks=2 --output=/dev/null --wrap=true",  # preempts: SIGTERM, later SIGKILL
    ],
)
def test_a_job_that_slurm_starts_again_goes_on(slurm, tmp_path, command):
    run = Run(slurm, tmp_path / "run")
    process = run.under_way()
    (number,) = run.jobs()
    slurm.answer(*command.format(job=number).split())
    run.wait_until(lambda: "SIGTERM: saved at step" in run.place.beside("out").read_text(), process, seconds=60)
    code, out, err = run.finish(process)
    assert code == 0 and run.finished_without_gap(), (out, err, slurm.log())
    assert run.jobs() == [number]
    assert slurm.job(number)["JobState"] == "COMPLETED" and slurm.job(number)["Restarts"] == "1"


def test_seeds_that_are_trained_together_are_one_job_and_go_on(slurm, tmp_path):
    run = Run(slurm, tmp_path / "run", recipe="tests/slurm/slow.py:full")
    process = run.under_way()
    (number,) = run.jobs()
    slurm.answer("scontrol", "requeue", number)
    code, out, err = run.finish(process)
    assert code == 0 and run.finished_without_gap() and "2/2" in out, (out, err, slurm.log())
    assert run.jobs() == [number] and (run.outdir / "only/1/results.json").exists()
    assert slurm.job(number)["JobState"] == "COMPLETED" and slurm.job(number)["Restarts"] == "1"


def test_a_refusal_is_answered(slurm, tmp_path):
    code, _, err = Run(slurm, tmp_path / "run", partition="nowhere").finish()
    last = err.splitlines()[-1]  # after what sbatch printed
    assert code == 2 and last.startswith("error: --launcher=slurm: sbatch: ") and "nowhere" in last, err
