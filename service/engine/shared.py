"""Work that is in flight for somebody else, or was done before, costs nothing: shared flights, and a cache."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol

from service.engine.errors import DeadlineExceeded
from service.engine.work import Call, Clock, In, Out


class Submit(Protocol[In, Out]):
    """A batcher's `submit`."""

    def __call__(self, calls: Sequence[Call[In, Out]], *, admitted: bool = False) -> None: ...


@dataclass(eq=False)
class _Flight(Generic[In, Out]):
    """A call on its way through the encoder, and how many requests wait for it."""

    call: Call[In, Out]
    future: asyncio.Future[list[Out]]
    waiters: int = 0


class Shared(Generic[In, Out]):
    """Runs calls through `submit`, each distinct one once. Belongs to one event loop."""

    def __init__(self, submit: Submit[In, Out], *, cache_size: int) -> None:
        self._submit = submit
        self._cache_size = cache_size
        self._cache: OrderedDict[Hashable, list[Out]] = OrderedDict()
        self._flights: dict[Hashable, _Flight[In, Out]] = {}
        self.hits = self.misses = self.shared = 0

    async def get(
        self,
        wanted: Mapping[Hashable, Callable[[], Call[In, Out]]],
        *,
        deadline: Clock | None,
        bulk: bool = False,
        admitted: bool = False,
    ) -> dict[Hashable, list[Out]]:
        """Results by key; a call is made only where its key is neither known nor in flight.

        Unless `bulk` itself, a request joins no flight that is: it would wait in the slow queue for being the second.

        Raises the engine's errors; a failure is not cached. When a request ends early, a call that nobody else waits
        for is withdrawn from the queue.
        """
        found: dict[Hashable, list[Out]] = {}
        joined: dict[Hashable, _Flight[In, Out]] = {}
        missing: dict[Hashable, Callable[[], Call[In, Out]]] = {}
        for key, make in wanted.items():
            flight = self._flights.get(key)
            if key in self._cache:
                self._cache.move_to_end(key)
                found[key] = self._cache[key]
            elif flight is not None and not flight.call.late and (bulk or not flight.call.bulk):
                joined[key] = flight
            else:
                missing[key] = make
        # First what may be refused, so that a refusal leaves nothing behind.
        flights = self._launch(missing, admitted) | joined
        self.hits, self.misses = self.hits + len(found), self.misses + len(missing)
        self.shared += len(joined)
        for flight in joined.values():
            known = flight.call.deadline
            flight.call.deadline = None if deadline is None or known is None else max(deadline, known)
        await self._wait(flights, deadline)
        return found | {key: flight.future.result() for key, flight in flights.items()}

    def _launch(
        self, missing: Mapping[Hashable, Callable[[], Call[In, Out]]], admitted: bool
    ) -> dict[Hashable, _Flight[In, Out]]:
        calls = {key: make() for key, make in missing.items()}
        self._submit(list(calls.values()), admitted=admitted)
        flights = {key: _Flight(call, asyncio.wrap_future(call.future)) for key, call in calls.items()}
        for key, flight in flights.items():
            self._flights[key] = flight
            flight.future.add_done_callback(partial(self._land, key, flight))
        return flights

    async def _wait(self, flights: dict[Hashable, _Flight[In, Out]], deadline: Clock | None) -> None:
        if not flights:
            return
        for flight in flights.values():
            flight.waiters += 1
        try:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            futures = [flight.future for flight in flights.values()]
            done, pending = await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for key, flight in flights.items():
                flight.waiters -= 1
                if not flight.waiters and not flight.future.done():
                    flight.future.cancel()
                    self._forget(key, flight)
        for future in done:
            future.result()
        if pending:
            raise DeadlineExceeded("the deadline passed while the encoder had the request")

    def _land(self, key: Hashable, flight: _Flight[In, Out], future: asyncio.Future[list[Out]]) -> None:
        self._forget(key, flight)
        if future.cancelled() or future.exception() is not None or not self._cache_size:
            return
        self._cache[key] = future.result()
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    def _forget(self, key: Hashable, flight: _Flight[In, Out]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
