"""Collections: speech libraries bound to one embedding identity."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from service.schemas.common import EXAMPLE_IDENTITY, RequestModel, ResponseModel, answer, example

_COLLECTION: Final[dict[str, Any]] = {
    "name": "voices",
    "description": "Voices of the audiobook catalogue",
    "dim": 384,
    "identity": EXAMPLE_IDENTITY,
    "items": 40,
    "segments": 52,
    "metadata_fields": ["age", "gender"],
    "created_at": "2026-01-05T10:00:00Z",
}


class CollectionRequest(RequestModel):
    """Create a collection. Repeating the call changes nothing; other dimensions or identities are refused."""

    model_config = example({"description": "Voices of the audiobook catalogue"})

    description: str = Field("", max_length=1000, description="What the collection holds.")
    dim: int | None = Field(None, ge=1, le=65536, description="Length of its vectors; left out, that of the model.")
    identity: str | None = Field(
        None, max_length=512, description="Embedding identity its vectors have; left out, that of the model."
    )


class CollectionInfo(ResponseModel):
    """A collection."""

    model_config = answer(_COLLECTION)

    name: str
    description: str
    dim: int = Field(description="Length of its vectors.")
    identity: str = Field(description="What made its vectors: model, precision, decoding and window policy.")
    items: int = Field(description="Clips in it.")
    segments: int = Field(description="Windows of those clips, each with a vector.")
    metadata_fields: list[str] = Field(description="Fields that at least one item has, to filter by.")
    created_at: str = Field(description="RFC 3339, UTC.")


class CollectionList(ResponseModel):
    """All collections, by name."""

    model_config = answer({"data": [_COLLECTION]})

    data: list[CollectionInfo]
