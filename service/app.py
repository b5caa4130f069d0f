"""Wires the service: settings in, an ASGI app out. What it does is elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio
from fastapi import FastAPI

from index.errors import IndexingError
from index.store import LocalStore
from model_export.bundle import Bundle
from service.api import classify, collections, embeddings, ingest, items, models, operations, page, score, search
from service.api.deps import Services
from service.api.failures import install_failure_handlers
from service.audio_limits import AudioLimits
from service.engine import Engine
from service.errors import install_error_handlers
from service.metrics import Metrics
from service.middleware import install_middleware
from service.openapi import install_openapi
from service.settings import Settings

logger = logging.getLogger("clsp")

_ROUTERS = (embeddings, collections, ingest, items, search, classify, score, models, operations, page)


def create_app(settings: Settings | None = None) -> FastAPI:
    """An app that serves one bundle and one data folder, from `settings` or the environment.

    The bundle is read and verified here; raises BundleError. The engine and the data folder belong to the app's
    lifespan: a folder in use or unusable ends start-up there with the store's error.
    """
    settings = settings or Settings()
    bundle = Bundle.load(settings.bundle, verify=settings.verify_bundle)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            store = await asyncio.to_thread(LocalStore, settings.data_dir, keep_media=settings.keep_media)
        except IndexingError as error:
            logger.error("cannot serve the data folder %s: %s", settings.data_dir, error)
            raise
        engine = Engine(settings, bundle)
        try:
            await engine.start()
            app.state.services = Services(
                settings=settings,
                engine=engine,
                store=store,
                metrics=metrics,
                audio_limits=AudioLimits.from_settings(settings, min_s=bundle.manifest.min_s),
                decoding=anyio.CapacityLimiter(settings.decode_workers),
            )
            metrics.watch(engine)
            yield
        finally:
            await engine.stop()
            await asyncio.to_thread(store.close)

    app = FastAPI(
        title="clsp-service",
        version=version("clsp-service"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    for module in _ROUTERS:
        app.include_router(module.router)
    install_error_handlers(app)
    install_failure_handlers(app)
    install_middleware(app, settings, metrics)
    install_openapi(app, keys_needed=bool(settings.api_keys))
    return app
