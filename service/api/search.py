"""Search: one query from weighted parts, one call to the store."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Depends, Request
from numpy.typing import NDArray

from index.errors import IdentityMismatch
from index.filters import parse_filter
from index.types import CollectionInfo
from index.types import Hit as FoundHit
from model_export.windows import pool_windows
from service.api.body import read_json
from service.api.clips import embed_clips, inline_clip
from service.api.deps import (
    ENGINE_CALL,
    CollectionPath,
    Services,
    ServicesDep,
    audio_url,
    check_count,
    check_text,
    problems,
    request_body,
)
from service.api.prompts import embed_texts
from service.api.vectors import unit_vector
from service.errors import ProblemError
from service.schemas import Hit, QueryPart, SearchRequest, SearchResponse, Segment
from service.scoring import combine_query, match_probability
from service.security import require_read

router = APIRouter(prefix="/v1/collections/{collection}", tags=["search"])


@router.post(
    "/search",
    dependencies=[Depends(require_read)],
    responses=problems(
        *ENGINE_CALL,
        "unknown-collection",
        "unknown-item",
        "identity-mismatch",
        "dimension-mismatch",
        "invalid-filter",
        "unknown-field",
        "audio-too-large",
    ),
    openapi_extra=request_body(SearchRequest),
)
async def search(collection: CollectionPath, request: Request, services: ServicesDep) -> SearchResponse:
    """Find the items whose best segment is nearest to a text, clips, items or vectors, each with its weight."""
    began = time.perf_counter()
    info = await services.collection(collection)
    body = await read_json(request, SearchRequest)
    settings = services.settings
    if body.top_k > settings.max_top_k:
        detail = f"top_k: {body.top_k}; at most {settings.max_top_k} are accepted"
        raise ProblemError("limit-exceeded", detail, field="top_k", limit=settings.max_top_k)
    check_count("query", body.query, settings.max_query_parts)
    where = parse_filter(body.filter) if body.filter is not None else None
    vectors, truncated = await _vectors(services, info, body.query, services.deadline())
    named = [part.item_id for part in body.query if part.item_id is not None]
    hits = await services.in_store(
        "search",
        services.store.search,
        collection,
        _combined(vectors, body.query),
        top_k=body.top_k,
        where=where,
        min_score=body.min_score,
        exclude_ids=() if body.include_query_item else named,
    )
    return SearchResponse(
        hits=_shown(services, collection, hits),
        identity=info.identity,
        took_ms=round((time.perf_counter() - began) * 1000, 3),
        truncated=truncated,
    )


async def _vectors(
    services: Services, info: CollectionInfo, parts: Sequence[QueryPart], deadline: float
) -> tuple[NDArray[np.float32], bool]:
    """A vector for each part [p, D], and whether a text was cut."""
    texts = {
        i: check_text(f"query[{i}].text", part.text, services.settings)
        for i, part in enumerate(parts)
        if part.text is not None
    }
    uris = {i: part.audio for i, part in enumerate(parts) if part.audio is not None}
    if (texts or uris) and info.identity != services.engine.identity:
        raise IdentityMismatch(info.identity, services.engine.identity)
    found: dict[int, NDArray[np.float32]] = {}
    for i, part in enumerate(parts):
        if part.vector is not None:
            found[i] = unit_vector(part.vector, info.dim, f"query[{i}].vector")
        elif part.item_id is not None:
            found[i] = pool_windows(
                await services.in_store("search", services.store.item_vectors, info.name, part.item_id)
            )
    if uris:
        sources = [inline_clip(uri, f"query[{i}].audio", services) for i, uri in uris.items()]
        clips = await embed_clips(services, sources, deadline=deadline)
        found.update(zip(uris, (clip.result.pooled for clip in clips), strict=True))
    cut = False
    if texts:
        result = await embed_texts(services, list(texts.values()), deadline)
        found.update(zip(texts, result.vectors, strict=True))
        cut = any(result.truncated)
    return np.stack([found[i] for i in range(len(parts))]), cut


def _combined(vectors: NDArray[np.float32], parts: Sequence[QueryPart]) -> NDArray[np.float32]:
    try:
        return combine_query(vectors, [part.weight for part in parts])
    except ValueError as error:
        raise ProblemError("invalid-request", f"query: {error}", field="query") from error


def _shown(services: Services, collection: str, hits: Sequence[FoundHit]) -> list[Hit]:
    probabilities = match_probability([hit.score for hit in hits], services.engine.manifest.calibration)
    return [
        Hit(
            id=hit.item_id,
            score=hit.score,
            match_probability=float(probability),
            segment=Segment(start_s=hit.start_s, end_s=hit.end_s),
            duration_s=hit.duration_s,
            metadata=hit.metadata,
            filename=hit.filename,
            audio_url=audio_url(collection, hit.item_id, hit.has_media),
        )
        for hit, probability in zip(hits, probabilities, strict=True)
    ]
