"""Hears that the process is asked to stop, before the server has closed its connections."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


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

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)
