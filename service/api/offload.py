"""Blocking work in threads, bounded even when callers leave: a slot is free again when its thread is, not before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")


class Abandoned(Exception):  # noqa: N818  (what happened)
    """Nobody waits for the work any more; raised in its thread, seen by nobody."""


async def in_thread(call: Callable[[], T], limiter: anyio.CapacityLimiter) -> T:
    """Run `call` in a thread of `limiter`. When the caller is cancelled, work that has not begun never begins.

    Work that has begun can't be stopped; it keeps its slot until it ends, so that callers who come and go do not make
    more threads than the limiter has.
    """
    wanted = True

    def run() -> T:
        if not wanted:
            raise Abandoned
        return call()

    task = asyncio.create_task(anyio.to_thread.run_sync(run, limiter=limiter), context=copy_context())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        wanted = False
        task.add_done_callback(_forget)
        raise


def _forget(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()  # looked at, so that nothing is logged about it
