"""The index on Milvus, for more than one machine: nothing is kept in this process, so replicas share one Milvus."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from index import cursors
from index.backend import Store
from index.errors import (
    CollectionNotFound,
    DimensionMismatch,
    InvalidInput,
    ItemNotFound,
    MediaNotKept,
    StorageFailed,
    StoreClosed,
)
from index.filters import Filter
from index.milvus.aliases import Homes
from index.milvus.connection import Link, MilvusSettings
from index.milvus.media import SharedMedia
from index.milvus.reads import Home, Reads, Version
from index.milvus.search import Search
from index.milvus.transaction_log import Log
from index.milvus.writes import Superseded, Tidying, Writes, now
from index.types import CollectionInfo, CollectionKind, Hit, Item, Limits, NewItem, NewSegment, Vector
from index.validate import (
    check_collection_name,
    check_count,
    check_distinct,
    check_identity,
    check_item,
    check_text,
    check_vector,
    is_item_id,
    patched_metadata,
)

MAX_DIM = 32_768
MAX_BATCH = 1000
_PATCH_TRIES = 20


class MilvusStore:
    """Collections in a Milvus server, or in Milvus Lite. Calls are described in `index.backend.Store`.

    What is acknowledged is in Milvus' log, and every search, of any replica, sees it. What is promised of changes that
    happen at once is in docs/scale.md.
    """

    kinds_at_hand: ClassVar[bool] = False

    def __init__(self, settings: MilvusSettings, *, media: Path | None = None, limits: Limits | None = None) -> None:
        """Connect, and make what is missing.

        Args:
            settings: where Milvus is.
            media: folder of the original audio, the same one for all replicas; None keeps none.
            limits: bounds on what one item may hold.

        Raises:
            MilvusUnavailable: the `scale` extra is not installed.
            StorageFailed: Milvus or the folder can't be used.
        """
        self._limits = limits or Limits()
        self._media = SharedMedia(media) if media is not None else None
        self._link = Link(settings)
        self._log = Log(self._link, settings)
        self._homes = Homes(self._link, self._log, self._media, settings.prefix)
        self._reads = Reads(self._link, self._log, settings)
        self._search = Search(self._link, self._reads)
        self._writes = Writes(self._link, self._log, self._reads, settings, self._media)
        self.tidying = Tidying(self._log, self._writes, settings, self._homes.forget_if_gone)
        self._calls = threading.Condition()
        self._running = 0
        self._closed = False
        self.tidying.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._calls:
            if self._closed:
                return
            self._closed = True
            self._calls.wait_for(lambda: not self._running)
        self.tidying.stop()
        self._link.close()

    def create_collection(
        self, name: str, *, dim: int, identity: str, description: str = ""
    ) -> tuple[CollectionInfo, bool]:
        with self._call():
            check_collection_name(name)
            if not 1 <= dim <= MAX_DIM:
                raise InvalidInput("dim", f"must be 1 to {MAX_DIM}", MAX_DIM)
            check_text(identity, "identity", self._limits.max_text_chars)
            check_text(description, "description", self._limits.max_text_chars)
            facts = {"name": name, "dim": dim, "identity": identity, "description": description, "created_at": now()}
            if not self._homes.there(name) and self._homes.make(facts):
                return self._info(name), True
            home = self._homes.find(name)
            check_identity(home.identity, identity)
            if home.dim != dim:
                raise DimensionMismatch(home.dim, dim, "dim")
            if description:
                self._log.set_facts(home.name, {**(self._log.facts(home.name) or facts), "description": description})
            return self._info(name), False

    def get_collection(self, name: str) -> CollectionInfo:
        with self._call():
            return self._info(name)

    def collection_kind(self, name: str) -> CollectionKind:
        with self._call():
            home = self._homes.find(name)
            return CollectionKind(name, home.dim, home.identity)

    def list_collections(self) -> list[CollectionInfo]:
        with self._call():
            names = sorted({facts["name"] for facts in self._log.all_facts().values()})
            there = [name for name in names if self._homes.there(name)]
            return self._link.together(*(partial(self._info, name) for name in there))

    def delete_collection(self, name: str) -> None:
        with self._call(), self._writes.turn:
            home = self._homes.find(name)
            self._homes.remove(name, home)

    def upsert(self, name: str, items: Sequence[NewItem], *, identity: str) -> list[bool]:
        with self._call():
            home = self._homes.find(name)
            check_identity(home.identity, identity)
            if len(items) > MAX_BATCH:
                raise InvalidInput("items", f"more than {MAX_BATCH} at once", MAX_BATCH)
            checked = [check_item(item, home.dim, self._limits, f"items[{i}]") for i, item in enumerate(items)]
            check_distinct(checked)
            with self._writes.turn, self._homes.still(name, home):
                return self._writes.replace(home, checked) if checked else []

    def get_item(self, name: str, item_id: str) -> Item:
        with self._call():
            return self._version(self._homes.find(name), name, item_id).item()

    def get_items(self, name: str, ids: Sequence[str]) -> dict[str, Item]:
        with self._call():
            home = self._homes.find(name)
            with self._homes.still(name, home):
                found = self._reads.versions(home, [*filter(is_item_id, dict.fromkeys(ids))])
            return {item_id: one.item() for item_id, one in found.items()}

    def list_items(
        self, name: str, *, cursor: str | None = None, limit: int = 100, where: Filter | None = None
    ) -> tuple[list[Item], str | None]:
        with self._call():
            check_count(limit, "limit", self._limits.max_page)
            home = self._homes.find(name)
            after = cursors.decode(cursor) if cursor is not None else None
            with self._homes.still(name, home):
                items = self._reads.page(home, after, limit + 1, where)
            more = len(items) > limit
            return items[:limit], cursors.encode(items[limit - 1].id) if more else None

    def patch_metadata(self, name: str, item_id: str, patch: Mapping[str, Any]) -> Item:
        with self._call():
            if not isinstance(patch, Mapping):
                raise InvalidInput("metadata", "must be an object")
            home = self._homes.find(name)
            with self._writes.turn, self._homes.still(name, home):
                for _ in range(_PATCH_TRIES):
                    old = self._version(home, name, item_id)
                    try:
                        self._writes.replace(home, [self._patched(home, old, patch)], patched=old)
                    except Superseded:
                        continue  # by another replica
                    return self._version(home, name, item_id).item()
            raise StorageFailed("the item changes faster than it can be patched; ask again")

    def delete_item(self, name: str, item_id: str) -> None:
        with self._call():
            home = self._homes.find(name)
            with self._writes.turn, self._homes.still(name, home):
                self._writes.delete(home, self._version(home, name, item_id))

    def item_vectors(self, name: str, item_id: str) -> Vector:
        with self._call():
            home = self._homes.find(name)
            with self._homes.still(name, home):
                return self._reads.segments(home, self._version(home, name, item_id))[1]

    def media_path(self, name: str, item_id: str) -> tuple[Path, str]:
        with self._call():
            home = self._homes.find(name)
            info = self._version(home, name, item_id).info
            if self._media is None or info["media"] is None:
                raise MediaNotKept(name, item_id)
            path = self._media.path(home.name, info["media"])
            if not path.is_file():
                raise MediaNotKept(name, item_id)
            return path, info["media_type"]

    def content_hashes(self, name: str, ids: Sequence[str] | None = None) -> dict[str, str]:
        with self._call():
            home = self._homes.find(name)
            with self._homes.still(name, home):
                if ids is None:
                    found = self._reads.every(home)
                else:
                    found = [*self._reads.versions(home, [*filter(is_item_id, dict.fromkeys(ids))]).values()]
            return {one.item_id: one.info["content_sha256"] for one in found}

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
        with self._call():
            check_count(top_k, "top_k", self._limits.max_top_k)
            home = self._homes.find(name)
            with self._homes.still(name, home):
                return self._search.run(
                    home,
                    check_vector(query, home.dim, "query"),
                    top_k=top_k,
                    where=where,
                    min_score=min_score,
                    exclude_ids=[*filter(is_item_id, exclude_ids)],
                    effort=effort,
                    with_vectors=with_vectors,
                )

    def _patched(self, home: Home, old: Version, patch: Mapping[str, Any]) -> NewItem:
        metadata = patched_metadata(old.info["metadata"], patch, self._limits)
        places, vectors = self._reads.segments(home, old)
        segments = [NewSegment(start, end, vector) for (start, end), vector in zip(places, vectors, strict=True)]
        info = old.info
        return NewItem(old.item_id, segments, metadata, info["duration_s"], info["content_sha256"], info["filename"])

    def _version(self, home: Home, collection: str, item_id: str) -> Version:
        # Others are not asked for: not every string can be.
        with self._homes.still(collection, home):
            if not is_item_id(item_id):
                raise ItemNotFound(collection, item_id)
            return self._reads.version(home, collection, item_id)

    def _info(self, name: str) -> CollectionInfo:
        home = self._homes.find(name)
        with self._homes.still(name, home):
            (items, segments, fields), facts = self._link.together(
                lambda: self._reads.counts(home), lambda: self._log.facts(home.name)
            )
            if facts is None:
                raise CollectionNotFound(name)
        return CollectionInfo(
            **{name: facts[name] for name in ("name", "dim", "identity", "description", "created_at")},
            items=items,
            segments=segments,
            metadata_fields=fields,
        )

    @contextmanager
    def _call(self) -> Iterator[None]:
        with self._calls:
            if self._closed:
                raise StoreClosed("the store was closed")
            self._running += 1
        try:
            yield
        finally:
            with self._calls:
                self._running -= 1
                self._calls.notify_all()


if TYPE_CHECKING:
    _conforms: type[Store] = MilvusStore
