"""One owner thread a tower: takes what waits, in batches of similar lengths, and never waits for a batch to fill.

While one batch runs the next one forms in the queue (text-embeddings-inference's queue.rs; no wait timer). What would
be late is refused on arrival; what became late or was abandoned is dropped before it costs anything; a batch that
raises is run again piece by piece, so that one bad input fails alone; a thread that dies answers for what it held.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic

from service.engine.admission import check_time, retry_after
from service.engine.errors import DeadlineExceeded, EngineFailed, Overloaded, WorkerDown
from service.engine.waiting import BatchPolicy, Waiting
from service.engine.work import Call, Clock, In, Out, Piece, WorkObserver

logger = logging.getLogger(__name__)

_BEAT_S: Final = 1.0
_SMOOTHING: Final = 0.3
"""Weight of the last batch in the measured throughput."""
_FAILURES_BEFORE_PROBE: Final = 3
_SHUTDOWN_RETRY_S: Final = 5.0


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
    deaths: int


class Batcher(Generic[In, Out]):
    """A bounded queue and the thread that empties it. `submit` and `check` are thread-safe.

    Args:
        run: a batch of payloads to as many results, on the worker's thread. An EngineFailed in place of a result
            fails that payload's call; raising makes the batch run again, one payload at a time.
        probe: a call of one payload that must work; run at the start, and after failures until it does.
        max_wait_s: an interactive call that would wait for longer is refused; bulk waits up to its deadline.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[In]], Sequence[Out | EngineFailed]],
        policy: BatchPolicy,
        *,
        probe: Call[In, Out],
        max_wait_s: float = math.inf,
        observer: WorkObserver | None = None,
    ) -> None:
        self._name, self._run, self._policy = name, run, policy
        self._max_wait_s, self._observer = max_wait_s, observer
        (self._probe,) = probe.pieces
        self._waiting: Waiting[In, Out] = Waiting(policy)
        self._running: Sequence[Piece[In, Out]] = ()
        self._changed = threading.Condition()
        self._stopping = self._down = False
        self._beat = time.monotonic()
        self._failures_in_a_row = self._deaths = 0
        self._per_second: float | None = None
        self._batches = self._pieces = self._failed = 0
        self._padded = self._useful = 0.0
        self._thread = self._new_thread()

    def start(self) -> None:
        """Prove that the worker works, then begin. Raises what the probe raises."""
        self._timed([self._probe])
        self._per_second = None  # the first run also allocates
        self._timed([self._probe])
        self._thread.start()

    def restart(self) -> None:
        """A new thread in a dead one's place. It is healthy once the probe has worked on it; the queue is kept."""
        if not self._stopping and not self._thread.is_alive():
            self._thread = self._new_thread()
            self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Finish what was accepted, accept nothing more, end the thread; what is left after `timeout_s` fails."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self.abandon()

    def abandon(self) -> None:
        """Fail whatever waits or runs, so that no caller hangs."""
        with self._changed:
            left = self._waiting.clear() | {piece.call for piece in self._running}
        for call in left:
            call.fail(EngineFailed(f"the {self._name} worker died"))

    @property
    def alive(self) -> bool:
        """Whether the thread runs, or has ended because it was asked to."""
        return self._stopping or self._thread.is_alive()

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._waiting) or bool(self._running)

    @property
    def deaths(self) -> int:
        """How often the thread died."""
        return self._deaths

    def healthy(self, *, timeout_s: float, max_failures: int) -> bool:
        """Thread alive, last heartbeat at most `timeout_s` ago, fewer than `max_failures` failures in a row."""
        alive = self._thread.is_alive() and not self._down and time.monotonic() - self._beat < timeout_s
        return alive and self._failures_in_a_row < max_failures

    def check(
        self, cost: float = 0.0, *, deadline: Clock | None = None, bulk: bool = False, admitted: bool = False
    ) -> None:
        """Whether work of this cost would be accepted now: nothing is queued, so that it can be asked before decoding.

        `admitted` work belongs to a request that is under way, whose own wait is bounded by its deadline alone. Raises
        Overloaded, DeadlineExceeded when even an idle worker would be late, WorkerDown, and ValueError for more than
        could ever wait.
        """
        with self._changed:
            self._check(cost, deadline=deadline, bulk=bulk, admitted=admitted)

    def submit(self, calls: Sequence[Call[In, Out]], *, admitted: bool = False) -> None:
        """Queue calls of one request, all or none. Raises as `check` does."""
        if not calls:
            return
        with self._changed:
            cost = sum(call.cost for call in calls)
            self._check(cost, deadline=calls[0].deadline, bulk=calls[0].bulk, admitted=admitted)
            self._waiting.add(calls)
            self._changed.notify_all()

    def stats(self) -> BatcherStats:
        """Counters so far."""
        with self._changed:
            done = (self._batches, self._pieces, self._failed, self._padded, self._useful)
            return BatcherStats(self._waiting.cost, *done, self._per_second, self._deaths)

    def _check(self, cost: float, *, deadline: Clock | None, bulk: bool, admitted: bool) -> None:
        if self._stopping:
            raise Overloaded(_SHUTDOWN_RETRY_S, "the service is shutting down")
        if self._down or not self._thread.is_alive():
            raise WorkerDown(f"the {self._name} worker is not running")
        room = self._policy.room(bulk=bulk)
        if cost > room:
            # Told apart from a full queue, because trying again would never help.
            raise ValueError(f"{cost:g} at once, when {room:g} may wait")
        excess = self._waiting.cost + cost - room
        if excess > 0:
            raise Overloaded(retry_after(excess / self._per_second) if self._per_second else 1.0)
        # A batch that runs is not waited for: the next one, which this call may join, forms meanwhile.
        if self._per_second and self._waiting:
            unbounded = bulk or admitted
            check_time(
                cost=cost,
                ahead=self._waiting.ahead(bulk=bulk) + sum(piece.cost for piece in self._running),
                per_second=self._per_second,
                left_s=math.inf if deadline is None else deadline - time.monotonic(),
                max_wait_s=math.inf if unbounded else self._max_wait_s,
            )

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._work, name=f"clsp-{self._name}", daemon=True)

    def _work(self) -> None:
        try:
            if self._down:
                self._run_probe()
            while (batch := self._next_batch()) is not None:
                if batch:
                    self._run_batch(batch)
                elif self._failures_in_a_row or self._down:
                    self._run_probe()
        except BaseException:
            # What is no Exception ends a thread. The supervisor starts another; what waits is kept for it.
            self._down = True
            self._deaths += 1
            logger.exception("the %s worker died", self._name)
            for piece in self._running:
                piece.call.fail(EngineFailed(f"the {self._name} worker died"))
        finally:
            self._running = ()

    def _next_batch(self) -> Sequence[Piece[In, Out]] | None:
        """The next pieces to run, none after an idle second, or None when all is done and the worker is stopping."""
        with self._changed:
            self._running = ()
            if not self._waiting and not self._stopping:
                self._changed.wait(_BEAT_S)
            self._beat = time.monotonic()
            if not self._waiting:
                return None if self._stopping else []
            batch, late = self._waiting.take()
            self._running = batch
        for call in late:
            call.fail(_late())
        return batch

    def _run_batch(self, batch: Sequence[Piece[In, Out]]) -> None:
        if self._observer is not None:
            now = time.monotonic()
            for piece in batch:
                self._observer.waited(self._name, now - piece.call.made, bulk=piece.call.bulk)
        try:
            results = self._timed(batch)
        except Exception as error:  # whatever a runtime raises is its inputs' failure, and nobody else's
            logger.exception("a batch of %d failed in the %s worker", len(batch), self._name)
            self._failed += 1
            self._failures_in_a_row += 1
            if len(batch) == 1:
                self._fail(batch[0], error)
                if self._failures_in_a_row >= _FAILURES_BEFORE_PROBE:
                    self._run_probe()
            else:
                self._run_one_by_one(batch)
            return
        self._failures_in_a_row = 0
        self._deliver(batch, results)

    def _run_one_by_one(self, batch: Sequence[Piece[In, Out]]) -> None:
        """Find out whose fault it was. When several in a row fail, the probe tells bad inputs from a broken encoder."""
        since_success = 0
        for number, piece in enumerate(batch):
            self._beat = time.monotonic()
            if piece.call.done:
                continue
            if piece.call.late:
                piece.call.fail(_late())
                continue
            try:
                results = self._timed([piece])
            except Exception as error:
                self._fail(piece, error)
                self._failures_in_a_row += 1
                since_success += 1
                if since_success >= _FAILURES_BEFORE_PROBE and not self._run_probe():
                    for rest in batch[number + 1 :]:
                        self._fail(rest, error)
                    return
            else:
                self._failures_in_a_row = since_success = 0
                self._deliver([piece], results)

    def _fail(self, piece: Piece[In, Out], error: Exception) -> None:
        piece.call.fail(EngineFailed(f"the {self._name} encoder failed: {type(error).__name__}"))

    def _deliver(self, batch: Sequence[Piece[In, Out]], results: Sequence[Out | EngineFailed]) -> None:
        for piece, result in zip(batch, results, strict=True):
            if isinstance(result, EngineFailed):
                piece.call.fail(result)
            else:
                piece.call.deliver(piece.place, result)

    def _timed(self, batch: Sequence[Piece[In, Out]]) -> Sequence[Out | EngineFailed]:
        """Run, and measure. Raises what `run` raises."""
        start = time.monotonic()
        results = self._run([piece.payload for piece in batch])
        if len(results) != len(batch):
            raise RuntimeError(f"{len(results)} results for {len(batch)} inputs")
        seconds = max(1e-6, time.monotonic() - start)
        rate = sum(piece.cost for piece in batch) / seconds
        known = self._per_second
        self._down = False
        self._per_second = rate if known is None else known + _SMOOTHING * (rate - known)
        if batch[0] is not self._probe:
            padded, useful = len(batch) * max(piece.size for piece in batch), sum(piece.size for piece in batch)
            self._batches += 1
            self._pieces += len(batch)
            self._padded += padded
            self._useful += useful
            if self._observer is not None:
                self._observer.ran(self._name, seconds, pieces=len(batch), padded=padded, useful=useful)
        return results

    def _run_probe(self) -> bool:
        try:
            self._timed([self._probe])
        except Exception:
            logger.exception("the %s worker still fails at its probe", self._name)
            return False
        self._failures_in_a_row = 0
        return True


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed while the request waited for the encoder")
