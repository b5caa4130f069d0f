"""Items: the clips of a collection and their metadata."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field, model_validator

from service.schemas.common import (
    EXAMPLE_AUDIO,
    EXAMPLE_IDENTITY,
    AudioUri,
    ItemId,
    Listed,
    Metadata,
    RequestModel,
    ResponseModel,
    Vector,
    answer,
    example,
)

_ITEM: Final[dict[str, Any]] = {
    "id": "a01",
    "metadata": {"gender": "female", "age": 61},
    "duration_s": 7.4,
    "segments": 1,
    "filename": "a01.wav",
    "content_sha256": "9f2c51d07a4e5d0e2a6f2b1d9c0f6a3b8e7d4c1b0a9f8e7d6c5b4a3f2e1d0c9b",
    "has_audio": True,
    "audio_url": "/v1/collections/voices/items/a01/audio",
    "created_at": "2026-01-05T10:00:00Z",
    "updated_at": "2026-01-05T10:00:00Z",
}


class NewItem(RequestModel):
    """A clip to add or replace: its audio, or a vector that the same model made elsewhere."""

    model_config = example({"id": "a01", "audio": EXAMPLE_AUDIO, "metadata": {"gender": "female", "age": 61}})

    id: ItemId | None = Field(None, description="Left out, the file's name, or else the start of its SHA-256.")
    audio: AudioUri | None = None
    embedding: Vector | None = None
    identity: str | None = Field(None, max_length=512, description="With `embedding`: the identity it was made under.")
    duration_s: float | None = Field(
        None, gt=0, le=1e7, allow_inf_nan=False, description="With `embedding`: seconds of the clip it describes."
    )
    filename: str | None = Field(None, max_length=255, description="Shown with hits.")
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> NewItem:
        if (self.audio is None) == (self.embedding is None):
            raise ValueError("an item has either `audio` or `embedding`")
        if self.embedding is not None and (self.identity is None or self.duration_s is None):
            raise ValueError("`embedding` needs `identity` and `duration_s` beside it")
        if self.audio is not None and (self.identity is not None or self.duration_s is not None):
            raise ValueError("`identity` and `duration_s` belong to `embedding`; those of `audio` are found out")
        return self


class AddItemsRequest(RequestModel):
    """Clips to add or replace, all of them or none."""

    model_config = example({"items": [{"id": "a01", "audio": EXAMPLE_AUDIO, "metadata": {"gender": "female"}}]})

    items: Listed[NewItem] = Field(min_length=1)


class FileMetadata(RequestModel):
    """Id, name and metadata of one uploaded file."""

    model_config = example({"file": "a01.wav", "id": "a01", "metadata": {"gender": "female"}})

    file: str = Field(max_length=1024, description="Name of the file as uploaded.")
    id: ItemId | None = Field(None, description="Left out, the file's name.")
    filename: str | None = Field(
        None,
        max_length=1024,
        description="The file's own name, shown with hits, where it was uploaded under another: since two files have "
        "one name, or no form can carry it.",
    )
    metadata: Metadata = Field(default_factory=dict)


class FormMetadata(RequestModel):
    """The form field `metadata` when files differ: one entry a file."""

    model_config = example({"items": [{"file": "a01.wav", "id": "a01", "metadata": {"gender": "female"}}]})

    items: Listed[FileMetadata]


class AddedItem(ResponseModel):
    """What became of one clip."""

    model_config = answer({"id": "a01", "created": True, "segments": 1, "duration_s": 7.4})

    id: str
    created: bool = Field(description="False where it replaced an item of the same id.")
    segments: int = Field(description="Windows it was cut into.")
    duration_s: float


class AddItemsResponse(ResponseModel):
    """The clips are on disk: a crash after this answer loses none."""

    model_config = answer(
        {
            "items": [{"id": "a01", "created": True, "segments": 1, "duration_s": 7.4}],
            "identity": EXAMPLE_IDENTITY,
        }
    )

    items: list[AddedItem]
    identity: str


class Item(ResponseModel):
    """A clip of a collection."""

    model_config = answer(_ITEM)

    id: str
    metadata: dict[str, Any]
    duration_s: float
    segments: int
    filename: str | None
    content_sha256: str = Field(description="Of the uploaded bytes: unchanged content need not be sent again.")
    has_audio: bool
    audio_url: str | None = Field(description="Where the kept audio is served.")
    created_at: str
    updated_at: str


class ItemPage(ResponseModel):
    """One page of items, by id."""

    model_config = answer({"data": [_ITEM], "next_cursor": None})

    data: list[Item]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last.")


class PatchItemRequest(RequestModel):
    """Metadata edits (RFC 7396): members replace those of the same name, null removes one."""

    model_config = example({"metadata": {"mood": "calm", "draft": None}})

    metadata: Metadata
