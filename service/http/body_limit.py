"""How bodies come in: how large one may be, how much room all together have, and how long a caller may take."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.problems import ProblemError, answer_problem_at


class BodyLimit:
    """Refuses a body over the limit, one that finds no room beside the bodies being held, and one that does not come.

    What is declared too large is refused at once; room is taken by what has come, since who declares much may send
    nothing. No body waits for another's room: where it runs out, the one that needs more is refused.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_total: int, idle_s: float, whole_s: float) -> None:
        """`max_total`: bytes of all bodies. `idle_s`: longest silence within a body.

        `whole_s`: until it is whole, or `idle_s` where that is longer.
        """
        self.app = app
        self.max_bytes = max_bytes
        self.max_total = max(max_total, max_bytes)
        self.idle_s, self.whole_s = idle_s, max(whole_s, idle_s)
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        declared = int(length) if length.isascii() and length.isdigit() else 0
        if declared > self.max_bytes:
            await answer_problem_at(scope, self._too_large())(scope, receive, send)
            return
        if self.held + declared > self.max_total:
            await answer_problem_at(scope, self._no_room())(scope, receive, send)
            return
        received = 0
        # What an event stream waits for is not its caller's body.
        whole = scope["method"] in ("GET", "HEAD")
        now = asyncio.get_running_loop().time
        end = now() + self.whole_s

        async def counting_receive() -> Message:
            nonlocal received, whole
            if whole:
                return await receive()
            patience_end = now() + self.idle_s
            try:
                async with asyncio.timeout_at(min(patience_end, end)):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow(late=end < patience_end) from None
            whole = not message.get("more_body", False)
            if message["type"] == "http.request":
                size = len(message.get("body", b""))
                received += size
                self.held += size
                if received > self.max_bytes:
                    raise self._too_large()
                if self.held > self.max_total:
                    raise self._no_room()
            return message

        try:
            await self.app(scope, counting_receive, send)
        finally:
            self.held -= received

    def _too_large(self) -> ProblemError:
        detail = f"the body has more than {self.max_bytes} bytes"
        # The connection is not closed: the server drops what still comes, where a reset would lose this answer.
        return ProblemError("body-too-large", detail, field="body", limit=self.max_bytes)

    def _no_room(self) -> ProblemError:
        detail = "the bodies of other requests fill the room for bodies"
        return ProblemError("overloaded", detail, limit=self.max_total, headers={"Retry-After": "1"})

    def _too_slow(self, *, late: bool) -> ProblemError:
        limit = self.whole_s if late else self.idle_s
        detail = f"the body was not whole after {limit:g} s" if late else f"nothing of the body came for {limit:g} s"
        return ProblemError("body-timeout", detail, field="body", limit=limit, headers={"Connection": "close"})
