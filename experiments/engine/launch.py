"""Launchers of cells' processes: on this machine, or as Slurm jobs.

A lock next to each workdir admits one process at a time, even if the runner that started it was killed: the process
itself holds the lock, and the system releases it when the process ends for any reason. A process that trains several
cells holds the locks of all of them.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import Stopped, UserError
from experiments.engine.cells import CellFiles
from experiments.engine.experiment import Cell

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 12  # for a process to save and end; the process itself waits at most 8
ASK_SECONDS = 5  # between two calls of squeue
LATE_SECONDS = 15  # until a result appears on a shared file system after its job has left the queue
RETRY_SECONDS = 60  # after Slurm has rejected a job while others run


class Busy(Exception):
    """Another process holds the workdir."""


class Command:
    """A command that runs in a cell's workdir, called on the executing machine; Slurm may preempt and repeat it."""

    def __init__(self, command: list[str], files: CellFiles, environment: dict[str, str]):
        self.command, self.files, self.environment = command, files, environment

    def start(self, wait: bool) -> subprocess.Popen:
        """Starts the process, which holds the locks. Raises Busy if another process holds one, unless `wait`."""
        paths = sorted(files.beside("lock") for files in (self.files, *self.files.members))  # one order: no deadlock
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        locks = [os.open(path, os.O_CREAT | os.O_RDWR) for path in paths]
        try:
            for lock in locks:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            self.files.share()
            with self.files.beside("out").open("w") as out, self.files.beside("err").open("w") as err:
                return subprocess.Popen(
                    self.command,
                    cwd=ROOT,
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,  # only the runner receives Ctrl-C, and it stops the processes
                    pass_fds=locks,
                )
        except BlockingIOError as error:
            raise Busy from error
        finally:
            for lock in locks:
                os.close(lock)

    def __call__(self) -> int:
        process = self.start(wait=True)
        try:
            code = process.wait()
        except BaseException:  # preempted, or out of time: submitit raises an exception to end this process
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_SECONDS)  # the job ends with this process, and Slurm kills its children
            raise
        if code == Stopped.EXIT_CODE and being_preempted():
            signal.raise_signal(signal.SIGUSR2)  # submitit's signal to start the job again
        return code

    def checkpoint(self) -> Any:
        """Makes submitit call this object again, which continues the workdir."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class LocalJob:
    def __init__(self, process: subprocess.Popen, slot: int):
        self.process, self.slot = process, slot

    def poll(self) -> int | None:
        """Returns the exit code, None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)


