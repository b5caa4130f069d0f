"""How much memory there is to plan with: the container's limit where there is one, or else the machine's."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_bytes() -> int:
    """Bytes of memory that this process could be given at most."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([whole, *filter(None, map(_limit, _CGROUP_LIMITS))])


def _limit(file: Path) -> int | None:
    """The number in a cgroup's file; None if there is no file or it says "max"."""
    try:
        return int(file.read_text().strip())
    except (OSError, ValueError):
        return None
