"""Whose clip is decoded when: long ones and bulk hold up nobody, who would wait too long is told, late work ends."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from service.audio.limits import AudioLimits
from service.engine import DeadlineExceeded, Overloaded
from service.settings import Settings
from service.usecases.decode_pool import Decoding
from tests.support.http import clip

PATIENCE = 20.0


def run(scenario: Callable[[Decoding], Awaitable[None]], **options: float) -> None:
    async def main() -> None:
        await scenario(Decoding(Settings(decode_workers=1, **options), AudioLimits()))

    asyncio.run(main())


def soon(seconds: float = PATIENCE) -> float:
    return time.monotonic() + seconds


class Held:
    """Bytes that are not there until they are let go."""

    def __init__(self, data: bytes) -> None:
        self.begun, self.go, self._data = threading.Event(), threading.Event(), data

    def __call__(self) -> bytes:
        self.begun.set()
        assert self.go.wait(PATIENCE)
        return self._data


@pytest.mark.parametrize("why", ["bulk", "long"])
def test_a_short_clip_does_not_wait_for_long_ones_and_bulk(why: str) -> None:
    async def scenario(decoding: Decoding) -> None:
        held = Held(clip(1.0))
        bulk = asyncio.create_task(decoding.decode(held, deadline=soon(), bulk=True))
        await asyncio.to_thread(held.begun.wait, PATIENCE)
        waits = []
        if why == "long":
            waits = [asyncio.create_task(decoding.decode(lambda: clip(9.0), deadline=soon())) for _ in range(3)]
        short, data = await decoding.decode(lambda: clip(1.0), deadline=soon())
        assert (short.duration_s, data) == (1.0, clip(1.0))
        assert not any(one.done() for one in [bulk, *waits])
        held.go.set()
        assert [(await one)[0].duration_s for one in [bulk, *waits]] == [1.0] + [9.0] * len(waits)

    run(scenario, bulk_audio_s=1.0)


def test_who_would_wait_too_long_is_told_before_anything_is_read() -> None:
    async def scenario(decoding: Decoding) -> None:
        decoding.check(deadline=soon())
        held = Held(clip(1.0))
        first = asyncio.create_task(decoding.decode(held, deadline=soon()))
        await asyncio.to_thread(held.begun.wait, PATIENCE)
        await asyncio.sleep(0.1)
        held.go.set()
        await first
        decoding.check(deadline=soon())
        held = Held(clip(1.0))
        second = asyncio.create_task(decoding.decode(held, deadline=soon()))
        await asyncio.to_thread(held.begun.wait, PATIENCE)
        with pytest.raises(Overloaded, match="can wait for") as caught:
            decoding.check(deadline=soon())
        assert caught.value.retry_after_s == 1.0
        decoding.check(deadline=soon(), bulk=True)
        held.go.set()
        await second
        decoding.check(deadline=soon())

    run(scenario, max_wait_s=0.01)


@pytest.mark.parametrize("bulk", [False, True])
def test_a_deadline_ends_decoding_in_the_middle(bulk: bool) -> None:
    async def scenario(decoding: Decoding) -> None:
        deadline = soon(0.05)

        def read() -> bytes:
            time.sleep(max(0.0, deadline - time.monotonic()))
            return clip(9.0)

        with pytest.raises(DeadlineExceeded, match="while the clip was decoded"):
            await decoding.decode(read, deadline=deadline, bulk=bulk)
        with pytest.raises(DeadlineExceeded, match="before the clip was decoded"):
            await decoding.decode(read, deadline=deadline, bulk=bulk)

    run(scenario)
