"""What handlers are given: the running parts of the service, deadlines, and the bounds that settings set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, ParamSpec, TypeVar
from urllib.parse import quote

from fastapi import Depends, Path, Request, Response

from index.backend import Store
from index.errors import IdentityMismatch
from index.types import CollectionKind
from service.audio.fetch import Fetcher
from service.audio.limits import AudioLimits
from service.core.problems import MEDIA_TYPE, PROBLEMS, ProblemError
from service.core.threads import in_thread
from service.engine import Engine
from service.jobs.manager import Jobs
from service.schemas import Problem
from service.schemas.common import CollectionName, ItemId, ResponseModel
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.usecases.decode_pool import Decoding

P = ParamSpec("P")
T = TypeVar("T")

StoreStage = Literal["search", "read", "write"]
STORE_THREADS: Final = 8
"""Reads, and writes, at one time: enough to overlap disk waits, few enough not to starve the encoders."""


@dataclass(frozen=True)
class Services:
    """The parts of one running app."""

    settings: Settings
    engine: Engine
    store: Store
    metrics: Metrics
    audio_limits: AudioLimits
    decoding: Decoding
    fetcher: Fetcher
    jobs: Jobs
    # Apart, because writers wait for each other: a bulk ingest must not take the threads that searches need.
    reading: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(STORE_THREADS, "clsp-read"))
    writing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(STORE_THREADS, "clsp-write"))

    def deadline(self) -> float:
        """When a request whose body was just read is late, on `time.monotonic()`'s clock."""
        return time.monotonic() + self.settings.request_timeout_s

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


async def get_services(request: Request) -> Services:
    """The app's parts, put there when it started.

    A coroutine, because FastAPI runs what is not one in a thread: that cost a request more than all of its validation.
    """
    services: Services = request.app.state.services
    return services


def answer_json(answer: ResponseModel) -> Response:
    """An answer as it is: FastAPI would validate it a second time. The route names it as its `response_model`."""
    return Response(answer.model_dump_json(), media_type="application/json")


ServicesDep = Annotated[Services, Depends(get_services)]
CollectionPath = Annotated[CollectionName, Path()]
ItemPath = Annotated[ItemId, Path()]


def check_count(name: str, values: Sized, limit: int, *, slug: str = "limit-exceeded") -> None:
    """Raise ProblemError when there are more than `limit`."""
    if len(values) > limit:
        raise ProblemError(slug, f"{name}: {len(values)} given; at most {limit} are accepted", field=name, limit=limit)


def check_text(name: str, text: str, settings: Settings) -> str:
    """A text that says something and is not over-long. Raises ProblemError."""
    if not text.strip():
        raise ProblemError("invalid-request", f"{name}: the text is empty", field=name, limit=1)
    if len(text) > settings.max_text_chars:
        detail = f"{name}: {len(text)} characters; at most {settings.max_text_chars} are accepted"
        raise ProblemError("limit-exceeded", detail, field=name, limit=settings.max_text_chars)
    return text


def audio_url(collection: str, item_id: str, has_media: bool) -> str | None:
    """Where an item's audio is served, if it was kept."""
    return f"/v1/collections/{quote(collection)}/items/{quote(item_id, safe='')}/audio" if has_media else None


def problems(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for the problems that a route can answer with."""
    grouped: dict[int, list[str]] = {}
    for slug in slugs:
        grouped.setdefault(PROBLEMS[slug][0], []).append(slug)
    return {
        status: {
            "description": "; ".join(f"`{slug}`: {PROBLEMS[slug][1].lower()}" for slug in names),
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}},
        }
        for status, names in grouped.items()
    }


ANY_CALL: Final = (
    "unauthorized",
    "forbidden",
    "unknown-host",
    "invalid-request",
    "too-many-requests",
    "head-too-large",
    "internal",
    "overloaded",
)
BODY_CALL: Final = (*ANY_CALL, "malformed-body", "body-timeout", "body-too-large", "unsupported-media-type")
ENGINE_CALL: Final = (
    *BODY_CALL,
    "invalid-audio",
    "limit-exceeded",
    "unavailable",
    "engine-failed",
    "deadline-exceeded",
)


def request_body(json: type[Any], *, form: Mapping[str, Any] | None = None, required: bool = True) -> dict[str, Any]:
    """OpenAPI's description of a body that a handler reads itself; `form` is the schema of its multipart twin.

    The model's `$defs` are moved to the components when the document is made (`service.api.openapi`).
    """
    schema = json.model_json_schema(ref_template="#/components/schemas/{model}")
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if form is not None:
        content["multipart/form-data"] = {"schema": dict(form)}
    return {"requestBody": {"required": required, "content": content}}
