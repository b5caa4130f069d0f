"""What goes into the index and comes out of it: plain frozen values, shared by every backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
"""[D] or [n, D] float32."""
Ids = npt.NDArray[np.int64]
"""[n] int64 keys of segments."""
JsonScalar = str | bool | int | float | None
JsonValue = JsonScalar | list[JsonScalar]
Metadata = Mapping[str, JsonValue]


@dataclass(frozen=True)
class Limits:
    """Bounds on what one item may hold; every one can be raised by whoever opens the store.

    Attributes:
        max_fields: metadata fields an item.
        max_field_chars: characters of a field's name.
        max_text_chars: characters of one metadata string.
        max_list: elements of one metadata list.
        max_metadata_bytes: bytes of an item's metadata, as compact JSON in UTF-8.
        max_segments: segments (windows) an item.
        max_top_k: hits a search may ask for.
        max_page: items a listing may return at once.
    """

    max_fields: int = 64
    max_field_chars: int = 128
    max_text_chars: int = 8192
    max_list: int = 256
    max_metadata_bytes: int = 16 * 1024
    max_segments: int = 100_000
    max_top_k: int = 10_000
    max_page: int = 10_000


@dataclass(frozen=True)
class NewSegment:
    """One embedded stretch of a clip: [start_s, end_s] seconds, vector [D] float32 of unit length."""

    start_s: float
    end_s: float
    vector: Vector


@dataclass(frozen=True)
class MediaBlob:
    """The clip as it was received, to be played back: bytes and their media type ("audio/flac")."""

    data: bytes
    media_type: str


@dataclass(frozen=True)
class NewItem:
    """A clip to add or replace.

    Attributes:
        id: 1 to 256 characters without "/" or control characters; unique in its collection.
        segments: at least one.
        metadata: field name to string, bool, number, null, or a list of these; nothing nested.
        duration_s: seconds.
        content_sha256: 64 hex digits over the received bytes; tells a resumed ingest what is already there.
        filename: the name the caller gave, if any.
        media: the original bytes, kept only by a store with keep_media.
    """

    id: str
    segments: Sequence[NewSegment]
    metadata: Metadata
    duration_s: float
    content_sha256: str
    filename: str | None = None
    media: MediaBlob | None = None


@dataclass(frozen=True)
class Item:
    """A stored clip, without its vectors. `segments` is their number; times are RFC 3339 in UTC."""

    id: str
    metadata: dict[str, JsonValue]
    duration_s: float
    content_sha256: str
    filename: str | None
    media_type: str | None
    has_media: bool
    segments: int
    created_at: str
    updated_at: str


@dataclass(frozen=True)
class Hit:
    """An item found, with its best segment's cosine (`score`, -1 to 1) and place in seconds.

    `vector`: [D] of that segment, where the search asked for it.
    """

    item_id: str
    score: float
    start_s: float
    end_s: float
    duration_s: float
    metadata: dict[str, JsonValue]
    filename: str | None
    has_media: bool
    vector: Vector | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class CollectionKind:
    """A speech library and what its vectors are: all that most calls need to know of it, and never changing."""

    name: str
    dim: int
    identity: str


@dataclass(frozen=True)
class CollectionInfo(CollectionKind):
    """A speech library: what its vectors are, how much it holds, and which metadata fields its items have."""

    description: str
    items: int
    segments: int
    created_at: str
    metadata_fields: list[str]
