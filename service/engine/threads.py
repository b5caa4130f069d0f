"""How many CPUs this process may really use: runtimes count the host's, and a container's quota makes them thrash."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def available_cpus(*, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """CPUs by affinity and by the cgroup's quota (v1 or v2, own group and those above it), whichever is less.

    A quota of 2.5 CPUs counts as 2: a third thread would be throttled half of the time, and hold the others up.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _folders(cgroups, membership) if (quota := _quota(folder)) is not None]
    return max(1, min([affinity, *(math.floor(quota) for quota in quotas)]))


def _folders(cgroups: Path, membership: Path) -> Iterator[Path]:
    """Folders whose limits hold for this process, own group first.

    In a container the path of membership is often the host's and absent here; the mount's root is then the own group.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    roots = [(cgroups, "/")]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if not controllers:
            roots.append((cgroups, path))
        elif "cpu" in names:
            roots += [(cgroups / mount, path) for mount in {controllers, "cpu"}] + [(cgroups / "cpu", "/")]
    for root, path in roots:
        own = root / path.strip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return None
    if quota == "max" or int(quota) <= 0 or int(period) <= 0:
        return None
    return int(quota) / int(period)
