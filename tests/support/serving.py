"""What tests are given of a running service; a module of its own, because every folder's conftest has one name."""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import httpx
from fastapi import FastAPI

from service.settings import Settings


@dataclass(frozen=True)
class Server:
    """A running service: its address, its settings, its app, and a client without an API key."""

    url: str
    settings: Settings
    app: FastAPI
    client: httpx.Client


Serve = Callable[..., AbstractContextManager[Server]]


def heed_interrupts() -> None:
    """For `preexec_fn`: what runs in the background of a shell ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
