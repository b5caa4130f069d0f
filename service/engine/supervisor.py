"""Watches the workers: brings a dead one back, and gives the process up when the encoders stay broken.

After a burst of work it also has memory given back, while nobody waits for it.

A server whose worker is gone while its health says otherwise leaves callers hanging; one that can't recover must end,
so that whoever started it starts it again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

logger = logging.getLogger(__name__)

_LOOK_S: Final = 0.1
_MAX_DEATHS: Final = 5
"""Deaths of one worker after which the next is not survived: something kills it every time."""


class Watched(Protocol):
    """A worker as its supervisor sees it."""

    @property
    def alive(self) -> bool: ...
    @property
    def deaths(self) -> int: ...
    def restart(self) -> None: ...
    def abandon(self) -> None: ...


class Supervisor:
    """A thread that looks at workers ten times a second.

    Args:
        healthy: whether all of them can work; told by the same rule as readiness.
        on_fatal: called once, with the reason, when a worker died too often or health stayed away for `give_up_s`.
        pause_s: from a death to the restart, so that a worker which dies at once does not spin.
        idle: whether nothing waits or runs; once it has been true for `idle_s` after work, `on_idle` is called.
    """

    def __init__(
        self,
        workers: Sequence[Watched],
        healthy: Callable[[], bool],
        *,
        on_fatal: Callable[[str], None],
        give_up_s: float,
        pause_s: float = 1.0,
        idle: Callable[[], bool] = lambda: False,
        on_idle: Callable[[], None] = lambda: None,
        idle_s: float = 2.0,
    ) -> None:
        self._workers, self._healthy, self._on_fatal = workers, healthy, on_fatal
        self._give_up_s, self._pause_s = give_up_s, pause_s
        self._idle, self._on_idle, self._idle_s = idle, on_idle, idle_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="clsp-supervisor", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. Call it before the workers are stopped."""
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        last_healthy = worked = time.monotonic()
        tidy = False
        while not self._stopped.wait(_LOOK_S):
            if self._healthy():
                last_healthy = time.monotonic()
                if not self._idle():
                    worked, tidy = last_healthy, False
                elif not tidy and last_healthy - worked > self._idle_s:
                    self._on_idle()
                    tidy = True
                continue
            reason = self._revive()
            if time.monotonic() - last_healthy > self._give_up_s:
                reason = f"the encoders have not worked for {self._give_up_s:g} s"
            if reason:
                self._give_up(reason)
                return

    def _revive(self) -> str | None:
        for worker in self._workers:
            if worker.alive:
                continue
            if worker.deaths > _MAX_DEATHS:
                return f"an encoder's worker died {worker.deaths} times"
            if self._stopped.wait(self._pause_s):
                return None
            worker.restart()
        return None

    def _give_up(self, reason: str) -> None:
        logger.critical("%s: the process ends, to be started again", reason)
        for worker in self._workers:
            worker.abandon()
        self._on_fatal(reason)
