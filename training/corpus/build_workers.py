"""A builder's methods called for many clips, in order: here, or over processes with a builder of their own each."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from training.corpus.sources import Clip

Each = Callable[[Callable[[Clip], Any], Iterable[Clip]], Iterator[Any]]
"""Calls a method of the builder for each clip; results come in the clips' order."""

_here: list[Any] = []
"""The builder of a process of the pool."""


@contextmanager
def each_clip(make: Callable[..., Any], given: tuple[Any, ...], workers: int) -> Iterator[Each]:
    """`map`, or the same over `workers` processes, each with the builder `make(*given)`."""
    if workers == 1:
        yield map
        return
    # Not forked: Praat and BLAS may hold locks in this process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(make, given)) as pool:
        yield lambda method, clips: pool.map(_call, itertools.repeat(method.__name__), clips)


def _begin(make: Callable[..., Any], given: tuple[Any, ...]) -> None:
    _here.append(make(*given))


def _call(method: str, clip: Clip) -> Any:
    return getattr(_here[0], method)(clip)