class Local:
    """`workers` processes on this machine, each with its share of the cores and, if available, of the GPUs."""

    def __init__(self, workers: int):
        gpus = visible_gpus()
        self.workers = workers or len(gpus) or min(8, os.cpu_count())
        self.free = list(range(self.workers))
        threads = str(max(1, (os.cpu_count() or 1) // self.workers))
        self.environment = dict.fromkeys(("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        if self.workers > len(gpus) > 0:
            self.environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # several on one GPU
        self.gpus = gpus

    def start(self, command: list[str], files: CellFiles) -> LocalJob:
        """Starts a command. Raises Busy."""
        slot = self.free[0]
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if self.gpus else {}
        job = LocalJob(Command(command, files, self.environment | gpu).start(wait=False), slot)
        self.free.remove(slot)
        return job

    def ended(self, job: LocalJob) -> None:
        self.free.append(job.slot)


def being_preempted() -> bool:
    """Whether the SIGTERM that ended this job's process was a warning of preemption, after which the job continues.

    A job that is cancelled, or that Slurm requeues by itself, is no longer RUNNING when the signal arrives.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return False
    command = ["squeue", "--noheader", f"--jobs={os.environ['SLURM_JOB_ID']}", "--format=%T"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() == "RUNNING"


class Queue:
    """The jobs that Slurm has not ended, fetched in one call.

    It replaces submitit's watcher, which needs accounting, polls up to ten minutes apart, and treats a job that was
    stopped and will be requeued as finished.
    """

    def __init__(self):
        self.asked, self.jobs = float("-inf"), set()

    def has(self, job: str) -> bool:
        if time.monotonic() - self.asked > ASK_SECONDS:
            command = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%A"]
            answer = subprocess.run(command, capture_output=True, text=True)
            if answer.returncode == 0:  # otherwise the controller is down, and no job is known to have ended
                self.jobs = set(answer.stdout.split())
            self.asked = time.monotonic()
        return job in self.jobs


class SubmittedJob:
    """A job of submitit; `queue` is Slurm's, None for a local executor."""

    def __init__(self, job: Any, queue: Queue | None):
        self.job, self.queue = job, queue
        self.gone = 0.0  # time since which it is known to have ended without a result
        if queue:
            queue.jobs.add(job.job_id)

    def poll(self) -> int | None:
        """Returns the exit code, None while it waits or runs, for the first time or again; 1 if it was killed."""
        ended = not self.queue.has(self.job.job_id) if self.queue else self.job.done()
        code = self._code()  # after the query: a result is written before the job ends
        if code == 0 or (ended and code is not None):
            return code
        if not ended:
            return None
        self.gone = self.gone or time.monotonic()
        return 1 if time.monotonic() - self.gone > LATE_SECONDS else None

    def _code(self) -> int | None:
        if not self.job.paths.result_pickle.exists():
            return None
        try:
            return self.job.result()
        except Exception:  # submitit's own errors and whatever the job raised
            return 1

    def stop(self) -> None:
        self.job.cancel(check=False)  # it may have ended


class Submitted:
    """At most `workers` jobs at a time, through submitit; `cluster` is "slurm", or "local" to try it without one.

    `options` are submitit's: slurm_partition, timeout_min, gpus_per_node, cpus_per_task, ...
    """

    def __init__(self, workers: int, folder: Path, options: dict[str, Any], cluster: str = "slurm"):
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise UserError("--launcher=slurm needs submitit: pip install submitit") from error
        if cluster == "slurm" and not shutil.which("sbatch"):
            raise UserError("--launcher=slurm: sbatch is not on this machine's PATH")
        self.workers = workers or 16
        self.running = 0
        self.queue = Queue() if cluster == "slurm" else None
        self.retry = 0.0  # time of the next attempt after a rejection
        self.executor = submitit.AutoExecutor(folder=folder / "jobs", cluster=cluster)
        try:
            self.executor.update_parameters(**{"name": folder.name, "timeout_min": 24 * 60, **options})
        except (NameError, TypeError, ValueError) as error:
            raise UserError(f"--slurm: {' '.join(str(error).split())}") from error

    @property
    def free(self) -> range:
        return range(self.workers - self.running if time.monotonic() >= self.retry else 0)

    def start(self, command: list[str], files: CellFiles) -> SubmittedJob:
        """Submits a command. Raises UserError if Slurm rejects it, or Busy if earlier jobs still run."""
        from submitit.core.utils import FailedJobError

        # Slurm signals every process of a job; submitit's preemption signal is for submitit alone.
        shielded = ["sh", "-c", 'trap "" USR2; exec "$@"', "sh", *command]
        try:
            job = SubmittedJob(self.executor.submit(Command(shielded, files, {})), self.queue)
        except FailedJobError as error:
            if not self.running:
                raise UserError(f"--launcher=slurm: {' '.join(str(error).split())}") from error
            self.retry = time.monotonic() + RETRY_SECONDS  # a job limit is reached, or the controller is down
            raise Busy from error
        self.running += 1
        return job

    def ended(self, job: SubmittedJob) -> None:
        del job
        self.running -= 1


def stop(jobs: list[Any]) -> None:
    """Makes jobs save and end, and waits for them."""
    for job in jobs:
        job.stop()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and any(job.poll() is None for job in jobs):
        time.sleep(0.1)


def visible_gpus() -> list[str]:
    """Returns the numbers of the NVIDIA GPUs that this process may use."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        named = [number.strip() for number in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
        return [number for number in named if number not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]


def train_command(recipe: str, argument: str, files: CellFiles, data_dir: str | None) -> list[str]:
    """Returns the command that trains a cell; `recipe` is FILE.py:SCALE."""
    command = [sys.executable, "train.py", f"--config={recipe},{argument}", f"--workdir={files.workdir}"]
    return command + ([f"--data_dir={data_dir}"] if data_dir else [])


def together_command(recipe: str, members: Sequence[Cell], outdir: Path, data_dir: str | None) -> list[str]:
    """Returns the command that trains several cells in one process."""
    command = [sys.executable, "-m", "experiments.engine.together", f"--config={recipe}", f"--outdir={outdir}"]
    command += [f"--cell={cell.argument}" for cell in members]
    return command + ([f"--data_dir={data_dir}"] if data_dir else [])
