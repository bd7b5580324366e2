"""Runs the project's commands as a user does: real processes, one device."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLAGS = re.sub("--xla_force_host_platform_device_count=[0-9]+", "", os.environ["XLA_FLAGS"])
ENVIRONMENT = {**os.environ, "XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu", "COLUMNS": "120"}
ENVIRONMENT["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"  # or each command would start itself again with it


def start(*arguments, script="train.py", stdin=False, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, script, *map(str, arguments)],
        cwd=ROOT,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.PIPE if stdin else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_hosts(*arguments, script="train.py", **environment) -> list[subprocess.Popen]:
    """Starts a command as two hosts and returns their processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        environment["JAX_COORDINATOR_ADDRESS"] = f"127.0.0.1:{free.getsockname()[1]}"
    return [start(*arguments, script=script, **environment, JAX_PROCESS_ID=str(i)) for i in (0, 1)]


def run(*arguments, script="train.py", **environment) -> tuple[int, str, str]:
    """Returns exit code, standard output and standard error."""
    process = start(*arguments, script=script, **environment)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err
