"""Hears that the process is asked to stop: before a server has closed its connections, and where there is no server."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

Done = TypeVar("Done")


class TerminatedError(Exception):
    """SIGTERM ended what was under way."""


async def until_terminated(work: Coroutine[Any, Any, Done]) -> Done:
    """Await this, in the main thread. SIGTERM cancels it, so that it leaves nothing behind.

    Raises TerminatedError then, and whatever the work raises.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    heard = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        if not heard:  # a second one would end the tidying up
            heard = True
            loop.call_soon_threadsafe(task.cancel)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        return await work
    except asyncio.CancelledError:
        if heard:
            raise TerminatedError from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def on_stop_signal(call: Callable[[], None]) -> Iterator[None]:
    """Also call this, in the event loop, when the process is asked to stop.

    The server closes its connections before it tells the app, so that a stream which waits to be told would hold it up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(call)
        known = before[signal.Signals(number)]
        if callable(known):
            known(number, frame)
        elif known == signal.SIG_DFL:  # nobody else would end the process
            signal.signal(number, known)
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)
