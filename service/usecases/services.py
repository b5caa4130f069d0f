"""What use cases are given: the running parts of the service, deadlines, and the threads that reach the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Literal, ParamSpec, TypeVar

from index.backend import Store
from index.errors import IdentityMismatch
from index.types import CollectionKind
from service.audio.fetch import Fetcher
from service.audio.limits import AudioLimits
from service.core.threads import in_thread
from service.engine import Engine
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.usecases.decode_pool import Decoding

P = ParamSpec("P")
T = TypeVar("T")

StoreStage = Literal["search", "read", "write"]
STORE_THREADS: Final = 8
"""Reads, and writes, at one time: enough to overlap disk waits, few enough not to starve the encoders."""


@dataclass(frozen=True, kw_only=True)
class ModelServices:
    """What embedding, classifying and scoring need: the encoders and the way to them, without a store."""

    settings: Settings
    engine: Engine
    metrics: Metrics
    audio_limits: AudioLimits
    decoding: Decoding
    fetcher: Fetcher

    def deadline(self) -> float:
        """When a request whose body was just read is late, on `time.monotonic()`'s clock."""
        return time.monotonic() + self.settings.request_timeout_s


@dataclass(frozen=True, kw_only=True)
class Services(ModelServices):
    """The parts of one running service."""

    store: Store
    # Apart, because writers wait for each other: a bulk ingest must not take the threads that searches need.
    reading: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(STORE_THREADS, "clsp-read"))
    writing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(STORE_THREADS, "clsp-write"))

    async def in_store(self, stage: StoreStage, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a store call in a thread; `stage` says which threads, and names it in the metrics."""
        threads = self.writing if stage == "write" else self.reading
        with self.metrics.stage(stage):
            return await in_thread(lambda: call(*args, **kwargs), threads)

    async def collection(self, name: str) -> CollectionKind:
        """A collection. Raises CollectionNotFound."""
        if self.store.kinds_at_hand:
            return self.store.collection_kind(name)
        return await self.in_store("read", self.store.collection_kind, name)

    async def own_collection(self, name: str) -> CollectionKind:
        """A collection whose vectors compare with this engine's. Raises CollectionNotFound, IdentityMismatch."""
        info = await self.collection(name)
        if info.identity != self.engine.identity:
            raise IdentityMismatch(info.identity, self.engine.identity)
        return info
