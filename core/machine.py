"""Facts about the machine."""

import os
from pathlib import Path


def free_memory() -> float:
    """Returns the bytes of memory that are free, of all that exist where the system does not tell more."""
    facts = Path("/proc/meminfo")
    if facts.exists():
        lines = (line.split() for line in facts.read_text().splitlines())
        return next(float(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:")
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
