"""Search: one query from weighted parts, wanted or not, one call to the store, and hits that may have to differ."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
from fastapi import APIRouter, Depends, Request, Response

from index.types import Hit as FoundHit
from index.wide_filters import read_filter
from service.api.body import read_json
from service.api.deps import ENGINE_CALL, CollectionPath, ServicesDep, answer_json, audio_url, problems, request_body
from service.api.direct import DirectRoute
from service.core.problems import ProblemError
from service.http.auth import require_read
from service.schemas import AppliedPart, Hit, SearchRequest, SearchResponse, Segment
from service.usecases.checks import check_count
from service.usecases.diversity import diversify
from service.usecases.query import mix

router = APIRouter(prefix="/v1/collections/{collection}", tags=["search"], route_class=DirectRoute)

CANDIDATES: Final = 5
"""Hits looked at for each that is wanted, when they have to differ."""
LEAST_CANDIDATES: Final = 50


@router.post(
    "/search",
    dependencies=[Depends(require_read)],
    response_model=SearchResponse,
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
async def search(collection: CollectionPath, request: Request, services: ServicesDep) -> Response:
    """Find the items whose best segment is nearest to a text, clips, items or vectors, each with its weight.

    A plain text is read for what it refuses: "calm, not whispering" becomes two parts, and the answer says so. A
    negative weight pushes away; `diversity` keeps hits from being near copies of each other.
    """
    began = time.perf_counter()
    info = await services.collection(collection)
    body = await read_json(request, SearchRequest)
    settings = services.settings
    if body.top_k > settings.max_top_k:
        detail = f"top_k: {body.top_k}; at most {settings.max_top_k} are accepted"
        raise ProblemError("limit-exceeded", detail, field="top_k", limit=settings.max_top_k)
    check_count("query", body.query, settings.max_query_parts)
    where = read_filter(body.filter) if body.filter is not None else None
    query = await mix(services, info, body.query, services.deadline())
    wanted, several = body.top_k, bool(body.diversity) or len(query.parts) > 1
    if body.diversity:
        wanted = min(settings.max_top_k, max(LEAST_CANDIDATES, CANDIDATES * body.top_k))
    hits = await services.in_store(
        "search",
        services.store.search,
        collection,
        query.combined,
        top_k=wanted,
        where=where,
        min_score=body.min_score,
        exclude_ids=() if body.include_query_item else query.item_ids,
        effort=body.effort,
        with_vectors=several,
    )
    if several:
        segments = np.array([hit.vector for hit in hits], np.float32).reshape(len(hits), info.dim)
        if body.diversity:
            order = diversify([hit.score for hit in hits], segments, body.top_k, body.diversity)
            hits, segments = [hits[i] for i in order], segments[order]
        cosines = query.part_cosines(segments)
    else:
        # Of a query of one part the score is the cosine, turned round where the part is refused.
        cosines = np.array([[hit.score] for hit in hits]).reshape(-1, 1) * (1.0 if query.weights[0] > 0 else -1.0)
    fits = query.fits(cosines, services.engine.manifest.calibration)
    parts = cosines.tolist() if len(query.parts) > 1 else [None] * len(hits)
    shown = [_shown(collection, *one) for one in zip(hits, fits, parts, strict=True)]
    return answer_json(
        SearchResponse(
            hits=shown,
            query=[
                AppliedPart(text=part.text, item_id=part.item_id, weight=weight)
                for part, weight in zip(query.parts, query.weights, strict=True)
            ],
            identity=info.identity,
            took_ms=round((time.perf_counter() - began) * 1000, 3),
            truncated=query.truncated,
        )
    )


def _shown(collection: str, hit: FoundHit, probability: float | None, parts: list[float] | None) -> Hit:
    return Hit(
        id=hit.item_id,
        score=hit.score,
        match_probability=probability,
        parts=parts,
        segment=Segment(start_s=hit.start_s, end_s=hit.end_s),
        duration_s=hit.duration_s,
        metadata=hit.metadata,
        filename=hit.filename,
        audio_url=audio_url(collection, hit.item_id, hit.has_media),
    )
