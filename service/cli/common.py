"""What every `clsp` command that talks to a server shares: its options, the client, errors people can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clsp_client import DEFAULT_URL, Client, ClspError, RetryPolicy, UnreachableError, data_uri
from service.core.clip_sources import ClipSourceError

UrlOption = Annotated[str, typer.Option("--url", envvar="CLSP_URL", help="Address of the running service.")]
KeyOption = Annotated[
    str | None, typer.Option("--api-key", envvar="CLSP_API_KEY", help="Bearer key, if the service asks for one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the service's JSON instead of a table.")]

PATIENCE_S = 10.0
"""How long a command that somebody sits in front of waits for a service that is full, seconds."""

__all__ = [
    "DEFAULT_URL",
    "PATIENCE_S",
    "CliError",
    "Client",
    "JsonOption",
    "KeyOption",
    "UrlOption",
    "clip_uri",
    "connect",
    "explain",
]


class CliError(Exception):
    """Something the user has to know, in words. `exit_code` is the command's exit status."""

    exit_code = 1


def connect(url: str, api_key: str | None = None, *, patience_s: float = PATIENCE_S) -> Client:
    """A client for one command. `patience_s`: how long to go on retrying an answer of 429 or 503, which ask for it.

    Nobody answering is said at once: at a terminal it is a wrong address more often than a hiccup.
    """
    return Client(url, api_key, retry=RetryPolicy(patience_s=patience_s, connection_retries=0))


def explain(error: Exception) -> str:
    """The message of an error, with what to do about it where that is known."""
    if isinstance(error, UnreachableError):
        return f"{error}\nStart one with `clsp serve`, or name another with --url or CLSP_URL."
    return str(error)


def clip_uri(path: Path) -> str:
    """Read an audio file as a data URI. Raises CliError when it cannot be read."""
    try:
        return data_uri(path)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}") from error


HANDLED = (CliError, ClipSourceError, ClspError)
"""What ends a command with a message instead of a traceback."""
