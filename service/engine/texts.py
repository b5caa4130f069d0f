"""A text that was embedded before, or is being embedded for somebody else, costs nothing: cache and shared flights."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.engine.errors import DeadlineExceeded
from service.engine.work import Call, Clock


@dataclass(frozen=True)
class TextEmbedding:
    """A text's vector, float32 [D], unit; `tokens` before truncation."""

    vector: NDArray[np.float32]
    tokens: int
    truncated: bool


TextCall = Call[str, TextEmbedding]


@dataclass(eq=False)
class _Flight:
    """A text on its way through the encoder, and how many requests wait for it."""

    call: TextCall
    future: asyncio.Future[list[TextEmbedding]]
    waiters: int = 0


class SharedTexts:
    """Embeds texts through `submit`, each distinct one once. Belongs to one event loop."""

    def __init__(self, submit: Callable[[Sequence[TextCall]], None], *, cache_size: int) -> None:
        self._submit = submit
        self._cache_size = cache_size
        self._cache: OrderedDict[str, TextEmbedding] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        self.hits = self.misses = self.shared = 0

    async def get(self, texts: Sequence[str], *, deadline: Clock | None) -> list[TextEmbedding]:
        """Embeddings in the order of `texts`. Raises the engine's errors; a failure is not cached.

        When a request ends early, a text that nobody else waits for is withdrawn from the queue.
        """
        found: dict[str, TextEmbedding] = {}
        joined: dict[str, _Flight] = {}
        missing: list[str] = []
        for text in dict.fromkeys(texts):
            flight = self._flights.get(text)
            if text in self._cache:
                self._cache.move_to_end(text)
                found[text] = self._cache[text]
            elif flight is not None and not flight.call.late:
                joined[text] = flight
            else:
                missing.append(text)
        # First what may be refused, so that a refusal leaves nothing behind.
        flights = self._launch(missing, deadline) | joined
        self.hits, self.misses = self.hits + len(found), self.misses + len(missing)
        self.shared += len(joined)
        for flight in joined.values():
            known = flight.call.deadline
            flight.call.deadline = None if deadline is None or known is None else max(deadline, known)
        await self._wait(flights, deadline)
        for text, flight in flights.items():
            (found[text],) = flight.future.result()
        return [found[text] for text in texts]

    def _launch(self, texts: Sequence[str], deadline: Clock | None) -> dict[str, _Flight]:
        if not texts:
            return {}
        calls = [TextCall([text], [len(text)], cost=1.0, deadline=deadline) for text in texts]
        self._submit(calls)
        flights = {
            text: _Flight(call, asyncio.wrap_future(call.future)) for text, call in zip(texts, calls, strict=True)
        }
        for text, flight in flights.items():
            self._flights[text] = flight
            flight.future.add_done_callback(partial(self._land, text, flight))
        return flights

    async def _wait(self, flights: dict[str, _Flight], deadline: Clock | None) -> None:
        if not flights:
            return
        for flight in flights.values():
            flight.waiters += 1
        try:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            futures = [flight.future for flight in flights.values()]
            done, pending = await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for text, flight in flights.items():
                flight.waiters -= 1
                if not flight.waiters and not flight.future.done():
                    flight.future.cancel()
                    self._forget(text, flight)
        for future in done:
            future.result()
        if pending:
            raise DeadlineExceeded("the deadline passed while texts were being embedded")

    def _land(self, text: str, flight: _Flight, future: asyncio.Future[list[TextEmbedding]]) -> None:
        self._forget(text, flight)
        if future.cancelled() or future.exception() is not None:
            return
        (self._cache[text],) = future.result()
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    def _forget(self, text: str, flight: _Flight) -> None:
        if self._flights.get(text) is flight:
            del self._flights[text]
