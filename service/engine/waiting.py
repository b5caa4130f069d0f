"""What waits for a worker: bounded, interactive before bulk, similar lengths together, nothing kept for nobody.

Not thread-safe: its worker's lock guards it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic

from service.engine.work import Call, In, Out, Piece

BULK_TURN: Final = 4
"""Where both wait, every fifth batch is bulk's: it goes on, however long others keep coming."""
BULK_SHARE: Final = 0.9
"""Of the room to wait in, what bulk may fill: interactive calls find the rest, however much bulk comes."""
_LOOKAHEAD: Final = 512
"""Pieces looked at for a batch, so that forming one costs the same however long the queue is."""
_SWEEP_S: Final = 0.5
"""How often the whole queue is searched for work that is late or that nobody waits for."""


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

    def room(self, *, bulk: bool) -> float:
        """The same for a call of this kind, with all that waits already."""
        return BULK_SHARE * self.capacity if bulk else self.capacity


class Waiting(Generic[In, Out]):
    """Two queues, interactive and bulk, that batches are taken from."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._queues: dict[bool, deque[Piece[In, Out]]] = {False: deque(), True: deque()}
        self._costs = {False: 0.0, True: 0.0}
        self._interactive_in_a_row = 0
        self._swept = time.monotonic()

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    @property
    def cost(self) -> float:
        """All that waits."""
        return max(0.0, sum(self._costs.values()))

    def ahead(self, *, bulk: bool) -> float:
        """What would run before a call that came now. For an interactive one that is its own kind and bulk's turns."""
        if bulk:
            return self.cost
        mine = max(0.0, self._costs[False])
        return mine + min(self._costs[True], mine / BULK_TURN)

    def add(self, calls: Iterable[Call[In, Out]]) -> None:
        """Put calls at the end of their queues."""
        for call in calls:
            self._queues[call.bulk].extend(call.pieces)
            self._costs[call.bulk] += call.cost

    def take(self) -> tuple[list[Piece[In, Out]], set[Call[In, Out]]]:
        """A batch, empty where nothing waits, and calls that were dropped because they are late.

        The batch is the piece that waited longest and those most like it in length, as far as the policy allows.
        """
        late: set[Call[In, Out]] = set()
        if time.monotonic() - self._swept > _SWEEP_S:
            self._swept = time.monotonic()
            for bulk in (False, True):
                self._set(bulk, self._alive(self._queues[bulk], late))
        order = (True, False) if self._interactive_in_a_row >= BULK_TURN else (False, True)
        for bulk in order:
            if batch := self._take_from(bulk, late):
                bulk_waits = bool(self._queues[True])
                self._interactive_in_a_row = 0 if bulk or not bulk_waits else self._interactive_in_a_row + 1
                return batch, late
        return [], late

    def clear(self) -> set[Call[In, Out]]:
        """Empty both queues; returns whose calls were in them."""
        left = {piece.call for queue in self._queues.values() for piece in queue}
        for bulk in (False, True):
            self._set(bulk, [])
        return left

    def _set(self, bulk: bool, pieces: Iterable[Piece[In, Out]]) -> None:
        self._queues[bulk] = deque(pieces)
        self._costs[bulk] = sum(piece.cost for piece in self._queues[bulk])

    def _alive(self, pieces: Iterable[Piece[In, Out]], late: set[Call[In, Out]]) -> list[Piece[In, Out]]:
        kept = []
        for piece in pieces:
            if piece.call.done:
                continue
            if piece.call.late:
                late.add(piece.call)
            else:
                kept.append(piece)
        return kept

    def _take_from(self, bulk: bool, late: set[Call[In, Out]]) -> list[Piece[In, Out]]:
        queue = self._queues[bulk]
        seen: list[Piece[In, Out]] = []
        while queue and len(seen) < _LOOKAHEAD:
            looked_at = [queue.popleft() for _ in range(min(len(queue), _LOOKAHEAD - len(seen)))]
            alive = self._alive(looked_at, late)
            seen += alive
            self._costs[bulk] += sum(piece.cost for piece in alive) - sum(piece.cost for piece in looked_at)
        batch = self._choose(seen)
        chosen = set(batch)
        queue.extendleft(piece for piece in reversed(seen) if piece not in chosen)
        self._costs[bulk] = self._costs[bulk] - sum(piece.cost for piece in batch) if queue else 0.0
        return batch

    def _choose(self, waiting: list[Piece[In, Out]]) -> list[Piece[In, Out]]:
        if not waiting or self._policy.max_pieces == 1:
            return waiting[:1]
        first, *others = waiting
        batch, longest, useful = [first], first.size, first.size
        # Lengths that the policy takes for alike keep their order: nobody waits for being a little longer.
        alike = max(1e-9, (1.0 - self._policy.min_density) * first.size)
        for piece in sorted(others, key=lambda piece: abs(piece.size - first.size) // alike):
            padded = (len(batch) + 1) * max(longest, piece.size)
            if len(batch) == self._policy.max_pieces or padded > self._policy.max_padded:
                break
            if useful + piece.size < self._policy.min_density * padded:
                break
            batch.append(piece)
            longest, useful = max(longest, piece.size), useful + piece.size
        return batch
