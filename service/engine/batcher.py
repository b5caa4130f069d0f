"""One owner thread a tower: takes what waits, in batches of similar lengths, and never waits for a batch to fill.

While one batch runs the next one forms in the queue (text-embeddings-inference's queue.rs; no wait timer). The queue is
bounded; what is late or abandoned is dropped before it costs anything; an exception ends its own batch only.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic

from service.engine.errors import DeadlineExceeded, EngineFailed, Overloaded
from service.engine.work import Call, In, Out, Piece

logger = logging.getLogger(__name__)

_LOOKAHEAD = 512  # pieces looked at for a batch, so that forming one costs the same however long the queue is
_BEAT_S = 1.0
_SMOOTHING = 0.3  # weight of the last batch in the measured throughput
_MAX_RETRY_S = 600.0
_SHUTDOWN_RETRY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class BatchPolicy:
    """How batches are formed, in the pieces' sizes, and how the queue is bounded, in their costs."""

    max_padded: float
    """Longest piece times pieces, at most; a longer single piece runs alone."""
    max_pieces: int
    min_density: float
    """Share of a padded batch that is not padding, at least."""
    capacity: float
    """Most cost that may wait."""


@dataclass(frozen=True)
class BatcherStats:
    """What a worker did since it started, for metrics: costs wait and pass per second, sizes are padded and useful."""

    waiting: float
    batches: int
    pieces: int
    failed_batches: int
    padded: float
    useful: float
    per_second: float | None


