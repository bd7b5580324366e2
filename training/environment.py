"""The machine and the libraries of this process, as results record them."""

import os
import platform
from importlib import metadata
from pathlib import Path

import jax

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint", "tensorflow-datasets")


def describe_devices() -> str:
    """Returns "8 x cpu (TFRT_CPU), 1 host, jax 0.10.2"."""
    device, hosts = jax.devices()[0], jax.process_count()
    kind = f"{jax.device_count()} x {device.platform} ({device.device_kind})"
    return f"{kind}, {hosts} host{'s' * (hosts > 1)}, jax {jax.__version__}"


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that affect results."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES}


def processor() -> str:
    """Returns the number of cores and the name of the processor: "2 cores of Intel(R) Xeon(R)"."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        name = named[0].partition(":")[2].strip() if named else name
    return f"{os.cpu_count()} cores of {name}"
