"""The index on one machine: SQLite holds the truth, FAISS mirrors it in memory, and this file keeps the two in step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from sqlite3 import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from index import cursors
from index.ann.plan import IndexSettings
from index.backend import Store
from index.errors import CollectionNotFound, DimensionMismatch, InvalidInput, MediaNotKept
from index.filters import Filter
from index.local import catalog, segments
from index.local.changelog import Change
from index.local.database import Database, storage_errors
from index.local.filter_cache import Matcher, check_fields
from index.local.maintenance import Maintenance
from index.local.media import MediaFolder, StagedMedia
from index.local.mirror import Mirror
from index.local.search import best_hits
from index.local.snapshot import SnapshotFolder
from index.storage.atomic_folder import check_whole
from index.storage.durable_files import fsync_folder
from index.storage.locks import FolderLock
from index.storage.reserve import Reserve
from index.types import CollectionInfo, CollectionKind, Hit, Item, Limits, NewItem, Vector
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

MAX_DIM = 65_536


class LocalStore:
    """A data folder: `catalog.sqlite`, `media/`, `index/`, `lock`. Calls are described in `index.backend.Store`.

    Writers take turns. A change is prepared in a transaction nobody sees, then committed and mirrored into FAISS
    while no search runs: so a search sees all of it or nothing, and a kill loses at most what was not acknowledged.
    """

    kinds_at_hand: ClassVar[bool] = True
    maintenance: Maintenance
    """Builds, tunes and saves the indexes, and says how each collection is indexed."""

    def __init__(
        self,
        folder: Path,
        *,
        keep_media: bool = True,
        limits: Limits | None = None,
        settings: IndexSettings | None = None,
    ) -> None:
        """Open or create the folder and load its vectors.

        Args:
            folder: made if missing; one store owns it at a time.
            keep_media: store the original audio that items bring. Media kept earlier stay either way.
            limits: bounds on what one item may hold.
            settings: how indexes are planned and kept.

        Raises:
            StoreLocked: another store owns the folder.
            StorageFailed: the folder can't be used, or its catalog is damaged or of a newer version.
        """
        self._keep_media = keep_media
        self._limits = limits or Limits()
        self._settings = settings or IndexSettings()
        self._mirror = Mirror()
        with ExitStack() as undo:
            with storage_errors():
                check_whole(folder, catalog.FILE)
                folder.mkdir(parents=True, exist_ok=True)
                self._lock = FolderLock(folder)
            undo.callback(self._lock.release)
            self._media = MediaFolder(folder / "media")
            self._database = Database(folder / catalog.FILE)
            undo.callback(self._database.close)
            fsync_folder(folder)
            self._reserve = Reserve(folder / "reserve")
            snapshots = SnapshotFolder(folder / "index")
            with self._database.snapshot() as connection:
                self._media.sweep(catalog.all_media(connection))
                unbuilt = self._mirror.load(connection, snapshots, self._settings)
            self._matcher = Matcher(self._settings)
            self.maintenance = Maintenance(self._database, self._mirror, snapshots, self._settings)
            for name in unbuilt:
                self.maintenance.rebuild(name)
            self.maintenance.start(background=self._settings.background)
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.maintenance.stop()
        if self._database.close():
            self._mirror.clear()
            self._lock.release()

    def create_collection(
        self, name: str, *, dim: int, identity: str, description: str = ""
    ) -> tuple[CollectionInfo, bool]:
        check_collection_name(name)
        if not 1 <= dim <= MAX_DIM:
            raise InvalidInput("dim", f"must be 1 to {MAX_DIM}", MAX_DIM)
        check_text(identity, "identity", self._limits.max_text_chars)
        check_text(description, "description", self._limits.max_text_chars)
        with self._database.transaction() as connection:
            try:
                row = catalog.collection_row(connection, name)
            except CollectionNotFound:
                catalog.insert_collection(connection, name, dim, identity, description)
                row = catalog.collection_row(connection, name)
                info = catalog.collection_info(connection, name)
                with self._mirror.committing(connection):
                    self._mirror.add(row)
                return info, True
            check_identity(row.identity, identity)
            if row.dim != dim:
                raise DimensionMismatch(row.dim, dim, "dim")
            if description:
                catalog.describe_collection(connection, row.pk, description)
            info = catalog.collection_info(connection, name)
            connection.commit()
            return info, False

    def get_collection(self, name: str) -> CollectionInfo:
        with self._database.snapshot() as connection:
            return catalog.collection_info(connection, name)

    def collection_kind(self, name: str) -> CollectionKind:
        self._database.check_open()
        row, _ = self._mirror.get(name)
        return CollectionKind(row.name, row.dim, row.identity)

    def list_collections(self) -> list[CollectionInfo]:
        with self._database.snapshot() as connection:
            return [catalog.collection_info(connection, row.name) for row in catalog.collection_rows(connection)]

    def delete_collection(self, name: str) -> None:
        self._reserve.for_delete(lambda: self._delete_collection(name))

    def _delete_collection(self, name: str) -> None:
        with self._database.transaction() as connection:
            row = catalog.collection_row(connection, name)
            media = catalog.remove_collection(connection, row.pk)
            with self._mirror.committing(connection):
                self._mirror.drop(row)
            self._matcher.forget(row.pk)
            self.maintenance.forget(row)
            self._drop_unused_media(connection, media)

    def upsert(self, name: str, items: Sequence[NewItem], *, identity: str) -> list[bool]:
        with self._database.snapshot() as connection:
            row = catalog.collection_row(connection, name)
        check_identity(row.identity, identity)
        checked = [check_item(item, row.dim, self._limits, f"items[{i}]") for i, item in enumerate(items)]
        check_distinct(checked)
        staged: list[StagedMedia] = []
        try:
            media = [self._stage(item, staged) for item in checked]
            with self._database.transaction() as connection:
                # The collection may have been deleted and made anew since it was looked up.
                if catalog.collection_row(connection, name) != row:
                    raise CollectionNotFound(name)
                return self._write(connection, row, checked, media)
        finally:
            self._media.discard(staged)

    def get_item(self, name: str, item_id: str) -> Item:
        with self._database.snapshot() as connection:
            return catalog.read_item(connection, catalog.collection_row(connection, name), item_id)

    def get_items(self, name: str, ids: Sequence[str]) -> dict[str, Item]:
        with self._database.snapshot() as connection:
            row = catalog.collection_row(connection, name)
            return catalog.items_named(connection, row, [*filter(is_item_id, ids)])

    def list_items(
        self, name: str, *, cursor: str | None = None, limit: int = 100, where: Filter | None = None
    ) -> tuple[list[Item], str | None]:
        check_count(limit, "limit", self._limits.max_page)
        with self._database.snapshot() as connection:
            row = catalog.collection_row(connection, name)
            if where is not None:
                check_fields(connection, row.pk, where)
            after = cursors.decode(cursor) if cursor is not None else None
            items = catalog.page_of_items(connection, row, after, limit + 1, where)
        more = len(items) > limit
        return items[:limit], cursors.encode(items[limit - 1].id) if more else None

    def patch_metadata(self, name: str, item_id: str, patch: Mapping[str, Any]) -> Item:
        if not isinstance(patch, Mapping):
            raise InvalidInput("metadata", "must be an object")
        with self._database.transaction() as connection:
            row = catalog.collection_row(connection, name)
            old = catalog.read_item(connection, row, item_id).metadata
            pk = catalog.write_metadata(connection, row, item_id, patched_metadata(old, patch, self._limits))
            item = catalog.read_item(connection, row, item_id)
            self._commit(connection, row, Change([pk]))
            return item

    def delete_item(self, name: str, item_id: str) -> None:
        self._reserve.for_delete(lambda: self._delete_item(name, item_id))

    def _delete_item(self, name: str, item_id: str) -> None:
        with self._database.transaction() as connection:
            row = catalog.collection_row(connection, name)
            pk, removed, media = catalog.remove_item(connection, row, item_id)
            self._commit(connection, row, Change([pk], removed))
            self._drop_unused_media(connection, [media])

    def item_vectors(self, name: str, item_id: str) -> Vector:
        with self._database.snapshot() as connection:
            row = catalog.collection_row(connection, name)
            pk, _ = catalog.item_key(connection, row, item_id)
            return segments.item_vectors(connection, pk, row.dim)

    def media_path(self, name: str, item_id: str) -> tuple[Path, str]:
        with self._database.snapshot() as connection:
            row = catalog.collection_row(connection, name)
            _, sha256 = catalog.item_key(connection, row, item_id)
            media_type = catalog.read_item(connection, row, item_id).media_type
        if sha256 is None or media_type is None or not self._media.path(sha256).is_file():
            raise MediaNotKept(name, item_id)
        return self._media.path(sha256), media_type

    def content_hashes(self, name: str, ids: Sequence[str] | None = None) -> dict[str, str]:
        with self._database.snapshot() as connection:
            row = catalog.collection_row(connection, name)
            return catalog.content_hashes(connection, row, None if ids is None else [*filter(is_item_id, ids)])

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
        check_count(top_k, "top_k", self._limits.max_top_k)
        # Commits happen under the same lock, so the snapshot taken inside it is of the same moment as the index.
        with self._mirror.reading(), self._database.snapshot() as connection:
            row, index = self._mirror.get(name)
            searched = check_vector(query, row.dim, "query")
            wanted = self._matcher.wanted(connection, row.pk, index, where, [*filter(is_item_id, exclude_ids)])
            return best_hits(
                connection,
                index,
                searched,
                wanted,
                top_k=top_k,
                min_score=min_score,
                effort=effort or 0,
                with_vectors=with_vectors,
            )

    def _stage(self, item: NewItem, staged: list[StagedMedia]) -> StagedMedia | None:
        if item.media is None or not self._keep_media:
            return None
        staged.append(self._media.stage(item.media.data))
        return staged[-1]

    def _write(
        self,
        connection: Connection,
        row: catalog.CollectionRow,
        items: Sequence[NewItem],
        media: Sequence[StagedMedia | None],
    ) -> list[bool]:
        published = {blob.sha256 for blob in media if blob is not None}
        try:
            for blob in media:
                if blob is not None:
                    self._media.publish(blob)
            written = [
                catalog.write_item(connection, row, item, blob.sha256 if blob else None)
                for item, blob in zip(items, media, strict=True)
            ]
            self._commit(connection, row, Change.of(items, written))
        except BaseException:
            connection.rollback()
            self._drop_unused_media(connection, published)
            raise
        self._drop_unused_media(connection, {one.old_media for one in written})
        return [one.created for one in written]

    def _commit(self, connection: Connection, row: catalog.CollectionRow, change: Change) -> None:
        """Commit, and bring along all that mirrors the catalog."""
        count = catalog.changes(connection, row.pk)
        with self._mirror.committing(connection):
            self._mirror.change(connection, row, change)
            self._matcher.note(row.pk, count, change)
        self.maintenance.changed()

    def _drop_unused_media(self, connection: Connection, hashes: Iterable[str | None]) -> None:
        for sha256 in hashes:
            if sha256 is not None and not catalog.media_in_use(connection, sha256):
                self._media.remove(sha256)


if TYPE_CHECKING:
    _conforms: type[Store] = LocalStore
