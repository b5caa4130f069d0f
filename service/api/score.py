"""Scoring: how well a clip fits its caption, as a whole, over time and by attribute. The same pair always scores the
same."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import TypeAdapter
from pydantic_core import from_json

from service.api.body import FILES_SCHEMA, Form, is_multipart, parse_json, read_form, read_json, uploaded_clip
from service.api.deps import ENGINE_CALL, ServicesDep, problems, request_body
from service.core.problems import ProblemError
from service.http.auth import require_read
from service.schemas import ScoreOptions, ScoreRequest, ScoreResponse
from service.usecases.checks import check_count
from service.usecases.clip_embedding import inline_clip
from service.usecases.score import score_pairs

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
            return await score_pairs(services, sources, captions, options, "caption[{}]")
    body = await read_json(request, ScoreRequest, multipart=True)
    check_count("pairs", body.pairs, settings.max_pairs, slug="too-many-parts")
    captions = [pair.caption for pair in body.pairs]
    sources = [inline_clip(pair.audio, f"pairs[{i}].audio", services) for i, pair in enumerate(body.pairs)]
    return await score_pairs(services, sources, captions, body, "pairs[{}].caption")


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
