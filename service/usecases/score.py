"""Scoring: how well clips fit their captions, as a whole, over time and by attribute."""

from __future__ import annotations

from collections.abc import Sequence

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from service.schemas import CurvePoint, PairScore, ScoreOptions, ScoreResponse
from service.usecases.checks import check_text
from service.usecases.clip_embedding import ClipSource, EmbeddedClip, embed_clips
from service.usecases.curves import curve_policy
from service.usecases.score_details import CaptionParts, read_captions, score_attributes, score_sentences
from service.usecases.scoring import cosine, match_probability, mismatch_percentile, percentile
from service.usecases.services import ModelServices
from service.usecases.text_embedding import embed_texts, reference_vectors


async def score_pairs(
    services: ModelServices, sources: Sequence[ClipSource], captions: Sequence[str], options: ScoreOptions, field: str
) -> ScoreResponse:
    """Score each clip against the caption at its position; `field` names a caption by its position ("caption[{}]").

    Raises ProblemError where the request asks for too much, AudioError for a clip, and the engine's errors.
    """
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
            pair_score(services, clip, vector, references, own, options)
            for clip, vector, own in zip(clips, texts.vectors, parts, strict=True)
        ]

    return ScoreResponse(
        # Many sentences over many windows take a tenth of a second a pair.
        results=await anyio.to_thread.run_sync(results) if options.sentences else results(),
        identity=services.engine.identity,
        truncated=[i for i, cut in enumerate(texts.truncated) if cut],
    )


def pair_score(
    services: ModelServices,
    clip: EmbeddedClip,
    caption: NDArray[np.float32],
    references: NDArray[np.float32] | None,
    parts: CaptionParts,
    options: ScoreOptions,
) -> PairScore:
    """One clip against one caption [D]; `references` [n, D] are what a bundle without percentiles compares with."""
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
        percentile=percentile_of(services, value, whole, references),
        duration_s=clip.duration_s,
        curve=points,
        sentences=sentences,
        turns=turns,
        attributes=score_attributes(services, parts, whole, windows) if options.attributes else None,
    )


def percentile_of(
    services: ModelServices, value: float, whole: NDArray[np.float32], references: NDArray[np.float32] | None
) -> float | None:
    """Among mismatched pairs that were held out; with a bundle that has no table of them, among reference captions."""
    table = services.engine.manifest.calibration.mismatched_percentiles
    if table is not None:
        return mismatch_percentile(value, table)
    return percentile(value, cosine(whole, references)) if references is not None and len(references) else None
