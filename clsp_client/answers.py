"""The API's answers as types. They are its JSON, unchanged: members that a newer service adds are there too."""

from __future__ import annotations

from typing import Any, TypedDict


class Segment(TypedDict):
    """A stretch of a clip, seconds from its beginning."""

    start_s: float
    end_s: float


class Model(TypedDict):
    """The served model."""

    id: str
    version: str
    licence: str
    identity: str
    scoring: str
    embedding_dim: int
    sample_rate: int
    window_s: float
    hop_s: float
    min_s: float
    max_tokens: int
    logit_scale: float
    presets: dict[str, list[str]]


class Collection(TypedDict):
    """A speech library."""

    name: str
    description: str
    dim: int
    identity: str
    items: int
    segments: int
    metadata_fields: list[str]
    created_at: str


class Item(TypedDict):
    """A clip of a collection."""

    id: str
    metadata: dict[str, Any]
    duration_s: float
    segments: int
    filename: str | None
    content_sha256: str
    has_audio: bool
    audio_url: str | None
    created_at: str
    updated_at: str


class ItemPage(TypedDict):
    """One page of items; `next_cursor` is None on the last."""

    data: list[Item]
    next_cursor: str | None


class AddedItem(TypedDict):
    """What became of one clip; `created` is False where it replaced another."""

    id: str
    created: bool
    segments: int
    duration_s: float


class AddedItems(TypedDict):
    """Clips that are on disk now."""

    items: list[AddedItem]
    identity: str


class Job(TypedDict):
    """A bulk ingest on the server. `done` is the sum of the five outcomes; `total` is None until it is listed."""

    id: str
    collection: str
    kind: str
    path: str
    state: str
    revision: int
    total: int | None
    done: int
    added: int
    replaced: int
    relabelled: int
    unchanged: int
    refused: int
    encoded: int
    audio_s: float
    error: dict[str, Any] | None
    identity: str
    created_at: str
    started_at: str | None
    ended_at: str | None


class JobPage(TypedDict):
    """One page of jobs, latest first; `next_cursor` is None on the last."""

    data: list[Job]
    next_cursor: str | None


class RefusedClip(TypedDict):
    """A clip that a job refused: its place in the source, and why."""

    number: int
    file: str
    id: str | None
    error: dict[str, Any]


class Hit(TypedDict):
    """An item found, scored by its best segment; `match_probability` is None for a query without texts."""

    id: str
    score: float
    match_probability: float | None
    parts: list[float] | None
    segment: Segment
    duration_s: float
    metadata: dict[str, Any]
    filename: str | None
    audio_url: str | None


class AppliedPart(TypedDict):
    """A part of a query as it was searched for."""

    text: str | None
    item_id: str | None
    weight: float


class Hits(TypedDict):
    """Hits, best first; `query` is how it was read."""

    hits: list[Hit]
    query: list[AppliedPart]
    identity: str
    took_ms: float
    truncated: bool


class ClipLabels(TypedDict):
    """The label of one clip, and the odds, cosines and matches of all; the last are None with some models."""

    label: str
    probabilities: dict[str, float]
    cosines: dict[str, float]
    match_probabilities: dict[str, float] | None
    duration_s: float


class Labels(TypedDict):
    """One result a clip."""

    results: list[ClipLabels]
    identity: str
    truncated: list[str]


class CurvePoint(Segment):
    """The cosine of one window."""

    cosine: float


class SentenceScore(TypedDict):
    """One sentence of a caption: how well the clip as a whole fits it, and when it holds."""

    text: str
    cosine: float
    curve: list[float]
    holds: list[Segment]


class AttributeScore(TypedDict):
    """One attribute that a caption claims, against its opposites. Below 0 an opposite fits the clip better."""

    family: str
    value: str
    phrase: str
    negated: bool
    margin: float
    probability: float
    heard: str
    cosines: dict[str, float]


class Turn(TypedDict):
    """The moment at which one sentence gives way to the next."""

    at_s: float
    before: int
    after: int
    strength: float


class PairScore(TypedDict):
    """How well a clip fits its caption. The last four are None unless asked for."""

    cosine: float
    match_probability: float
    percentile: float | None
    duration_s: float
    curve: list[CurvePoint] | None
    sentences: list[SentenceScore] | None
    turns: list[Turn] | None
    attributes: list[AttributeScore] | None


class Scores(TypedDict):
    """One result a pair."""

    results: list[PairScore]
    identity: str
    truncated: list[int]


class Embedding(TypedDict):
    """One vector; base64 of little-endian float32 where that was asked for."""

    object: str
    index: int
    embedding: list[float]


class Embeddings(TypedDict):
    """Vectors in OpenAI's shape, with the identity under which they compare."""

    object: str
    data: list[Embedding]
    model: str
    usage: dict[str, int]
    identity: str
    truncated: list[int]