class Batcher(Generic[In, Out]):
    """A bounded queue and the thread that empties it. `submit` is thread-safe.

    Args:
        run: a batch of payloads to as many results, on the worker's thread. An EngineFailed in place of a result
            fails that payload's call; raising fails every call of the batch.
        probe: a call of one payload that must work; run at the start, and while idle after failures until it does.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[In]], Sequence[Out | EngineFailed]],
        policy: BatchPolicy,
        *,
        probe: Call[In, Out],
    ) -> None:
        self._name = name
        self._run = run
        self._policy = policy
        (self._probe,) = probe.pieces
        self._queue: deque[Piece[In, Out]] = deque()
        self._waiting = 0.0
        self._changed = threading.Condition()
        self._stopping = self._dead = False
        self._beat = time.monotonic()
        self._failures_in_a_row = 0
        self._per_second: float | None = None
        self._batches = self._pieces = self._failed = 0
        self._padded = self._useful = 0.0
        self._thread = threading.Thread(target=self._work, name=f"clsp-{name}", daemon=True)

    def start(self) -> None:
        """Prove that the worker works, then begin. Raises what the probe raises."""
        self._timed([self._probe])
        self._per_second = None  # the first run also allocates
        self._timed([self._probe])
        self._thread.start()

    def stop(self) -> None:
        """Finish what was accepted, accept nothing more, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def healthy(self, *, timeout_s: float, max_failures: int) -> bool:
        """Thread alive, last heartbeat at most `timeout_s` ago, fewer than `max_failures` failed batches in a row."""
        alive = self._thread.is_alive() and time.monotonic() - self._beat < timeout_s
        return alive and self._failures_in_a_row < max_failures

    def submit(self, calls: Sequence[Call[In, Out]]) -> None:
        """Queue calls, all or none. Raises Overloaded where they find no room, EngineFailed when the worker is dead."""
        pieces = [piece for call in calls for piece in call.pieces]
        cost = sum(piece.cost for piece in pieces)
        with self._changed:
            if self._stopping:
                raise Overloaded(_SHUTDOWN_RETRY_S, "the service is shutting down")
            if self._dead or not self._thread.is_alive():
                raise EngineFailed(f"the {self._name} worker is not running")
            if cost > self._policy.capacity:
                # Told apart from a full queue, because trying again would never help.
                raise ValueError(f"{cost:g} at once, when {self._policy.capacity:g} may wait")
            excess = self._waiting + cost - self._policy.capacity
            if excess > 0:
                raise Overloaded(self._seconds_for(excess))
            self._queue.extend(pieces)
            self._waiting += cost
            self._changed.notify_all()

    def stats(self) -> BatcherStats:
        with self._changed:
            return BatcherStats(
                self._waiting, self._batches, self._pieces, self._failed, self._padded, self._useful, self._per_second
            )

    def _seconds_for(self, cost: float) -> float:
        if not self._per_second:
            return 1.0
        return min(_MAX_RETRY_S, max(1.0, math.ceil(cost / self._per_second)))

    def _work(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                if batch:
                    self._run_batch(batch)
                elif self._failures_in_a_row:
                    self._run_probe()
        finally:
            # Reached in an orderly stop with an empty queue, or when the thread is killed by what is no Exception.
            self._abandon()

    def _next_batch(self) -> list[Piece[In, Out]] | None:
        """The next pieces to run, none after an idle second, or None when all is done and the worker is stopping."""
        late: set[Call[In, Out]] = set()
        with self._changed:
            if not self._queue and not self._stopping:
                self._changed.wait(_BEAT_S)
            self._beat = time.monotonic()
            if not self._queue:
                return None if self._stopping else []
            alive: deque[Piece[In, Out]] = deque()
            for piece in self._queue:
                if piece.call.late:
                    late.add(piece.call)
                elif not piece.call.done:
                    alive.append(piece)
            batch = self._choose(alive)
            chosen = set(batch)
            self._queue = deque(piece for piece in alive if piece not in chosen)
            self._waiting = sum(piece.cost for piece in self._queue)
        for call in late:
            call.fail(DeadlineExceeded("the deadline passed while the request waited for the encoder"))
        return batch

    def _choose(self, waiting: deque[Piece[In, Out]]) -> list[Piece[In, Out]]:
        """The piece that waited longest, and those most like it in length, as far as the policy allows."""
        if not waiting:
            return []
        first, *others = islice(waiting, _LOOKAHEAD)
        batch, longest, useful = [first], first.size, first.size
        for piece in sorted(others, key=lambda piece: abs(piece.size - first.size)):
            padded = (len(batch) + 1) * max(longest, piece.size)
            if len(batch) == self._policy.max_pieces or padded > self._policy.max_padded:
                break
            if useful + piece.size < self._policy.min_density * padded:
                break
            batch.append(piece)
            longest, useful = max(longest, piece.size), useful + piece.size
        return batch

    def _run_batch(self, batch: Sequence[Piece[In, Out]]) -> None:
        calls = {piece.call for piece in batch}
        try:
            results = self._timed(batch)
        except Exception as error:  # whatever a runtime raises is this batch's failure, and no other's
            logger.exception("a batch of %d failed in the %s worker", len(batch), self._name)
            with self._changed:
                self._failed += 1
                self._failures_in_a_row += 1
            for call in calls:
                call.fail(EngineFailed(f"the {self._name} encoder failed: {type(error).__name__}"))
            return
        except BaseException:
            for call in calls:
                call.fail(EngineFailed(f"the {self._name} worker died"))
            raise
        with self._changed:
            self._batches += 1
            self._pieces += len(batch)
            self._padded += len(batch) * max(piece.size for piece in batch)
            self._useful += sum(piece.size for piece in batch)
            self._failures_in_a_row = 0
        for piece, result in zip(batch, results, strict=True):
            if isinstance(result, EngineFailed):
                piece.call.fail(result)
            else:
                piece.call.deliver(piece.place, result)

    def _timed(self, batch: Sequence[Piece[In, Out]]) -> Sequence[Out | EngineFailed]:
        """Run, and measure the throughput. Raises what `run` raises."""
        start = time.monotonic()
        results = self._run([piece.payload for piece in batch])
        if len(results) != len(batch):
            raise RuntimeError(f"{len(results)} results for {len(batch)} inputs")
        rate = sum(piece.cost for piece in batch) / max(1e-6, time.monotonic() - start)
        known = self._per_second
        self._per_second = rate if known is None else known + _SMOOTHING * (rate - known)
        return results

    def _run_probe(self) -> None:
        try:
            self._timed([self._probe])
        except Exception:
            logger.exception("the %s worker still fails at its probe", self._name)
        else:
            self._failures_in_a_row = 0

    def _abandon(self) -> None:
        with self._changed:
            self._dead = True
            left = {piece.call for piece in self._queue}
            self._queue.clear()
            self._waiting = 0.0
        for call in left:
            call.fail(EngineFailed(f"the {self._name} worker died"))
