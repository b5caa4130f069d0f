"""A kept clip as a response: Starlette's file with ranges, whose refusals are problems like all others."""

from __future__ import annotations

from fastapi.responses import FileResponse
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from service.errors import ProblemError, answer_problem_at

_REFUSALS = (400, 416)


class AudioResponse(FileResponse):
    """The bytes of a clip; `Range` and `If-Range` are honoured."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, or the part asked for; a range that is malformed or outside becomes a 416 problem."""
        refusal: Message | None = None

        async def send_unless_refused(message: Message) -> None:
            nonlocal refusal
            if message["type"] == "http.response.start" and message["status"] in _REFUSALS:
                refusal = message
            if refusal is None:
                await send(message)

        await super().__call__(scope, receive, send_unless_refused)
        if refusal is not None:
            extent = Headers(raw=refusal["headers"]).get("content-range")
            detail = "the Range header is malformed or lies outside the audio"
            headers = {"Content-Range": extent} if extent else {}
            problem = ProblemError("range-not-satisfiable", detail, field="Range", limit=extent, headers=headers)
            await answer_problem_at(scope, problem)(scope, receive, send)
