"""What every backend of the index offers, so that a team that outgrows one machine changes a setting, not its code.

LocalStore (SQLite and FAISS, one machine) satisfies it; a server-based backend is to satisfy the same and pass the
same tests. All methods are thread-safe, and a search never sees a part of an upsert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from index.filters import Filter
from index.types import CollectionInfo, CollectionKind, Hit, Item, NewItem, Vector


class Store(Protocol):
    """Collections of items with vectors. Each method documents what it adds to the errors of all:
    CollectionNotFound for an unknown name, StorageFailed when the disk or server refuses, StoreClosed after close.
    """

    kinds_at_hand: ClassVar[bool]
    """Whether `collection_kind` answers from memory, so that an event loop may call it."""

    def create_collection(
        self, name: str, *, dim: int, identity: str, description: str = ""
    ) -> tuple[CollectionInfo, bool]:
        """Make a collection; the same again is no error, and False comes back. A new description replaces the old.

        Raises:
            InvalidName, InvalidInput: name or dim.
            IdentityMismatch, DimensionMismatch: it exists and is of another kind.
        """

    def get_collection(self, name: str) -> CollectionInfo:
        """Facts and counts of one collection."""

    def collection_kind(self, name: str) -> CollectionKind:
        """What one collection's vectors are, without counting anything: cheap enough for every call."""

    def list_collections(self) -> list[CollectionInfo]:
        """All collections by name."""

    def delete_collection(self, name: str) -> None:
        """Remove it and all it holds, media too."""

    def upsert(self, name: str, items: Sequence[NewItem], *, identity: str) -> list[bool]:
        """Add or replace items, all or none; returns after they are durable: True for each that is new.

        Raises:
            IdentityMismatch: the vectors are of another identity than the collection's.
            InvalidInput, DimensionMismatch: an item that may not be stored; names its place in `items`.
        """

    def get_item(self, name: str, item_id: str) -> Item:
        """One item without its vectors. Raises ItemNotFound."""

    def get_items(self, name: str, ids: Sequence[str]) -> dict[str, Item]:
        """Those of `ids` that exist, by id, without their vectors."""

    def list_items(
        self, name: str, *, cursor: str | None = None, limit: int = 100, where: Filter | None = None
    ) -> tuple[list[Item], str | None]:
        """A page of items by id, and the cursor of the next page if there is one.

        Items that are there the whole time appear exactly once over all pages, whatever else changes in between.

        Raises:
            InvalidCursor, InvalidInput (limit), UnknownField.
        """

    def patch_metadata(self, name: str, item_id: str, patch: Mapping[str, Any]) -> Item:
        """Merge a patch into an item's metadata (RFC 7396: null removes). Raises ItemNotFound, InvalidInput."""

    def delete_item(self, name: str, item_id: str) -> None:
        """Remove an item, durably. Raises ItemNotFound."""

    def item_vectors(self, name: str, item_id: str) -> Vector:
        """[segments, D] float32 unit vectors in the order of the clip. Raises ItemNotFound."""

    def media_path(self, name: str, item_id: str) -> tuple[Path, str]:
        """File of the original audio, and its media type. Raises ItemNotFound, MediaNotKept."""

    def content_hashes(self, name: str, ids: Sequence[str] | None = None) -> dict[str, str]:
        """content_sha256 by item id, of all items or of those of `ids` that exist."""

    def search(
        self,
        name: str,
        query: Vector,
        *,
        top_k: int,
        where: Filter | None = None,
        min_score: float | None = None,
        exclude_ids: Sequence[str] = (),
        effort: int | None = None,
        with_vectors: bool = False,
    ) -> list[Hit]:
        """The up to `top_k` distinct items nearest to query [D] (unit), each by its best segment; ties by id.

        Args:
            effort: how many inverted lists an approximate index probes for this search; None for what it was tuned
                to. Scores are exact either way; a small effort may miss hits. Exact indexes ignore it.
            with_vectors: each hit carries the vector [D] of its best segment, of the same moment as its score.

        Raises:
            DimensionMismatch, InvalidInput: query or top_k.
            UnknownField: the filter names a field that no item of the collection has.
        """

    def close(self) -> None:
        """Wait for calls in progress and let the data go; calling it again does nothing."""
