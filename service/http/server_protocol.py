"""What a connection may cost before it has brought a whole request head: how many bytes, and how long."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.core.problems import ProblemError, problem_response
from service.http.access_log import EVERY_ANSWER
from service.settings import Settings

_TICK_S: Final = 5.0
"""Time between two looks at a connection, where none of its ends is nearer."""


def server_options(settings: Settings) -> dict[str, Any]:
    """uvicorn's options: how it serves the app of these settings, whoever runs it."""
    return {
        "http": bounded(settings),
        "log_level": settings.log_level,
        "access_log": False,  # the service logs its requests itself, with their ids
        "timeout_keep_alive": max(1, round(settings.keep_alive_s)),
        # What is running when the stop signal comes may finish, but never past its own deadline.
        "timeout_graceful_shutdown": max(1, int(settings.request_timeout_s)),
    }


def bounded(settings: Settings) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with the bounds of these settings; uvicorn takes it as `http`."""

    class Bounded(_Connection):
        max_head_bytes = settings.max_head_bytes
        head_s = settings.head_timeout_s

    return Bounded


class _Connection(HttpToolsProtocol):
    """Adds to uvicorn's protocol what it leaves open: it takes heads of any size, and waits for them for ever.

    A connection has one timer for its whole life, which looks now and then; requests only leave the time for it.
    """

    max_head_bytes: int
    head_s: float

    _in_head = True
    """Whether what comes next belongs to a head, begun or not."""
    _head_bytes = 0
    _head_began: float | None = None
    _quiet_since = 0.0
    """Since when no request has been under way."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._quiet_since = self.loop.time()
        self._look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        self._look_no_more()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._look_no_more()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        if not self._in_head:
            super().data_received(data)
            return
        if self._head_began is None:
            self._head_began = self.loop.time()
        room = self.max_head_bytes - self._head_bytes
        self._head_bytes += min(len(data), room)
        super().data_received(data[:room] if len(data) > room else data)
        if self._in_head and self._head_bytes >= self.max_head_bytes:
            self._refuse_head()
        elif len(data) > room and not self.transport.is_closing():
            self.data_received(data[room:])

    def on_headers_complete(self) -> None:
        self._in_head, self._head_began = False, None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._quiet_since = self.loop.time()
        super().on_response_complete()

    def _refuse_head(self) -> None:
        if self.transport.is_closing():
            return
        self.logger.warning("A request head of more than %d bytes was refused.", self.max_head_bytes)
        # In the middle of the answer to the request before, another one would only garble it.
        if not self._is_answering():
            detail = f"the request's line and headers have more than {self.max_head_bytes} bytes"
            answer = problem_response(ProblemError("head-too-large", detail, limit=self.max_head_bytes), None)
            headers = [*answer.raw_headers, *EVERY_ANSWER, (b"connection", b"close")]
            lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
            self.transport.write(STATUS_LINE[answer.status_code] + lines + b"\r\n" + bytes(answer.body))
        self.transport.close()

    def _is_answering(self) -> bool:
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def _ends_at(self) -> float:
        """When this connection is over unless something comes; whoever is being answered has its own deadline."""
        if self._is_answering():
            return float("inf")
        if self._head_began is not None:
            return max(self._head_began, self._quiet_since) + self.head_s
        # Also where the rest of a body still trickles in that was answered without it.
        return self._quiet_since + self.timeout_keep_alive

    def _look(self) -> None:
        if self._ends_at() <= self.loop.time():
            self.transport.close()
        else:
            self._look_again()

    def _look_again(self) -> None:
        soon = self.loop.time() + min(_TICK_S, self.head_s)
        self._timer = self.loop.call_at(min(self._ends_at(), soon), self._look)

    def _look_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
