"""Scoring: how well a clip fits its caption, as a whole, over time and by attribute. The same pair always scores the
same."""

from __future__ import annotations

import json
from typing import Any, Final

import anyio.to_thread
import numpy as np
from fastapi import APIRouter, Depends, Request
from numpy.typing import NDArray
from pydantic import TypeAdapter
from pydantic_core import from_json

from service.api.body import FILES_SCHEMA, Form, is_multipart, parse_json, read_form, read_json
from service.api.deps import (
    ENGINE_CALL,
    Services,
    ServicesDep,
    check_count,
    check_text,
    problems,
    request_body,
)
from service.core.problems import ProblemError
from service.http.auth import require_read
from service.schemas import CurvePoint, PairScore, ScoreOptions, ScoreRequest, ScoreResponse
from service.usecases.clip_embedding import ClipSource, EmbeddedClip, embed_clips, inline_clip, uploaded_clip
from service.usecases.curves import curve_policy
from service.usecases.score_details import CaptionParts, read_captions, score_attributes, score_sentences
from service.usecases.scoring import cosine, match_probability, mismatch_percentile, percentile
from service.usecases.text_embedding import embed_texts, reference_vectors

router = APIRouter(prefix="/v1", tags=["judging"])

_OPTIONS: Final = TypeAdapter(ScoreOptions)
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
        **ScoreOptions.model_json_schema()["properties"],
    },
}


@router.post(
    "/score",
    dependencies=[Depends(require_read)],
    responses=problems(*ENGINE_CALL, "audio-too-large", "too-many-parts"),
    openapi_extra=request_body(ScoreRequest, form=_FORM),
)
async def score(request: Request, services: ServicesDep) -> ScoreResponse:
    """Score clips against captions: cosine, calibrated match probability, percentile against mismatched captions.

    On request also over time, sentence by sentence, and attribute by attribute.
    """
    settings = services.settings
    if is_multipart(request):
        most = min(settings.max_parts, settings.max_pairs)
        fields = ("caption", *ScoreOptions.model_fields)
        async with read_form(request, fields=fields, max_files=most) as form:
            sources = [uploaded_clip(upload, f"files[{i}]", services) for i, upload in enumerate(form.files)]
            captions = _form_captions(form)
            options = await _form_options(form)
            return await _score(services, sources, captions, options, "caption[{}]")
    body = await read_json(request, ScoreRequest, multipart=True)
    check_count("pairs", body.pairs, settings.max_pairs, slug="too-many-parts")
    captions = [pair.caption for pair in body.pairs]
    sources = [inline_clip(pair.audio, f"pairs[{i}].audio", services) for i, pair in enumerate(body.pairs)]
    return await _score(services, sources, captions, body, "pairs[{}].caption")


def _form_captions(form: Form) -> list[str]:
    captions, count = form.fields.get("caption", []), len(form.files)
    if len(captions) == 1:
        return captions * count
    if len(captions) != count:
        detail = f"caption: {len(captions)} given for {count} files; give one for all, or one a file"
        raise ProblemError("invalid-request", detail, field="caption", limit=count)
    return captions


async def _form_options(form: Form) -> ScoreOptions:
    given: dict[str, Any] = {}
    for name in ScoreOptions.model_fields:
        text = form.one(name)
        if text is None:
            continue
        try:
            given[name] = from_json(text)
        except ValueError as error:
            detail = f"{name}: write it as JSON, such as true or 2.5"
            raise ProblemError("invalid-request", detail, field=name) from error
    return await parse_json(json.dumps(given), _OPTIONS)


async def _score(
    services: Services, sources: list[ClipSource], captions: list[str], options: ScoreOptions, field: str
) -> ScoreResponse:
    """Score each clip against the caption at its position; `field` names a caption by its position."""
    for i, caption in enumerate(captions):
        check_text(field.format(i), caption, services.settings)
    curve_policy(services, options, 0)  # what is wrong with the windows is said before any work
    deadline = services.deadline()
    texts = await embed_texts(services, captions, deadline)
    fitted = services.engine.manifest.calibration.mismatched_percentiles is not None
    references = None if fitted else await reference_vectors(services, deadline)
    parts = await read_captions(services, captions, options, field, deadline)
    curves = [curve_policy(services, options, len(own.sentences)) for own in parts]
    clips = await embed_clips(services, sources, deadline=deadline, curves=curves)

    def results() -> list[PairScore]:
        return [
            _pair_score(services, clip, vector, references, own, options)
            for clip, vector, own in zip(clips, texts.vectors, parts, strict=True)
        ]

    return ScoreResponse(
        # Many sentences over many windows take a tenth of a second a pair.
        results=await anyio.to_thread.run_sync(results) if options.sentences else results(),
        identity=services.engine.identity,
        truncated=[i for i, cut in enumerate(texts.truncated) if cut],
    )


def _pair_score(
    services: Services,
    clip: EmbeddedClip,
    caption: NDArray[np.float32],
    references: NDArray[np.float32] | None,
    parts: CaptionParts,
    options: ScoreOptions,
) -> PairScore:
    whole = clip.result.pooled
    value = float(cosine(whole, caption)[0, 0])
    windows = clip.curve or clip.result
    points = None
    if options.curve or options.sentences:
        over_time = cosine(windows.vectors, caption)[:, 0].tolist()
        points = [
            CurvePoint(start_s=start_s, end_s=end_s, cosine=one)
            for (start_s, end_s), one in zip(windows.windows, over_time, strict=True)
        ]
    sentences, turns = score_sentences(services, parts, whole, windows) if options.sentences else (None, None)
    return PairScore(
        cosine=value,
        match_probability=float(match_probability(value, services.engine.manifest.calibration)),
        percentile=_percentile(services, value, whole, references),
        duration_s=clip.duration_s,
        curve=points,
        sentences=sentences,
        turns=turns,
        attributes=score_attributes(services, parts, whole, windows) if options.attributes else None,
    )


def _percentile(
    services: Services, value: float, whole: NDArray[np.float32], references: NDArray[np.float32] | None
) -> float | None:
    """Among mismatched pairs that were held out; with a bundle that has no table of them, among reference captions."""
    table = services.engine.manifest.calibration.mismatched_percentiles
    if table is not None:
        return mismatch_percentile(value, table)
    return percentile(value, cosine(whole, references)) if references is not None and len(references) else None
