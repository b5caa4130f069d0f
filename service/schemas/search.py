"""Search: by text, by clip, by item or by vector, mixed with weights, some of them negative."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema

from service.schemas.common import (
    EXAMPLE_IDENTITY,
    AudioUri,
    ItemId,
    Listed,
    RequestModel,
    ResponseModel,
    Segment,
    Vector,
    answer,
    example,
)
from service.style.negation import read_wish

LONGEST_WISH: Final = 1 << 15
"""Characters of a text that is read for what it refuses: a longer one says no wish, and is refused for its length."""
_SOURCES: Final = ("text", "audio", "item_id", "vector")
_HIT: Final[dict[str, Any]] = {
    "id": "a01",
    "score": 0.41,
    "match_probability": 0.83,
    "segment": {"start_s": 0.0, "end_s": 7.4},
    "duration_s": 7.4,
    "metadata": {"gender": "female", "age": 61},
    "filename": "a01.wav",
    "audio_url": "/v1/collections/voices/items/a01/audio",
}


class QueryPart(RequestModel):
    """One thing that hits should sound like, or should not. Exactly one of text, audio, item_id and vector."""

    model_config = example({"text": "a calm older woman, speaking slowly", "weight": 1.0})

    text: str | None = Field(None, description="How it sounds, in words.")
    audio: AudioUri | None = Field(None, description="A clip that it sounds like, as a `data:` URI.")
    item_id: ItemId | None = Field(None, description="An item of the collection that it sounds like.")
    vector: Vector | None = Field(None, description="An embedding of `POST /v1/embeddings`.")
    aspect: Literal["all", "style"] = Field(
        "all",
        description="Of a clip or item: `style` compares only how it is spoken, whoever speaks; `all` the voice too.",
    )
    weight: float = Field(
        1.0,
        ge=-1000,
        le=1000,
        allow_inf_nan=False,
        description="Share in the query; a negative one pushes hits away from this. Beside clips, items or vectors the "
        "weights of texts are tripled: a balance that was measured.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> QueryPart:
        if sum(getattr(self, name) is not None for name in _SOURCES) != 1:
            raise ValueError(f"a part has exactly one of {', '.join(_SOURCES)}")
        if self.aspect == "style" and self.audio is None and self.item_id is None:
            raise ValueError("`aspect` is of audio and items")
        return self

    @field_validator("weight")
    @classmethod
    def _counts(cls, weight: float) -> float:
        if weight == 0:
            raise ValueError("a part of weight 0 says nothing")
        return weight


def _as_parts(value: Any) -> Any:
    if isinstance(value, dict | str):
        value = [value]
    if not isinstance(value, list):
        return value
    return [part for given in value for part in (_read(given) if isinstance(given, str) else [given])]


def _read(text: str) -> list[dict[str, Any]]:
    wishes = read_wish(text) if len(text) <= LONGEST_WISH else [(text, 1.0)]
    return [{"text": part, "weight": weight} for part, weight in wishes]


class _OrText:
    """Tells the OpenAPI page that a text may stand for the list."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        description = (
            "A text, or a list of parts with weights. A text, alone or in the list, is read for what it refuses "
            "(`calm, not whispering`); parts are taken as they are."
        )
        parts = handler(schema)
        listed = {**parts, "items": {"anyOf": [{"type": "string"}, parts["items"]]}}
        return {"anyOf": [{"type": "string"}, listed], "description": description}


Query = Annotated[Listed[QueryPart], BeforeValidator(_as_parts), Field(min_length=1), _OrText()]


class SearchRequest(RequestModel):
    """Find the items whose best segment is nearest to the query."""

    model_config = example({"query": "a calm older woman, speaking slowly", "filter": {"age": {"gte": 50}}, "top_k": 5})

    query: Query
    filter: dict[str, Any] | None = Field(
        None,
        description='Which items count: `{"gender": "female"}`, `{"age": {"gte": 40, "lt": 60}}`; operators are eq, '
        "ne, in, nin, gt, gte, lt, lte, exists and contains; `all`, `any` and `not` combine.",
        examples=[{"gender": "female", "age": {"gte": 40}}],
    )
    top_k: int = Field(10, ge=1, description="Maximum number of hits.")
    min_score: float | None = Field(None, ge=-1, le=1, allow_inf_nan=False, description="Minimum cosine of a hit.")
    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much hits should differ from each other (maximal marginal relevance); 0 ranks by score alone.",
    )
    effort: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="How many lists of an approximate index are looked into; more finds more and takes longer. Left "
        "out: what the index was tuned to. Collections that are searched exactly ignore it.",
    )
    include_query_item: bool = Field(False, description="Whether items that the query names may be hits themselves.")


class Hit(ResponseModel):
    """An item, scored by its best segment."""

    model_config = answer(_HIT)

    id: str
    score: float = Field(description="Cosine between the query and the segment, -1 to 1.")
    match_probability: float | None = Field(
        description="Calibrated probability that the segment fits the query's texts, and none that is refused, 0 to 1. "
        "Null for a query without texts: it is calibrated for captions, and clips are alike on another scale."
    )
    parts: list[float] | None = Field(
        None, description="Cosine of the segment with each part of a query of several, in their order."
    )
    segment: Segment
    duration_s: float
    metadata: dict[str, Any]
    filename: str | None
    audio_url: str | None = Field(description="Where the kept audio is served.")


class AppliedPart(ResponseModel):
    """A part of the query as it was searched for; without text and item it was a clip or a vector."""

    model_config = answer({"text": "whispering", "item_id": None, "weight": -0.5})

    text: str | None
    item_id: str | None
    weight: float


class SearchResponse(ResponseModel):
    """Hits, best first; equal scores by id. With `diversity`, in the order in which they were chosen."""

    model_config = answer(
        {
            "hits": [_HIT],
            "query": [{"text": "a calm older woman, speaking slowly", "item_id": None, "weight": 1.0}],
            "identity": EXAMPLE_IDENTITY,
            "took_ms": 4.2,
            "truncated": False,
        }
    )

    hits: list[Hit]
    query: list[AppliedPart] = Field(description="The query as it was read: its parts and their weights.")
    identity: str
    took_ms: float = Field(description="Time inside the service, milliseconds.")
    truncated: bool = Field(description="Whether a text of the query was cut at the model's length.")
