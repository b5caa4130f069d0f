"""A score taken apart: the caption's sentences over time, and its attributes against their opposites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from service.core.problems import ProblemError
from service.engine import ClipResult
from service.schemas import AttributeScore, ScoreOptions, Segment, SentenceScore, TurnScore
from service.style.claims import Claim, prompts, read_claims, subject
from service.style.drill import FamilyCosines, judge_claims
from service.style.lexicon import BY_NAME
from service.style.moments import Sentence, find_turns, holds, spans, split_caption
from service.usecases.scoring import cosine, match_probability
from service.usecases.services import ModelServices
from service.usecases.text_embedding import LabelVectors, embed_texts, label_vectors

Vectors = NDArray[np.float32]
LEAST_GAP_LOGITS = 1.0
"""Two levels of a curve closer than this are one: the odds of an e-fold are within the wobble of short windows."""


@dataclass(frozen=True)
class CaptionParts:
    """A caption taken apart and embedded: sentences with vectors [k, D], claims with their families' label vectors."""

    sentences: list[Sentence]
    sentence_vectors: Vectors
    claims: list[Claim]
    families: dict[str, LabelVectors]


async def read_captions(
    services: ModelServices, captions: Sequence[str], options: ScoreOptions, field: str, deadline: float
) -> list[CaptionParts]:
    """Take captions apart as far as `options` ask, each distinct one once; `field` names one by its position.

    Raises ProblemError for too many sentences, and the engine's errors.
    """
    parts: dict[str, CaptionParts] = {}
    for i, caption in enumerate(captions):
        if caption not in parts:
            parts[caption] = await _read_caption(services, caption, options, field.format(i), deadline)
    return [parts[caption] for caption in captions]


async def _read_caption(
    services: ModelServices, caption: str, options: ScoreOptions, field: str, deadline: float
) -> CaptionParts:
    empty = np.zeros((0, services.engine.manifest.embedding_dim), np.float32)
    if not (options.sentences or options.attributes):
        return CaptionParts([], empty, [], {})
    # In a thread, because a long caption takes tens of milliseconds.
    claims, who, sentences = await anyio.to_thread.run_sync(_take_apart, caption, options.sentences)
    most = services.settings.max_texts
    if len(sentences) > most:
        detail = f"{field}: {len(sentences)} sentences; at most {most} are accepted"
        raise ProblemError("limit-exceeded", detail, field=field, limit=most)
    vectors = (await embed_texts(services, [one.prompt for one in sentences], deadline)).vectors if sentences else empty
    if not options.attributes:
        return CaptionParts(sentences, vectors, [], {})
    families = {
        name: await label_vectors(services, prompts(BY_NAME[name], who), deadline)
        for name in dict.fromkeys(claim.family for claim in claims)
    }
    return CaptionParts(sentences, vectors, claims, families)


def _take_apart(caption: str, into_sentences: bool) -> tuple[list[Claim], str, list[Sentence]]:
    claims = read_claims(caption)
    who = subject(claims)
    return claims, who, split_caption(caption, who) if into_sentences else []


def score_sentences(
    services: ModelServices, parts: CaptionParts, whole: Vectors, curve: ClipResult
) -> tuple[list[SentenceScore], list[TurnScore]]:
    """Each sentence over the curve's windows, and when one gives way to the next."""
    if not parts.sentences:
        return [], []
    manifest = services.engine.manifest
    table = cosine(parts.sentence_vectors, curve.vectors)
    together = cosine(parts.sentence_vectors, whole)[:, 0]
    likely = match_probability(together, manifest.calibration) >= 0.5
    gap = LEAST_GAP_LOGITS / manifest.logit_scale
    scores = [
        SentenceScore(
            text=sentence.text,
            cosine=float(value),
            curve=row.tolist(),
            holds=_segments(spans(curve.windows, holds(row, least_gap=gap, throughout=bool(throughout)))),
        )
        for sentence, row, value, throughout in zip(parts.sentences, table, together, likely, strict=True)
    ]
    turns = find_turns(table, curve.windows, manifest.logit_scale)
    return scores, [
        TurnScore(at_s=turn.at_s, before=turn.before, after=turn.after, strength=turn.strength) for turn in turns
    ]


def score_attributes(
    services: ModelServices, parts: CaptionParts, whole: Vectors, curve: ClipResult
) -> list[AttributeScore]:
    """Each claim against its opposites, the least fitting first."""
    cosines = {
        name: FamilyCosines(
            dict(zip(family.labels, cosine(family.vectors, whole)[:, 0].tolist(), strict=True)),
            dict(zip(family.labels, cosine(family.vectors, curve.vectors), strict=True)),
        )
        for name, family in parts.families.items()
    }
    return [
        AttributeScore(
            family=score.claim.family,
            value=score.claim.value,
            phrase=score.claim.phrase,
            negated=score.claim.negated,
            margin=score.margin,
            probability=score.probability,
            heard=score.heard,
            cosines=score.cosines,
        )
        for score in judge_claims(parts.claims, cosines, services.engine.manifest.logit_scale)
    ]


def _segments(found: Sequence[tuple[float, float]]) -> list[Segment]:
    return [Segment(start_s=start, end_s=end) for start, end in found]
