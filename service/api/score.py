"""Scoring: how well a clip fits its caption. The same pair scores the same, always."""

from __future__ import annotations

from typing import Final

import numpy as np
from fastapi import APIRouter, Depends, Request
from numpy.typing import NDArray
from pydantic import TypeAdapter

from service.api.body import FILES_SCHEMA, Form, is_multipart, parse_json, read_form, read_json
from service.api.clips import ClipSource, EmbeddedClip, embed_clips, inline_clip, uploaded_clip
from service.api.deps import (
    ENGINE_CALL,
    Services,
    ServicesDep,
    check_count,
    check_text,
    problems,
    request_body,
)
from service.api.prompts import embed_texts, reference_vectors
from service.errors import ProblemError
from service.schemas import CurvePoint, PairScore, ScoreRequest, ScoreResponse
from service.scoring import cosine, match_probability, percentile
from service.security import require_read

router = APIRouter(prefix="/v1", tags=["judging"])

_BOOL: Final = TypeAdapter(bool)
_FORM: Final = {
    "type": "object",
    "required": ["files", "caption"],
    "properties": {
        "files": FILES_SCHEMA,
        "caption": {
            "type": "array",
            "items": {"type": "string"},
            "description": "One caption for all clips, or one a clip in the same order.",
            "examples": [["an old man whispers"]],
        },
        "curve": {"type": "boolean", "description": "Whether to answer with the cosine of each window too."},
    },
}


@router.post(
    "/score",
    dependencies=[Depends(require_read)],
    responses=problems(*ENGINE_CALL, "audio-too-large", "too-many-parts"),
    openapi_extra=request_body(ScoreRequest, form=_FORM),
)
async def score(request: Request, services: ServicesDep) -> ScoreResponse:
    """Score clips against captions: cosine, calibrated match probability, percentile against mismatched captions."""
    settings = services.settings
    if is_multipart(request):
        most = min(settings.max_parts, settings.max_pairs)
        async with read_form(request, fields=("caption", "curve"), max_files=most) as form:
            sources = [uploaded_clip(upload, f"files[{i}]", services) for i, upload in enumerate(form.files)]
            captions = _form_captions(form)
            curve = await parse_json(form.one("curve") or "false", _BOOL, field="curve")
            _check_captions(services, captions, "caption[{}]")
            return await _score(services, sources, captions, curve, services.deadline())
    body = await read_json(request, ScoreRequest, multipart=True)
    check_count("pairs", body.pairs, settings.max_pairs, slug="too-many-parts")
    captions = [pair.caption for pair in body.pairs]
    _check_captions(services, captions, "pairs[{}].caption")
    sources = [inline_clip(pair.audio, f"pairs[{i}].audio", services) for i, pair in enumerate(body.pairs)]
    return await _score(services, sources, captions, body.curve, services.deadline())


def _form_captions(form: Form) -> list[str]:
    captions, count = form.fields.get("caption", []), len(form.files)
    if len(captions) == 1:
        return captions * count
    if len(captions) != count:
        detail = f"caption: {len(captions)} given for {count} files; give one for all, or one a file"
        raise ProblemError("invalid-request", detail, field="caption", limit=count)
    return captions


def _check_captions(services: Services, captions: list[str], field: str) -> None:
    for i, caption in enumerate(captions):
        check_text(field.format(i), caption, services.settings)


async def _score(
    services: Services, sources: list[ClipSource], captions: list[str], curve: bool, deadline: float
) -> ScoreResponse:
    texts = await embed_texts(services, captions, deadline)
    references = await reference_vectors(services, deadline)
    clips = await embed_clips(services, sources, deadline=deadline)
    return ScoreResponse(
        results=[
            _pair_score(services, clip, vector, references, curve)
            for clip, vector in zip(clips, texts.vectors, strict=True)
        ],
        identity=services.engine.identity,
        truncated=[i for i, cut in enumerate(texts.truncated) if cut],
    )


def _pair_score(
    services: Services,
    clip: EmbeddedClip,
    caption: NDArray[np.float32],
    references: NDArray[np.float32],
    curve: bool,
) -> PairScore:
    value = float(cosine(clip.result.pooled, caption)[0, 0])
    points = None
    if curve:
        over_time = cosine(clip.result.vectors, caption)[:, 0].tolist()
        points = [
            CurvePoint(start_s=start_s, end_s=end_s, cosine=one)
            for (start_s, end_s), one in zip(clip.result.windows, over_time, strict=True)
        ]
    return PairScore(
        cosine=value,
        match_probability=float(match_probability(value, services.engine.manifest.calibration)),
        percentile=percentile(value, cosine(clip.result.pooled, references)) if len(references) else None,
        duration_s=clip.duration_s,
        curve=points,
    )
