"""What every `clsp` command that talks to a server shares: the client, its options, errors people can act on."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import httpx
import typer

DEFAULT_URL = "http://127.0.0.1:8000"
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"})

UrlOption = Annotated[str, typer.Option("--url", envvar="CLSP_URL", help="Address of the running service.")]
KeyOption = Annotated[
    str | None, typer.Option("--api-key", envvar="CLSP_API_KEY", help="Bearer key, if the service asks for one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the service's JSON instead of a table.")]


class CliError(Exception):
    """Something the user has to know, in words. `exit_code` is the command's exit status."""

    exit_code = 1


class ServiceError(CliError):
    """The service refused: an RFC 9457 problem document."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        title = str(problem.get("title") or f"HTTP {status}")
        detail = str(problem.get("detail") or "")
        lines = [f"{title} ({status})"]
        if detail and detail != title:
            lines.append(detail)
        lines += [f"{name}: {problem[name]}" for name in ("field", "limit") if problem.get(name) is not None]
        super().__init__("\n".join(lines))


class UnreachableError(CliError):
    """Nobody answers at the address."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"No clsp service answers at {url} ({reason}).\n"
            "Start one with `clsp serve`, or name another with --url or CLSP_URL."
        )


class Client:
    """A thin wrapper over httpx that speaks problem+json and can wait while the service is full."""

    def __init__(self, url: str, api_key: str | None = None, *, timeout_s: float = 300.0, patience_s: float = 0.0):
        """`patience_s`: how long to go on retrying an answer of 429 or 503, which ask for it; 0 never retries."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.url = url.rstrip("/")
        self._patience_s = patience_s
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=httpx.Timeout(timeout_s, connect=5.0))
        except (httpx.InvalidURL, ValueError) as error:
            raise CliError(f"{url!r} is not a URL: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Send a request -> the decoded JSON answer, or None for an empty one.

        `options` go to httpx unchanged. Raises ServiceError for a refusal, UnreachableError when nobody answers.
        """
        give_up = time.monotonic() + self._patience_s
        while True:
            response = self._send(method, path, options)
            if response.status_code not in (429, 503) or time.monotonic() >= give_up:
                return _decode(response)
            time.sleep(_retry_after_s(response))

    def _send(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.TimeoutException as error:
            raise UnreachableError(self.url, "it took too long") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise UnreachableError(self.url, str(error) or type(error).__name__) from error


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return min(30.0, max(0.1, float(response.headers.get("Retry-After", "1"))))
    except ValueError:
        return 1.0


def _decode(response: httpx.Response) -> Any:
    if response.status_code == 204 or (response.is_success and not response.content):
        return None
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_success and body is not None:
        return body
    if isinstance(body, dict) and "title" in body:
        raise ServiceError(response.status_code, body)
    # A proxy in between, or another server altogether, does not speak problem+json.
    excerpt = response.text[:200].strip()
    raise ServiceError(response.status_code, {"title": "This is not an answer of a clsp service", "detail": excerpt})


def data_uri(path: Path) -> str:
    """Read an audio file as a data URI. Raises CliError when it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}") from error
    return f"data:{media_type(path)};base64,{base64.b64encode(data).decode('ascii')}"


def media_type(path: Path) -> str:
    """The media type that the file's name promises; the service looks at the bytes, not at this."""
    names = {"oga": "ogg", "opus": "ogg", "mp3": "mpeg"}
    suffix = path.suffix.lower().lstrip(".") or "wav"
    return f"audio/{names.get(suffix, suffix)}"
