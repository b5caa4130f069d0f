"""Collections: make, look at, drop."""

from __future__ import annotations

import dataclasses

from fastapi import APIRouter, Depends, Request, Response

from index import types as stored
from index.errors import DimensionMismatch, IdentityMismatch
from service.api.body import read_json
from service.api.deps import ANY_CALL, BODY_CALL, CollectionPath, ServicesDep, problems, request_body
from service.http.auth import require_read, require_write
from service.schemas import CollectionInfo, CollectionList, CollectionRequest

router = APIRouter(prefix="/v1/collections", tags=["collections"])


def shown(info: stored.CollectionInfo) -> CollectionInfo:
    """The stored facts as the API shows them."""
    return CollectionInfo(**dataclasses.asdict(info))


@router.put(
    "/{collection}",
    dependencies=[Depends(require_write)],
    responses={
        201: {"model": CollectionInfo, "description": "It was made."},
        **problems(*BODY_CALL, "identity-mismatch", "dimension-mismatch", "storage-failed", "storage-full"),
    },
    openapi_extra=request_body(CollectionRequest, required=False),
    response_description="It was there already.",
)
async def put_collection(
    collection: CollectionPath, request: Request, response: Response, services: ServicesDep
) -> CollectionInfo:
    """Make a collection, bound to the embedding identity of the served model. Repeating it changes no vectors."""
    body = await read_json(request, CollectionRequest, optional=True)
    engine = services.engine
    # Vectors of another model could be stored, but no text or clip could ever be compared with them here.
    if body.identity is not None and body.identity != engine.identity:
        raise IdentityMismatch(engine.identity, body.identity)
    if body.dim is not None and body.dim != engine.manifest.embedding_dim:
        raise DimensionMismatch(engine.manifest.embedding_dim, body.dim, "dim")
    info, created = await services.in_store(
        "write",
        services.store.create_collection,
        collection,
        dim=engine.manifest.embedding_dim,
        identity=engine.identity,
        description=body.description,
    )
    response.status_code = 201 if created else 200
    return shown(info)


@router.get("", dependencies=[Depends(require_read)], responses=problems(*ANY_CALL))
async def list_collections(services: ServicesDep) -> CollectionList:
    """All collections, by name."""
    infos = await services.in_store("read", services.store.list_collections)
    return CollectionList(data=[shown(info) for info in infos])


@router.get("/{collection}", dependencies=[Depends(require_read)], responses=problems(*ANY_CALL, "unknown-collection"))
async def get_collection(collection: CollectionPath, services: ServicesDep) -> CollectionInfo:
    """One collection: its size, its identity, and the metadata fields to filter by."""
    return shown(await services.in_store("read", services.store.get_collection, collection))


@router.delete(
    "/{collection}",
    status_code=204,
    dependencies=[Depends(require_write)],
    responses=problems(*ANY_CALL, "unknown-collection", "storage-failed", "storage-full"),
)
async def delete_collection(collection: CollectionPath, services: ServicesDep) -> Response:
    """Drop a collection with its items and their audio. There is no undo."""
    await services.in_store("write", services.store.delete_collection, collection)
    return Response(status_code=204)
