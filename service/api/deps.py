"""What routes are given, and what they say of themselves in OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import Depends, Path, Request, Response

from service.core.problems import MEDIA_TYPE, PROBLEMS
from service.http.path_prefix import path_prefix
from service.jobs.manager import Jobs
from service.schemas import Problem
from service.schemas.common import CollectionName, ItemId, ResponseModel
from service.usecases.services import Services


async def get_services(request: Request) -> Services:
    """The app's parts, put there when it started.

    A coroutine, because FastAPI runs what is not one in a thread: that cost a request more than all of its validation.
    """
    services: Services = request.app.state.services
    return services


async def get_jobs(request: Request) -> Jobs:
    """The app's ingest jobs."""
    jobs: Jobs = request.app.state.jobs
    return jobs


def answer_json(answer: ResponseModel) -> Response:
    """An answer as it is: FastAPI would validate it a second time. The route names it as its `response_model`."""
    return Response(answer.model_dump_json(), media_type="application/json")


ServicesDep = Annotated[Services, Depends(get_services)]
JobsDep = Annotated[Jobs, Depends(get_jobs)]
CollectionPath = Annotated[CollectionName, Path()]
ItemPath = Annotated[ItemId, Path()]


def audio_url(collection: str, item_id: str, has_media: bool) -> str | None:
    """Where an item's audio is served, if it was kept."""
    path = f"{path_prefix()}/v1/collections/{quote(collection)}/items/{quote(item_id, safe='')}/audio"
    return path if has_media else None


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
