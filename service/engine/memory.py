"""The process's memory: what a burst left goes back to the machine, what stays is not searched for garbage."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Final


def c_library_trim() -> Callable[[], None]:
    """What returns the C heap's free pages to the system: glibc's malloc_trim(3), nothing where there is none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return lambda: None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int

    def give_back() -> None:
        trim(0)

    return give_back


_YOUNG: Final = 10_000
"""Objects more than at the last collection that begin the next; at Python's 700 it took 5 % of the loop's time."""


def settle() -> None:
    """Keep the garbage collector from walking what the start-up made, which lives as long as the process.

    A full collection with it stops every thread for some 80 ms in the middle of serving, without it for 10.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
