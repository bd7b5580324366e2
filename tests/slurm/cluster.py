"""A Slurm cluster of one node, this machine, in a folder: python -m tests.slurm.cluster

Real daemons of Slurm (tested with 22.05) and munge, run by the user who calls: without systemd, accounting, cgroups.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PATIENCE_SECONDS = 30  # for each daemon to be up
KILL_SECONDS = 20  # from SIGTERM to SIGKILL (Slurm's default: 30)
CREDENTIAL_SECONDS = 5  # a job that is started again waits for so long (Slurm's default: 120)

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmdPort={slurmd}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={credential}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait={kill}
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=20
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""


class Cluster:
    """Context in which a cluster runs: `cpus` cores (0 for all), partitions `low` and, which preempts it, `high`.

    Commands find it by its `environment`. Raises RuntimeError with the daemons' last lines if it does not come up.
    """

    def __init__(self, cpus: int = 0):
        self.cpus = cpus or os.cpu_count()
        self.daemons: dict[str, subprocess.Popen] = {}
        self.environment: dict[str, str] = {}

    def __enter__(self) -> "Cluster":
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: a socket's path has at most 107 bytes
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if "slurmctld" in self.daemons:
            self._end_jobs()
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_jobs(self) -> None:
        self.answer("scancel", f"--user={os.getuid()}")
        deadline = time.monotonic() + KILL_SECONDS + 5
        while self.answer("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.2)

    def _start(self) -> None:
        self.folder.chmod(0o755)  # munged wants its socket to be reached by everyone
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        socket_, pid, seed = (f"--{name}={self.folder}/munge.{name}" for name in ("socket", "pid-file", "seed-file"))
        self._run("munged", "--foreground", f"--key-file={key}", socket_, pid, seed)
        self._wait("munged", (self.folder / "munge.socket").exists)
        conf = self.folder / "slurm.conf"
        host = socket.gethostname().partition(".")[0]
        (slurmctld, slurmd), user = free_ports(2), subprocess.check_output(["id", "-un"], text=True).strip()
        conf.write_text(
            CONF.format(
                host=host,
                slurmctld=slurmctld,
                slurmd=slurmd,
                user=user,
                folder=self.folder,
                cpus=self.cpus,
                credential=CREDENTIAL_SECONDS,
                kill=KILL_SECONDS,
            )
        )
        self.environment = {"SLURM_CONF": str(conf)}
        self._run("slurmctld", "-D", "-i", "-f", str(conf))
        self._wait("slurmctld", lambda: "is UP" in self.answer("scontrol", "ping"))
        self._run("slurmd", "-D", "-f", str(conf))
        self._wait("slurmd", lambda: "idle" in self.answer("sinfo", "--noheader", "--format=%T"))

    def _run(self, name: str, *arguments: str) -> None:
        tied = ["setpriv", "--pdeathsig=TERM"] if program("setpriv") else []  # it ends when this process is killed
        with (self.folder / f"{name}.out").open("w") as out:
            self.daemons[name] = subprocess.Popen(
                [*tied, program(name), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for the caller, who ends them in order
            )

    def _wait(self, name: str, up) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not up():
            if self.daemons[name].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not come up\n{self.log()}")
            time.sleep(0.1)

    def answer(self, *command: str) -> str:
        """Returns what a command of Slurm prints, "" without a controller."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment).stdout

    def job(self, number: str) -> dict[str, str]:
        """Returns what Slurm knows of a job: JobState, Restarts, Partition, ..."""
        pairs = (pair.partition("=") for pair in self.answer("scontrol", "--oneliner", "show", "job", number).split())
        return {key: value for key, _, value in pairs}

    def log(self, lines: int = 30) -> str:
        """Returns the last lines of every daemon."""
        files = {name: (self.folder / f"{name}.out").read_text().splitlines()[-lines:] for name in self.daemons}
        return "\n".join("\n".join((f"--- {name}", *tail)) for name, tail in files.items())


def program(name: str) -> str | None:
    """Returns the path of a program, also of a daemon, which not every user has in PATH; None if it is missing."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), Cluster() as cluster:
        print(f"export SLURM_CONF={cluster.folder}/slurm.conf  # until this ends (Ctrl-C)", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
