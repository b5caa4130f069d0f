"""Gives memory that a burst of work left behind back to the machine: the C library keeps it otherwise."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def c_library_trim() -> Callable[[], None]:
    """What returns the C heap's free pages to the system: glibc's malloc_trim(3), nothing where there is none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return lambda: None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int

    def give_back() -> None:
        trim(0)

    return give_back
