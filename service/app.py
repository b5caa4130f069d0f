"""Wires the service: settings in, an ASGI app out. What it does is elsewhere."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import Depends, FastAPI

from index.backend import Store
from index.errors import IndexingError
from model_export.bundle import Bundle
from service.api import (
    classify,
    collections,
    embeddings,
    events,
    ingest,
    items,
    jobs,
    models,
    operations,
    page,
    score,
    search,
)
from service.api.failures import install_failure_handlers
from service.api.openapi import install_openapi
from service.api.parameters import refuse_unknown_parameters
from service.audio.fetch import Fetcher
from service.audio.limits import AudioLimits
from service.core.logging import log_as_json
from service.core.problems import install_error_handlers
from service.core.signals import on_stop_signal
from service.engine import Engine
from service.engine.memory import settle
from service.http.middleware import install_middleware
from service.jobs.errors import JobsBroken
from service.jobs.manager import Jobs
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing
from service.usecases.decode_pool import Decoding
from service.usecases.open_store import open_store
from service.usecases.services import Services

logger = logging.getLogger("clsp")

_ROUTERS = (embeddings, collections, ingest, items, jobs, events, search, classify, score, models, operations, page)


def end_process(reason: str, *, grace_s: float) -> None:
    """Ask the server to stop as an orchestrator would, and end the process if that does not work.

    Either way its status is not 0, so that whoever started it starts it again.
    """
    os.kill(os.getpid(), signal.SIGTERM)
    force = threading.Timer(grace_s, os._exit, [70])  # EX_SOFTWARE
    force.daemon = True
    force.start()


async def _opened(settings: Settings, engine: Engine) -> Store:
    """The store, and the engine started: side by side, for with a large library each takes seconds.

    Raises what either of them does, after the other was stopped again.
    """
    store, started = await asyncio.gather(
        asyncio.to_thread(open_store, settings), engine.start(), return_exceptions=True
    )
    if isinstance(store, IndexingError):
        logger.error("cannot serve %s: %s", settings.milvus_uri or f"the data folder {settings.data_dir}", store)
    if isinstance(store, BaseException):
        await engine.stop()
        raise store
    if isinstance(started, BaseException):
        await engine.stop()
        await asyncio.to_thread(store.close)
        raise started
    return store


def create_app(settings: Settings | None = None, *, on_fatal: Callable[[str], None] | None = None) -> FastAPI:
    """An app that serves one bundle and one data folder, from `settings` or the environment.

    The bundle is read and verified here; raises BundleError, and TracingUnavailable where traces are asked for without
    the extra. The engine and the data folder belong to the app's lifespan: a folder in use or unusable ends start-up
    there with the store's error. `on_fatal` is called with the reason when the encoders are beyond recovery; unless
    given, it ends the process.
    """
    settings = settings or Settings()
    bundle = Bundle.load(settings.bundle, verify=settings.verify_bundle)
    tracing = Tracing.from_settings(settings)
    metrics = Metrics(tracing)
    fatal = on_fatal or partial(end_process, grace_s=settings.request_timeout_s)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if settings.log_format == "json":
            log_as_json()  # here, because whoever runs the server has set its handlers up by now
        engine = Engine(settings, bundle, observer=metrics, on_fatal=fatal)
        limits = AudioLimits.from_settings(settings, min_s=bundle.manifest.min_s)
        store = await _opened(settings, engine)
        bulk: Jobs | None = None
        try:
            try:
                bulk = await asyncio.to_thread(Jobs, settings, engine, store, metrics, limits)
            except (JobsBroken, IndexingError) as error:
                logger.error("%s; move %s away to start without them", error, settings.data_dir / "jobs")
                raise
            app.state.services = Services(
                settings=settings,
                engine=engine,
                store=store,
                metrics=metrics,
                audio_limits=limits,
                decoding=Decoding(settings, limits),
                fetcher=Fetcher.from_settings(settings),
            )
            app.state.jobs = bulk
            metrics.watch(engine)
            await bulk.start()
            settle()
            with on_stop_signal(bulk.close_streams):
                yield
        finally:
            if bulk is not None:
                await bulk.stop()
            await engine.stop()
            await asyncio.to_thread(store.close)
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="clsp-service",
        version=version("clsp-service"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(refuse_unknown_parameters)],
        # The service traces and counts by itself; FastAPI would look for a provider at every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    for module in _ROUTERS:
        app.include_router(module.router)
    install_error_handlers(app)
    install_failure_handlers(app)
    install_middleware(app, settings, metrics, tracing)
    install_openapi(app, keys_needed=bool(settings.api_keys))
    return app
