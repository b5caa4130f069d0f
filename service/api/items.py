"""Items: list, look at, edit and drop clips of a collection, and play them. Adding is in `service.api.ingest`."""

from __future__ import annotations

import os
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import TypeAdapter

from index import types as stored
from index.filters import Filter
from index.wide_filters import read_filter
from service.api.body import parse_json, read_json
from service.api.deps import (
    ANY_CALL,
    BODY_CALL,
    CollectionPath,
    ItemPath,
    ServicesDep,
    audio_url,
    problems,
    request_body,
)
from service.api.playback import AudioResponse
from service.core.problems import ProblemError
from service.http.auth import require_read, require_write
from service.schemas import Item, ItemPage, PatchItemRequest

router = APIRouter(prefix="/v1/collections/{collection}/items", tags=["items"])

_FILTER: Final = TypeAdapter(dict[str, Any])
_ITEM_CALL: Final = (*ANY_CALL, "unknown-collection", "unknown-item")


def shown(collection: str, item: stored.Item) -> Item:
    """The stored facts as the API shows them."""
    return Item(
        id=item.id,
        metadata=item.metadata,
        duration_s=item.duration_s,
        segments=item.segments,
        filename=item.filename,
        content_sha256=item.content_sha256,
        has_audio=item.has_media,
        audio_url=audio_url(collection, item.id, item.has_media),
        created_at=item.created_at,
        updated_at=item.updated_at,
    )


@router.get(
    "",
    dependencies=[Depends(require_read)],
    responses=problems(*_ITEM_CALL, "malformed-body", "invalid-filter", "unknown-field", "invalid-cursor"),
)
async def list_items(
    collection: CollectionPath,
    services: ServicesDep,
    cursor: Annotated[str | None, Query(max_length=2048, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, description="Most items on the page.")] = 100,
    filter: Annotated[
        str | None,
        Query(max_length=32768, description="A filter as JSON.", examples=['{"gender": "female", "age": {"gte": 40}}']),
    ] = None,
) -> ItemPage:
    """Items by id, a page at a time."""
    most = services.settings.page_size_max
    if limit > most:
        raise ProblemError("limit-exceeded", f"limit: {limit}; at most {most}", field="limit", limit=most)
    where: Filter | None = None
    if filter is not None:
        parsed = await parse_json(filter, _FILTER, field="filter")
        where = read_filter(parsed)
    items, next_cursor = await services.in_store(
        "read", services.store.list_items, collection, cursor=cursor, limit=limit, where=where
    )
    return ItemPage(data=[shown(collection, item) for item in items], next_cursor=next_cursor)


@router.get("/{item_id}", dependencies=[Depends(require_read)], responses=problems(*_ITEM_CALL))
async def get_item(collection: CollectionPath, item_id: ItemPath, services: ServicesDep) -> Item:
    """One item."""
    return shown(collection, await services.in_store("read", services.store.get_item, collection, item_id))


@router.patch(
    "/{item_id}",
    dependencies=[Depends(require_write)],
    responses=problems(
        *BODY_CALL, "unknown-collection", "unknown-item", "limit-exceeded", "storage-failed", "storage-full"
    ),
    openapi_extra=request_body(PatchItemRequest),
)
async def patch_item(collection: CollectionPath, item_id: ItemPath, request: Request, services: ServicesDep) -> Item:
    """Edit an item's metadata (RFC 7396): members replace those of the same name, null removes one."""
    body = await read_json(request, PatchItemRequest)
    edit = services.store.patch_metadata
    return shown(collection, await services.in_store("write", edit, collection, item_id, body.metadata))


@router.delete(
    "/{item_id}",
    status_code=204,
    dependencies=[Depends(require_write)],
    responses=problems(*_ITEM_CALL, "storage-failed", "storage-full"),
)
async def delete_item(collection: CollectionPath, item_id: ItemPath, services: ServicesDep) -> Response:
    """Drop an item and its audio."""
    await services.in_store("write", services.store.delete_item, collection, item_id)
    return Response(status_code=204)


@router.get(
    "/{item_id}/audio",
    dependencies=[Depends(require_read)],
    response_class=AudioResponse,
    responses={
        200: {"description": "The clip as it was uploaded.", "content": {"audio/*": {"schema": {"type": "string"}}}},
        206: {"description": "The bytes of the `Range` header."},
        304: {"description": "The caller has the clip already: `If-None-Match` names its `ETag`."},
        **problems(*_ITEM_CALL, "no-audio", "range-not-satisfiable"),
    },
)
@router.head("/{item_id}/audio", dependencies=[Depends(require_read)], include_in_schema=False)
async def get_audio(collection: CollectionPath, item_id: ItemPath, services: ServicesDep) -> AudioResponse:
    """The clip as it was uploaded, where audio is kept. Answers `Range` requests."""
    path, media_type = await services.in_store("read", services.store.media_path, collection, item_id)
    stat = await services.in_store("read", os.stat, path)
    return AudioResponse(path, media_type=media_type, stat_result=stat, headers={"Cache-Control": "private, no-cache"})
