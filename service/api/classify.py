"""Classification: clips against labels, or against the model's presets."""

from __future__ import annotations

from typing import Final

import numpy as np
from fastapi import APIRouter, Depends, Request
from numpy.typing import NDArray
from pydantic import TypeAdapter

from service.api.body import FILES_SCHEMA, Form, is_multipart, parse_json, read_form, read_json, uploaded_clip
from service.api.deps import ENGINE_CALL, ServicesDep, problems, request_body
from service.core.problems import ProblemError
from service.http.auth import require_read
from service.schemas import ClassifyRequest, ClassifyResponse, ClipLabels
from service.schemas.judging import ClassifyOptions, Labels
from service.usecases.checks import check_count, check_text
from service.usecases.clip_embedding import ClipSource, embed_clips, inline_clip
from service.usecases.scoring import classify as classify_vectors
from service.usecases.scoring import match_probability
from service.usecases.services import Services
from service.usecases.text_embedding import label_vectors

router = APIRouter(prefix="/v1", tags=["judging"])

_LABELS: Final = TypeAdapter(Labels)
_FORM: Final = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": FILES_SCHEMA,
        "preset": {"type": "string", "description": "A label set of the model.", "examples": ["emotion"]},
        "labels": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "JSON: a list of labels, or prompts by label.",
            "examples": ['["whispering", "shouting"]'],
        },
    },
}


@router.post(
    "/classify",
    dependencies=[Depends(require_read)],
    responses=problems(*ENGINE_CALL, "audio-too-large", "too-many-parts"),
    openapi_extra=request_body(ClassifyRequest, form=_FORM),
)
async def classify(request: Request, services: ServicesDep) -> ClassifyResponse:
    """Choose a label for each clip: probabilities at the model's temperature, and the cosines behind them."""
    most = services.settings.max_parts
    if is_multipart(request):
        async with read_form(request, fields=("preset", "labels"), max_files=most) as form:
            options = await _form_options(form)
            sources = [uploaded_clip(upload, f"files[{i}]", services) for i, upload in enumerate(form.files)]
            return await _classify(services, options, sources, services.deadline())
    body = await read_json(request, ClassifyRequest, multipart=True)
    if body.audio is not None:
        sources = [inline_clip(body.audio, "audio", services)]
    else:
        uris = body.inputs or []
        check_count("inputs", uris, most, slug="too-many-parts", setting="CLSP_MAX_PARTS")
        sources = [inline_clip(uri, f"inputs[{i}]", services) for i, uri in enumerate(uris)]
    return await _classify(services, body, sources, services.deadline())


async def _form_options(form: Form) -> ClassifyOptions:
    preset, labels = form.one("preset"), form.one("labels")
    if (preset is None) == (labels is None):
        raise ProblemError("invalid-request", "give either `preset` or `labels`", field="preset")
    if labels is None:
        return ClassifyOptions(preset=preset)
    prompts = await parse_json(labels, _LABELS, field="labels")
    return ClassifyOptions(labels=prompts)


def _prompts(services: Services, options: ClassifyOptions) -> dict[str, list[str]]:
    if options.labels is None:
        presets = services.engine.manifest.presets
        if options.preset not in presets:
            known = ", ".join(sorted(presets))
            detail = f"preset: {options.preset!r} is not one of this model's: {known}"
            raise ProblemError("invalid-request", detail, field="preset", limit=known)
        return presets[options.preset]
    settings = services.settings
    check_count("labels", options.labels, settings.max_labels, setting="CLSP_MAX_LABELS")
    # More than one request may bring elsewhere: several prompts a label are what makes labels work.
    check_count("labels", [text for texts in options.labels.values() for text in texts], services.engine.most_texts)
    for label, texts in options.labels.items():
        check_text("labels", label, settings)
        for text in texts:
            check_text(f"labels.{label[:80]}", text, settings)
    return options.labels


async def _classify(
    services: Services, options: ClassifyOptions, sources: list[ClipSource], deadline: float
) -> ClassifyResponse:
    labels = await label_vectors(services, _prompts(services, options), deadline)
    clips = await embed_clips(services, sources, deadline=deadline)
    pooled = np.stack([clip.result.pooled for clip in clips])
    probabilities, cosines = classify_vectors(pooled, labels.vectors, services.engine.manifest.logit_scale)
    return ClassifyResponse(
        results=[
            ClipLabels(
                label=labels.labels[int(odds.argmax())],
                probabilities=dict(zip(labels.labels, odds.tolist(), strict=True)),
                cosines=dict(zip(labels.labels, row.tolist(), strict=True)),
                match_probabilities=_matches(services, labels.labels, row),
                duration_s=clip.duration_s,
            )
            for clip, odds, row in zip(clips, probabilities, cosines, strict=True)
        ],
        identity=services.engine.identity,
        truncated=labels.truncated,
    )


def _matches(services: Services, labels: list[str], cosines: NDArray[np.float64]) -> dict[str, float] | None:
    """How likely each label is to describe the clip at all. A label says one thing: captions' map would flatter it."""
    fitted = services.engine.manifest.calibration.labels
    if fitted is None:
        return None
    return dict(zip(labels, match_probability(cosines, fitted).tolist(), strict=True))
