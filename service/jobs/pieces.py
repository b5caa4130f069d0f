"""What a running job passes from hand to hand, and how much of it may be on its way at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from index.types import NewItem
from service.jobs.records import Entry

T = TypeVar("T")


@dataclass(frozen=True)
class Finished:
    """An entry that only has to be written down: an item to store, a reason why not, or what it was found to be."""

    entry: Entry
    item: NewItem | None = None
    reason: dict[str, Any] | None = None
    outcome: str = ""
    existed: bool = False
    encoded_s: float = 0.0
    """Seconds that went through the encoder for it; 0 where nothing did."""
    held_s: float = 0.0
    """Seconds of the budget that it holds until it is written down."""


class Budget:
    """Bounds seconds of audio on their way. A clip longer than all of it goes alone, so that none waits for ever."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._used = 0.0
        self._freed = asyncio.Condition()

    async def acquire(self, seconds: float) -> None:
        """Wait until there is room."""
        async with self._freed:
            await self._freed.wait_for(lambda: not self._used or self._used + seconds <= self._most)
            self._used += seconds

    async def release(self, seconds: float) -> None:
        """Make room."""
        async with self._freed:
            self._used = max(0.0, self._used - seconds)
            if self._used < 1e-6:
                self._used = 0.0
            self._freed.notify_all()


class Recent(Generic[T]):
    """The latest values by key, a bounded number of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[str, T] = OrderedDict()

    def get(self, key: str) -> T | None:
        """A value that was put not long ago."""
        return self._values.get(key)

    def put(self, key: str, value: T) -> None:
        """Keep a value, and let the oldest go."""
        self._values[key] = value
        while len(self._values) > self._most:
            self._values.popitem(last=False)
