"""Changes to the items of one collection in Milvus: each whole or not at all; what dead writers left is removed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from index.errors import StorageFailed
from index.milvus.connection import Link, MilvusSettings
from index.milvus.media import SharedMedia
from index.milvus.reads import Home, Reads, Version
from index.milvus.rows import Row, new_id, rows_of
from index.milvus.transaction_log import Change, Log
from index.types import NewItem

_DROP_OWNERS = 500


class Superseded(Exception):  # noqa: N818
    """The version that a patch was made from is no longer the item's: begin again."""


class Writes:
    """Writes of this process take turns; of several writers of one item in several processes the last one holds."""

    def __init__(self, link: Link, log: Log, reads: Reads, settings: MilvusSettings, media: SharedMedia | None) -> None:
        self._link, self._log, self._reads, self._settings = link, log, reads, settings
        self._media = media
        self.turn = threading.Lock()
        """Held around whatever reads, decides and writes."""

    def replace(self, home: Home, items: Sequence[NewItem], *, patched: Version | None = None) -> list[bool]:
        """Write checked items in the place of those of their ids; True for each that is new. Call it in turn.

        `patched` is the version that a patch is made from: its audio and its first time carry over.
        """
        began = time.monotonic()
        old = self._reads.versions(home, [item.id for item in items])
        if patched and [one.owner for one in old.values()] != [patched.owner]:
            raise Superseded
        txn, made = new_id(), _stamp(old.values())
        owners = [new_id() for _ in items]
        kept = [self._media is not None and item.media is not None for item in items]
        media = [f"{owner:016x}" for owner, keep in zip(owners, kept, strict=True) if keep]
        rows: list[Row] = []
        for place, (item, owner, keep) in enumerate(zip(items, owners, kept, strict=True)):
            info = _info(item, f"{owner:016x}" if keep else None, old.get(item.id), patched)
            place_name = f"items[{place}]"
            rows += rows_of(item, owner=owner, txn=txn, made=made, info=info, place=place_name)
        change = Change(home.name, txn, media=media)
        self._log.add_fields(home.name, (name for item in items for name in item.metadata))
        self._log.write(change)
        try:
            for item, owner, keep in zip(items, owners, kept, strict=True):
                if keep and self._media is not None and item.media is not None:
                    self._media.keep(home.name, f"{owner:016x}", item.media.data)
            self._link.insert(home.name, rows)
            if time.monotonic() - began > self._settings.abandoned_s / 2:
                raise StorageFailed("Milvus took too long for one change: nothing of it was stored")
        except BaseException:
            with suppress(StorageFailed):  # else it stays out of sight until it counts as abandoned
                self.undo(change)
            raise
        gone = list(old.values())
        drop_media = [] if patched else [one.info["media"] for one in gone if one.info["media"]]
        self._commit(replace(change, committed=True, drops=[one.owner for one in gone], drop_media=drop_media))
        self._resolve(home, [item.id for item in items])
        return [item.id not in old for item in items]

    def delete(self, home: Home, version: Version) -> None:
        """End an item. Call it in turn."""
        media = [version.info["media"]] if version.info["media"] else []
        self._log.drop(home.name, [version.owner], media)

    def tidy(self, change: Change) -> None:
        """Remove what a change left behind that no reader can see any more, and the change."""
        if not change.committed and not change.undone:
            self.undo(change)
            return
        for start in range(0, len(change.drops), _DROP_OWNERS):
            self._link.delete(change.home, f"owner in {change.drops[start : start + _DROP_OWNERS]}")
        if self._media is not None:
            self._media.remove(change.home, change.drop_media)
        # Last: until then the log keeps those rows out of sight.
        self._log.forget(change)

    def undo(self, change: Change) -> None:
        """Remove the rows of a change that was not committed; a reader that saw one still finds it in the log."""
        self._link.delete(change.home, f"txn in [{change.txn}]")
        if self._media is not None:
            self._media.remove(change.home, change.media)
        self._log.write(replace(change, undone=True))

    def _commit(self, change: Change) -> None:
        try:
            self._log.write(change)
        except StorageFailed:
            # The answer was lost, or the write: the log knows which. If it can't be asked, nothing is undone here:
            # what is pending stays out of sight, and is removed when it counts as abandoned.
            recorded = self._log.state(change)
            if recorded is None or not recorded.committed:
                raise

    def _resolve(self, home: Home, ids: Sequence[str]) -> None:
        """Another process may have written the same items at the same time: end all versions but the newest."""
        beaten = self._reads.beaten(home, ids)
        if beaten:
            winners = {one.info["media"] for one in self._reads.versions(home, ids).values()}
            media = {one.info["media"] for one in beaten if one.info["media"]} - winners
            self._log.drop(home.name, [one.owner for one in beaten], sorted(media))


class Tidying:
    """A thread that removes leftovers, of any replica, once it has itself seen them for long enough."""

    def __init__(self, log: Log, writes: Writes, settings: MilvusSettings, forget_home: Callable[[str], bool]) -> None:
        self._log, self._writes, self._settings, self._forget_home = log, writes, settings, forget_home
        self._seen: dict[tuple[str, bool, bool], float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="milvus-tidying", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def once(self, *, wait: bool = True) -> int:
        """Remove what is due; returns how many changes. Clocks of machines are not compared: only own ones count.

        Without `wait` everything is due: for when nobody reads or writes.
        """
        now, done = time.monotonic(), 0
        changes = self._log.changes()
        keys = {_state(change) for change in changes}
        self._seen = {key: since for key, since in self._seen.items() if key in keys}
        for change in changes:
            since = self._seen.setdefault(_state(change), now)
            over = change.committed or change.undone
            due_s = self._settings.grace_s if over else self._settings.abandoned_s
            if not wait or now - since >= due_s:
                if not self._forget_home(change.home):
                    self._writes.tidy(change)
                done += 1
        return done

    def _run(self) -> None:
        while not self._stopping.wait(max(0.05, self._settings.grace_s / 3)):
            try:
                self.once()
            except StorageFailed:
                continue  # The next round will do; until then leftovers only take room.


def _state(change: Change) -> tuple[str, bool, bool]:
    return change.pk, change.committed, change.undone


def now() -> str:
    """RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stamp(old: Iterable[Version]) -> int:
    """Later than every version that it replaces, whatever the clocks of other machines say."""
    return max([time.time_ns(), *(one.made + 1 for one in old)])


def _info(item: NewItem, media: str | None, old: Version | None, patched: Version | None) -> dict[str, Any]:
    stamp = now()
    own_type = item.media.media_type if media and item.media else None
    return {
        "duration_s": item.duration_s,
        "content_sha256": item.content_sha256,
        "filename": item.filename,
        "media_type": patched.info["media_type"] if patched else own_type,
        "media": patched.info["media"] if patched else media,
        "segments": len(item.segments),
        "created_at": old.info["created_at"] if old else stamp,
        "updated_at": stamp,
    }
