"""What both clients do around a request: addresses, keys, timeouts, and turning responses into answers or errors."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import httpx

from clsp_client.calls import Call, decoded
from clsp_client.errors import (
    ClspError,
    InvalidKeyError,
    InvalidRequestError,
    InvalidUrlError,
    ProblemError,
    UnreachableError,
)
from clsp_client.retry import parse_retry_after

T = TypeVar("T")
CONNECT_TIMEOUT_S = 5.0
_GONE = frozenset({"unknown-item", "unknown-collection"})


def httpx_options(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Options of an httpx client. Raises InvalidUrlError and InvalidKeyError."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidUrlError(f"{url!r} is not a URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidUrlError(f"{url!r} is not a URL: it starts with http:// or https://")
    key = (api_key or "").strip()  # a key read from a file or a CI variable often ends with a line feed
    if not all(" " <= character <= "~" for character in key):
        raise InvalidKeyError("The API key holds control characters or letters outside ASCII, which no header carries.")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # Calls that wait for a connection wait for other calls, each of which has its own time: that is no silence.
    timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S, pool=None)
    return {"base_url": url, "headers": headers, "timeout": timeout}


def answer(call: Call[T], response: httpx.Response, *, sent_before: bool = False) -> T:
    """The call's answer. Raises ProblemError for a refusal, and for an answer that is not a clsp service's.

    `sent_before`: an earlier try broke off, and may have been heard.
    """
    if response.is_success:
        try:
            return decoded(call, response.content)
        except (ValueError, KeyError, TypeError) as error:
            raise _foreign(response) from error
    refusal = problem(response)
    if sent_before and call.method == "DELETE" and refusal.slug in _GONE:
        return cast(T, None)  # most likely the earlier try deleted it; whoever did, it is gone
    raise refusal


def problem(response: httpx.Response) -> ProblemError:
    """The error that a response of failure is."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and "title" in body:
        return ProblemError(response.status_code, body, retry_after_s(response))
    return _foreign(response)


def _foreign(response: httpx.Response) -> ProblemError:
    # A proxy in between, or another server altogether, does not speak problem+json.
    excerpt = response.text[:200].strip()
    title = "This is not an answer of a clsp service"
    return ProblemError(response.status_code, {"title": title, "detail": excerpt}, retry_after_s(response))


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds that the service asks to wait."""
    return parse_retry_after(response.headers.get("Retry-After"))


def broken(url: str, error: Exception) -> tuple[ClspError, bool]:
    """What an exception of httpx means, and whether another try may help."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        # The service is at work on it: asking again would double the work.
        return UnreachableError(url, "it took too long"), False
    if isinstance(error, httpx.DecodingError):
        return UnreachableError(url, f"its answer arrived damaged: {error}"), True
    if isinstance(error, httpx.UnsupportedProtocol):
        return InvalidUrlError(f"{url!r} is not a URL: {error}"), False
    return UnreachableError(url, str(error) or type(error).__name__), True


def unsendable(error: ValueError) -> InvalidRequestError:
    """What httpx says of arguments that it could not write down."""
    if isinstance(error, UnicodeEncodeError):
        excerpt = error.object[max(0, error.start - 20) : error.end + 20]
        return InvalidRequestError(f"{excerpt!r} is not valid Unicode, and no request can hold it")
    return InvalidRequestError(f"The request cannot be written down: {error}")


BROKEN = (httpx.RequestError, httpx.InvalidURL)
"""What httpx raises when there is no response, or none that can be read."""
