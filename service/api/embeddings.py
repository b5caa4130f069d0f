"""Embeddings in OpenAI's shape, of text or audio."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from numpy.typing import NDArray

from service.api.body import read_json
from service.api.deps import ENGINE_CALL, ServicesDep, answer_json, problems, request_body
from service.api.direct import DirectRoute
from service.core.problems import ProblemError
from service.http.auth import require_read
from service.schemas import Embedding, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage
from service.usecases.checks import check_count, check_text
from service.usecases.clip_embedding import embed_clips, inline_clip
from service.usecases.services import Services
from service.usecases.text_embedding import embed_texts

router = APIRouter(prefix="/v1", tags=["embeddings"], route_class=DirectRoute)


@router.post(
    "/embeddings",
    dependencies=[Depends(require_read)],
    response_model=EmbeddingResponse,
    responses=problems(*ENGINE_CALL, "unknown-model", "dimension-mismatch", "audio-too-large", "too-many-parts"),
    openapi_extra=request_body(EmbeddingRequest),
)
async def create_embeddings(request: Request, services: ServicesDep) -> Response:
    """Embed texts, or clips with `modality: audio`. OpenAI's clients work unchanged."""
    body = await read_json(request, EmbeddingRequest)
    _check_model(body, services)
    tokens, truncated, deadline = 0, [], services.deadline()
    if body.modality == "audio":
        check_count("input", body.input, services.settings.max_parts, slug="too-many-parts", setting="CLSP_MAX_PARTS")
        sources = [inline_clip(uri, f"input[{i}]", services) for i, uri in enumerate(body.input)]
        vectors = [clip.result.pooled for clip in await embed_clips(services, sources, deadline=deadline)]
    else:
        check_count("input", body.input, services.settings.max_texts, setting="CLSP_MAX_TEXTS")
        texts = [check_text(f"input[{i}]", text, services.settings) for i, text in enumerate(body.input)]
        result = await embed_texts(services, texts, deadline)
        vectors = list(result.vectors)
        tokens, truncated = sum(result.tokens), [i for i, cut in enumerate(result.truncated) if cut]
    return answer_json(
        EmbeddingResponse(
            data=[
                Embedding(index=i, embedding=_encoded(vector, body.encoding_format)) for i, vector in enumerate(vectors)
            ],
            model=services.engine.manifest.name,
            usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
            identity=services.engine.identity,
            truncated=truncated,
        )
    )


def _check_model(body: EmbeddingRequest, services: Services) -> None:
    manifest = services.engine.manifest
    if body.model is not None and body.model != manifest.name:
        detail = f"model: {body.model[:80]!r} is not served here; {manifest.name!r} is"
        raise ProblemError("unknown-model", detail, field="model", limit=manifest.name)
    if body.dimensions is not None and body.dimensions != manifest.embedding_dim:
        detail = f"dimensions: this model has {manifest.embedding_dim}"
        raise ProblemError("dimension-mismatch", detail, field="dimensions", limit=manifest.embedding_dim)


def _encoded(vector: NDArray[np.float32], encoding: str) -> Any:
    if encoding == "base64":
        return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode("ascii")
    return vector.tolist()
