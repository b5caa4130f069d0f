"""Whether work that comes now can be done in time: said on arrival, from the throughput that was measured."""

from __future__ import annotations

import math
from typing import Final

from service.engine.errors import DeadlineExceeded, Overloaded

HOPELESS: Final = 2.0
"""An estimate is rough: a call is refused for its own size only when it would take this many times its time."""
_MAX_RETRY_S: Final = 600.0


def check_time(*, cost: float, ahead: float, per_second: float, left_s: float, max_wait_s: float) -> None:
    """Refuse what would be late.

    Args:
        cost, ahead: of the call and of what runs before it, in the queue's unit; `per_second` of it are done.
        left_s: seconds until the call's deadline.
        max_wait_s: longest wait that the call may be asked for, whatever its deadline.

    Raises Overloaded where it would have to wait too long, DeadlineExceeded where even an idle worker would be late.
    """
    alone = cost / per_second
    if alone > HOPELESS * left_s:
        raise DeadlineExceeded(f"this takes about {alone:.1f} s here; the deadline is in {max(0.0, left_s):.1f} s")
    wait = ahead / per_second
    most = max(0.0, min(left_s - alone, max_wait_s))
    if wait > most:
        detail = f"the queue is about {wait:.1f} s long, and this request can wait for {most:.1f} s"
        raise Overloaded(retry_after(wait - most), detail)


def retry_after(seconds: float) -> float:
    """Whole seconds for a Retry-After header."""
    return min(_MAX_RETRY_S, max(1.0, math.ceil(seconds)))
