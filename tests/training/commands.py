"""Runs the project's commands as a user does: real processes, one device."""

import os
import re
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


def run(*arguments, script="train.py", **environment) -> tuple[int, str, str]:
    """Returns exit code, standard output and standard error."""
    process = start(*arguments, script=script, **environment)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err
