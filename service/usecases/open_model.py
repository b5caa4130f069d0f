"""The encoders of one bundle, started and stopped: what scores without a service and without a store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from model_export.bundle import Bundle
from service.audio.fetch import Fetcher
from service.audio.limits import AudioLimits
from service.engine import Engine
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.usecases.decode_pool import Decoding
from service.usecases.services import ModelServices


@asynccontextmanager
async def open_model(settings: Settings) -> AsyncIterator[ModelServices]:
    """Start the encoders of `settings.bundle`. Raises BundleError."""
    bundle = Bundle.load(settings.bundle, verify=settings.verify_bundle)
    limits = AudioLimits.from_settings(settings, min_s=bundle.manifest.min_s)
    metrics = Metrics(None)
    engine = Engine(settings, bundle, observer=metrics)
    await engine.start()
    try:
        yield ModelServices(
            settings=settings,
            engine=engine,
            metrics=metrics,
            audio_limits=limits,
            decoding=Decoding(settings, limits),
            fetcher=Fetcher.from_settings(settings),
        )
    finally:
        await engine.stop()
