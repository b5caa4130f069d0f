"""Blocking work in threads, bounded even when callers leave: a slot is free again when its thread is, not before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T], threads: ThreadPoolExecutor) -> T:
    """Run `call` in one of `threads`, first come first served. When the caller is cancelled, work that has not begun
    never begins.

    Work that has begun can't be stopped; it keeps its thread until it ends, so that callers who come and go do not
    have more of it done at one time than there are threads. A request's id and trace go with it.
    """
    # Not anyio's threads: on the way there and back they cost the event loop several times as much.
    return await asyncio.wrap_future(threads.submit(copy_context().run, call))
