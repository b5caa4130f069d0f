"""A running engine on the bundle that ships, and how tests hold and kill its workers."""

import asyncio
import ctypes
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np

from service.engine import Engine
from service.settings import Settings
from tests.support.audio_files import voice

SETTINGS = Settings(threads=1)
Scenario = Callable[[Engine], Awaitable[None]]


@asynccontextmanager
async def running(settings: Settings = SETTINGS) -> AsyncIterator[Engine]:
    engine = Engine(settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def run(scenario: Scenario, settings: Settings = SETTINGS) -> None:
    async def main() -> None:
        async with running(settings) as engine:
            await scenario(engine)

    asyncio.run(main())


def clip(seconds: float, seed: int = 0) -> np.ndarray:
    return voice(seconds, seed=seed)[:, 0].astype(np.float32)


def pause_worker(engine: Engine, name: str) -> tuple[threading.Event, threading.Event]:
    """Make the next call of the runtime's `name` wait: (it has begun, let it go on)."""
    begun, go = threading.Event(), threading.Event()
    original = getattr(engine.runtime, name)

    def paused(batch: Sequence[object]) -> object:
        begun.set()
        assert go.wait(20)
        return original(batch)

    setattr(engine.runtime, name, paused)
    return begun, go


def kill_speech_worker(engine: Engine) -> None:
    """End its thread by an exception that nothing catches, wherever it is."""
    assert engine._speech is not None
    thread = ctypes.c_ulong(engine._speech._thread.ident or 0)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))
