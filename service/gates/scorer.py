"""Where clips are judged: by a running service, or by the same application inside this process."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from clsp_client import AsyncClient, RetryPolicy

IN_PROCESS_URL = "http://in-process"
NO_DEADLINE_S = 24 * 3600.0


@asynccontextmanager
async def remote(url: str, api_key: str | None, *, patience_s: float) -> AsyncIterator[AsyncClient]:
    """A running service. `patience_s`: how long to wait while it is full."""
    async with AsyncClient(url, api_key, retry=RetryPolicy(patience_s=patience_s)) as client:
        yield client


@asynccontextmanager
async def in_process(bundle: Path | None = None) -> AsyncIterator[AsyncClient]:
    """The service's own application without a socket, on an empty data folder: what it answers is what a service would.

    Raises BundleError for a bundle that cannot be served, and ImportError where the inference packages are missing.
    """
    from service.app import create_app
    from service.settings import Settings

    with tempfile.TemporaryDirectory(prefix="clsp-score-") as scratch:
        given = {} if bundle is None else {"bundle": bundle}
        settings = Settings(
            data_dir=Path(scratch) / "data",
            keep_media=False,
            api_keys=[],
            request_timeout_s=NO_DEADLINE_S,
            **given,  # type: ignore[arg-type]
        )
        app = create_app(settings)
        async with (
            app.router.lifespan_context(app),
            AsyncClient(
                IN_PROCESS_URL, transport=httpx.ASGITransport(app), retry=RetryPolicy(patience_s=NO_DEADLINE_S)
            ) as client,
        ):
            yield client
