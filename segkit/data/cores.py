"""How many processor cores this process may use: a container or a scheduler gives fewer than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, as docker's --cpus sets it: "200000 100000" are two cores


def cores() -> int:
    """Those of the process's affinity (Slurm, taskset), or of its container's quota where that is less; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        count = min(count, round(int(quota) / int(period)))
    except (OSError, ValueError):  # no container, or one without a limit: "max 100000"
        pass
    return max(1, count)


def own_cores() -> int:
    """This process's share of :func:`cores`, where torchrun has started several on this machine; at least 1."""
    together = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, cores() // (int(together) if together.isdecimal() and int(together) else 1))
