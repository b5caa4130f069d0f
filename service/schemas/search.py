"""Search: by text, by clip, by item or by vector, mixed with weights."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from service.schemas.common import (
    EXAMPLE_IDENTITY,
    AudioUri,
    ItemId,
    RequestModel,
    ResponseModel,
    Segment,
    Vector,
    answer,
    example,
)

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
    """One thing that hits should sound like. Exactly one of text, audio, item_id and vector."""

    model_config = example({"text": "a calm older woman, speaking slowly", "weight": 1.0})

    text: str | None = None
    audio: AudioUri | None = None
    item_id: ItemId | None = None
    vector: Vector | None = None
    weight: float = Field(1.0, gt=0, le=1000, allow_inf_nan=False, description="Share in the query.")

    @model_validator(mode="after")
    def _one_source(self) -> QueryPart:
        if sum(getattr(self, name) is not None for name in _SOURCES) != 1:
            raise ValueError(f"a part has exactly one of {', '.join(_SOURCES)}")
        return self


def _as_parts(value: Any) -> Any:
    return [{"text": value}] if isinstance(value, str) else value


class _OrText:
    """Tells the OpenAPI page that a text may stand for the list."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(schema)], "description": "A text, or weighted parts."}


Query = Annotated[list[QueryPart], BeforeValidator(_as_parts), Field(min_length=1), _OrText()]


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
    top_k: int = Field(10, ge=1, description="Most hits.")
    min_score: float | None = Field(None, ge=-1, le=1, allow_inf_nan=False, description="Least cosine of a hit.")
    include_query_item: bool = Field(False, description="Whether items that the query names may be hits themselves.")


class Hit(ResponseModel):
    """An item, scored by its best segment."""

    model_config = answer(_HIT)

    id: str
    score: float = Field(description="Cosine between the query and the segment, -1 to 1.")
    match_probability: float = Field(description="Calibrated probability that the segment fits the query, 0 to 1.")
    segment: Segment
    duration_s: float
    metadata: dict[str, Any]
    filename: str | None
    audio_url: str | None = Field(description="Where the kept audio is served.")


class SearchResponse(ResponseModel):
    """Hits, best first; equal scores by id."""

    model_config = answer(
        {
            "hits": [_HIT],
            "identity": EXAMPLE_IDENTITY,
            "took_ms": 4.2,
            "truncated": False,
        }
    )

    hits: list[Hit]
    identity: str
    took_ms: float = Field(description="Time inside the service, milliseconds.")
    truncated: bool = Field(description="Whether a text of the query was cut at the model's length.")
