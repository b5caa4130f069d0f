"""A kept clip as a response: Starlette's file with ranges, whose refusals are problems like all others."""

from __future__ import annotations

from fastapi.responses import FileResponse, Response
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from service.core.problems import ProblemError, answer_problem_at

_REFUSALS = (400, 416)


class AudioResponse(FileResponse):
    """The bytes of a clip; `Range`, `If-Range` and `If-None-Match` are honoured (RFC 9110)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, or the part asked for; a range that is malformed or outside becomes a 416 problem."""
        if _known(Headers(scope=scope).get("if-none-match", ""), self.headers["etag"]):
            kept = {name: self.headers[name] for name in ("etag", "cache-control", "last-modified")}
            await Response(status_code=304, headers=kept)(scope, receive, send)
            return
        # A range in a unit that is unknown is no range (section 14.2).
        scope = {**scope, "headers": [one for one in scope["headers"] if not _unknown_range(*one)]}
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


def _known(if_none_match: str, etag: str) -> bool:
    """Whether the caller has it: the weak comparison of section 8.8.3.2."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag.removeprefix("W/") in tags


def _unknown_range(name: bytes, value: bytes) -> bool:
    return name == b"range" and value.partition(b"=")[0].strip().lower() != b"bytes"
