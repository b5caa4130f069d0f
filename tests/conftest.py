"""The service under test: the real app on a real socket, with the shipped bundle and a data folder of its own."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.http.server_protocol import server_options
from service.settings import Settings
from tests.support.serving import Serve, Server

START_TIMEOUT_S = 120.0
# As the commands that load PyTorch set it: its threads must not spin while others need the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def _serving(
    prepare: Callable[[FastAPI], None] | None = None, on_fatal: Callable[[str], None] = pytest.fail, **options: Any
) -> Iterator[Server]:
    settings = Settings(**options)
    # Beyond recovery it would end its process, which here is that of the tests.
    app = create_app(settings, on_fatal=on_fatal)
    if prepare is not None:
        prepare(app)
    # The protocol is named because asyncio turns Nagle's delay (40 ms an answer) off only where it is.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, **{**server_options(settings), "log_level": "warning"}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    give_up = time.monotonic() + START_TIMEOUT_S
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        assert time.monotonic() < give_up, "the service took too long to start"
        time.sleep(0.02)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            yield Server(url, settings, app, client)
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)
        listener.close()
        assert not thread.is_alive(), "the service did not stop"


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Start a service with its own settings: `with serve(data_dir=...) as server`. `prepare` may change the app."""
    return _serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service for all tests that leave it as they found it, save for collections of their own."""
    with _serving(data_dir=tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> httpx.Client:
    """A client of the shared service."""
    return server.client


@pytest.fixture
def collection(client: httpx.Client) -> Iterator[str]:
    """The path of an empty collection that is dropped after the test."""
    path = f"/v1/collections/test-{uuid.uuid4().hex[:12]}"
    assert client.put(path).status_code == 201
    yield path
    client.delete(path)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder for a service of the test's own."""
    return tmp_path / "data"


@pytest.fixture
def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
