"""An encoder that tests can hold, break and kill, and the few words that tests of its worker share."""

import threading
import time
from collections.abc import Callable, Sequence

from service.engine.batcher import Batcher
from service.engine.errors import EngineFailed
from service.engine.waiting import BatchPolicy
from service.engine.work import Call

POLICY = BatchPolicy(max_padded=40.0, max_pieces=4, min_density=0.9, capacity=100.0)
PATIENCE = 10.0


class Encoder:
    """Squares numbers, writes down its batches, and can be held, made to fail and made to die."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.free = threading.Event()
        self.free.set()
        self.busy = threading.Event()
        self.broken = False

    def __call__(self, batch: Sequence[float]) -> list[float | EngineFailed]:
        self.busy.set()
        assert self.free.wait(PATIENCE)
        self.batches.append(list(batch))
        if 666 in batch:
            raise ArithmeticError("poisoned")
        if 999 in batch:
            raise SystemExit
        if self.broken:
            raise OSError("device lost")
        return [EngineFailed("not a number") if value == 13 else value**2 for value in batch]


def call(*values: float, size: float | None = None, deadline: float | None = None) -> Call[float, float]:
    return Call(list(values), [size or value for value in values], deadline=deadline)


def hold(encoder: Encoder, worker: Batcher[float, float]) -> Call[float, float]:
    """Keep the worker inside a batch, so that what follows waits together."""
    encoder.free.clear()
    encoder.busy.clear()
    first = call(1.0)
    worker.submit([first])
    assert encoder.busy.wait(PATIENCE)
    return first


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)
