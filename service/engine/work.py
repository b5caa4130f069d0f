"""What callers wait for and workers do: a call is a few pieces of work that succeed or fail together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

Clock = float
"""Seconds on `time.monotonic()`'s clock."""


class Call(Generic[In, Out]):
    """Several payloads, one future of their results in order. Made by a caller, finished by one worker thread.

    Args:
        sizes: each payload's length, which decides what is batched together.
        cost: what each payload counts for in the bounded queue; its size when None.
        deadline: may be moved by the caller while the call waits; None never passes.
        bulk: nobody looks at the clock for it, so that interactive calls go first.
    """

    def __init__(
        self,
        payloads: Sequence[In],
        sizes: Sequence[float],
        *,
        cost: float | None = None,
        deadline: Clock | None = None,
        bulk: bool = False,
    ) -> None:
        self.future: Future[list[Out]] = Future()
        self.deadline = deadline
        self.bulk = bulk
        self.made = time.monotonic()
        self.pieces = [
            Piece(self, place, payload, size, size if cost is None else cost)
            for place, (payload, size) in enumerate(zip(payloads, sizes, strict=True))
        ]
        self._results: dict[int, Out] = {}

    @property
    def cost(self) -> float:
        """What all pieces count for together."""
        return sum(piece.cost for piece in self.pieces)

    @property
    def done(self) -> bool:
        """Whether nobody waits any more: finished, failed, or cancelled by the caller."""
        return self.future.done()

    @property
    def late(self) -> bool:
        """Whether its deadline has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def deliver(self, place: int, result: Out) -> None:
        """Hand over one result; the last one ends the call."""
        self._results[place] = result
        if len(self._results) == len(self.pieces):
            # The caller may cancel between any check and this line.
            with suppress(InvalidStateError):
                self.future.set_result([self._results[i] for i in range(len(self.pieces))])

    def fail(self, error: Exception) -> None:
        """End the call with an error, unless it has ended."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(eq=False, frozen=True)
class Piece(Generic[In, Out]):
    """One input of a batch. `size` is its length (seconds of audio, characters), `cost` its share of the queue."""

    call: Call[In, Out]
    place: int
    payload: In
    size: float
    cost: float


class WorkObserver(Protocol):
    """Who is told of what workers do, on their threads: metrics, where there are any. Must be quick and not raise."""

    def waited(self, worker: str, seconds: float, *, bulk: bool) -> None:
        """A piece waited this long before it ran."""

    def ran(self, worker: str, seconds: float, *, pieces: int, padded: float, useful: float) -> None:
        """A batch took this long; `padded` is its size with padding, `useful` without."""
