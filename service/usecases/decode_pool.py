"""Threads that decode: long clips and bulk have theirs, short ones theirs, and nobody waits longer than is said."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from service.audio.decode import Clip, decode
from service.audio.limits import AudioLimits
from service.core.threads import in_thread
from service.engine import DeadlineExceeded, check_time
from service.settings import Settings

T = TypeVar("T")
FETCHES: Final = 8
"""Clips by URL on their way or fetched and not yet decoded, at one time: each may be as large as a clip may be."""
_SMOOTHING: Final = 0.3
"""Weight of the last clip in the measured time of one."""
_LONG_SAMPLES_A_SECOND: Final = 2 * 48_000
"""What decodes as long as `bulk_audio_s` of studio sound lets others go first."""


class _LongClipError(Exception):
    """A clip that is in the wrong lane."""


class Decoding:
    """Reads and decodes the clips of requests. Belongs to one event loop.

    How long a clip is, its header says, or decoding it: it begins among the short ones, and begins anew among the long
    ones when it turns out to be one of those.
    """

    def __init__(self, settings: Settings, limits: AudioLimits) -> None:
        self._limits, self._max_wait_s = limits, settings.max_wait_s
        self._long_samples = settings.bulk_audio_s * _LONG_SAMPLES_A_SECOND
        self._short = _Lane("clsp-decode", settings.decode_workers)
        self._long = _Lane("clsp-decode-long", max(1, settings.decode_workers // 2))
        self._fetching = ThreadPoolExecutor(FETCHES, "clsp-fetch")
        self._fetches = asyncio.Semaphore(FETCHES)

    def check(self, *, deadline: float, bulk: bool = False) -> None:
        """Raise Overloaded where a clip that came now would wait too long: ask before it is read."""
        if bulk:
            self._long.check(deadline=deadline)
        else:
            self._short.check(deadline=deadline, max_wait_s=self._max_wait_s)

    async def decode(
        self, read: Callable[[], bytes], *, deadline: float, remote: bool = False, bulk: bool = False
    ) -> tuple[Clip, bytes]:
        """A clip and its bytes. `read` is called once, in a thread; `remote` where it waits for another machine.

        When the deadline passes or the caller leaves, decoding ends in the middle. Raises AudioError, and
        DeadlineExceeded.
        """
        if not remote:
            return await self._decode(read, deadline=deadline, bulk=bulk)
        async with self._fetches:
            data = await in_thread(lambda: _in_time(read, deadline), self._fetching)
            return await self._decode(lambda: data, deadline=deadline, bulk=bulk)

    async def _decode(self, read: Callable[[], bytes], *, deadline: float, bulk: bool) -> tuple[Clip, bytes]:
        gone = threading.Event()
        data: bytes | None = None

        def work(most: float) -> tuple[Clip, bytes]:
            nonlocal data

            def watch(samples: int) -> None:
                if samples > most:
                    raise _LongClipError
                if gone.is_set() or time.monotonic() > deadline:
                    raise DeadlineExceeded("the deadline passed while the clip was decoded")

            if data is None:
                data = _in_time(read, deadline)
            return decode(data, self._limits, watch=watch), data

        try:
            if not bulk:
                try:
                    return await self._short.run(lambda: work(self._long_samples))
                except _LongClipError:
                    self._long.check(deadline=deadline)
            return await self._long.run(lambda: work(float("inf")))
        finally:
            gone.set()


class _Lane:
    """Threads of one kind of clips, first come first served, and how long one that comes now would wait for them."""

    def __init__(self, name: str, threads: int) -> None:
        self._threads, self._count = ThreadPoolExecutor(threads, name), threads
        self._callers = 0
        self._clip_s = 0.0

    def check(self, *, deadline: float, max_wait_s: float = float("inf")) -> None:
        ahead = self._callers - self._count + 1
        if ahead > 0 and self._clip_s:
            left_s = deadline - time.monotonic()
            check_time(cost=0, ahead=ahead, per_second=self._count / self._clip_s, left_s=left_s, max_wait_s=max_wait_s)

    async def run(self, call: Callable[[], T]) -> T:
        def timed() -> T:
            began = time.monotonic()
            try:
                return call()
            finally:
                self._clip_s += _SMOOTHING * (time.monotonic() - began - self._clip_s)

        self._callers += 1
        try:
            return await in_thread(timed, self._threads)
        finally:
            self._callers -= 1


def _in_time(read: Callable[[], bytes], deadline: float) -> bytes:
    if time.monotonic() > deadline:
        raise DeadlineExceeded("the deadline passed before the clip was decoded")
    return read()
