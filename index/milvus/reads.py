"""Reads of one collection in Milvus, each as of one moment: half of a change is never seen, whoever writes."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from index.errors import ItemNotFound, StorageFailed, UnknownField
from index.filters import Filter, filter_fields
from index.milvus.connection import MAX_HITS, Link, MilvusSettings
from index.milvus.rows import Row, after_item, has, hex_id, holds, key, text_id, to_expression
from index.milvus.transaction_log import Log, View
from index.types import Item, Vector

T = TypeVar("T")
_HEAD = ("item", "owner", "txn", "made", "info")
_TRIES = 50
_IDS = 500
_VECTORS = 4096
_SETTLED = 100_000


@dataclass(frozen=True)
class Home:
    """Where a collection lives in Milvus, and what its vectors are."""

    name: str
    dim: int
    identity: str


@dataclass(frozen=True)
class Version:
    """One version of an item: the number that its rows share, when it was made, and what is shown of it."""

    item_id: str
    owner: int
    made: int
    info: dict[str, Any]

    def item(self) -> Item:
        info = self.info
        return Item(
            id=self.item_id,
            metadata=info["metadata"],
            duration_s=info["duration_s"],
            content_sha256=info["content_sha256"],
            filename=info["filename"],
            media_type=info["media_type"],
            has_media=info["media"] is not None,
            segments=info["segments"],
            created_at=info["created_at"],
            updated_at=info["updated_at"],
        )


@dataclass
class Pass:
    """One attempt at a read: what it may see, and the changes whose rows it met."""

    view: View
    met: set[int] = field(default_factory=set)

    def meet(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.met.add(row["txn"])
            yield row


class Reads:
    """Everything that is asked of a collection."""

    def __init__(self, link: Link, log: Log, settings: MilvusSettings) -> None:
        self._link, self._log, self._settings = link, log, settings
        # Changes that are known to be committed, each since when: a view that was taken later has them, and the log
        # need not be asked again for rows of theirs.
        self._settled: dict[int, float] = {}
        self._settling = threading.Lock()

    def versions(self, home: Home, ids: Sequence[str]) -> dict[str, Version]:
        """The present version of each of the items that exist."""
        return self.at_once(home, lambda read: _newest(self._heads(home, read, ids)))

    def beaten(self, home: Home, ids: Sequence[str]) -> list[Version]:
        """Versions that a newer one of the same item, written at the same time elsewhere, should have ended."""

        def older(read: Pass) -> list[Version]:
            versions = [*self._heads(home, read, ids)]
            winners = {one.owner for one in _newest(versions).values()}
            return [one for one in versions if one.owner not in winners]

        return self.at_once(home, older)

    def version(self, home: Home, collection: str, item_id: str) -> Version:
        """Raises ItemNotFound."""
        found = self.versions(home, [item_id])
        if not found:
            raise ItemNotFound(collection, item_id)
        return found[item_id]

    def page(self, home: Home, after: str | None, limit: int, where: Filter | None) -> list[Item]:
        """At most `limit` items by id, those after `after`, that pass the filter. Raises UnknownField."""

        def listed(read: Pass) -> list[Item]:
            self.check_fields(home, read, where)
            expression = "ordinal == 0" if where is None else f"ordinal == 0 and ({to_expression(where)})"
            found: dict[str, Version] = {}
            start, more = after_item(after) if after is not None else "", True
            # One more than wanted: only then have all versions of the last one been seen.
            while more and len(found) <= limit:
                wanted = min(limit - len(found) + 1, MAX_HITS)
                sought = read.view.seeing(f'{expression} and pk > "{start}"')
                rows = [*read.meet(self._link.scan(home.name, sought, _HEAD, limit=wanted))]
                more = len(rows) == wanted
                for version in map(_version, rows):
                    held = found.get(version.item_id)
                    if held is None or _order(version) > _order(held):
                        found[version.item_id] = version
                if rows:
                    start = key(rows[-1]["item"], rows[-1]["owner"], 0)
            return [found[item_id].item() for item_id in sorted(found)[:limit]]

        return self.at_once(home, listed)

    def every(self, home: Home) -> list[Version]:
        """The present version of every item."""

        def all_of_them(read: Pass) -> list[Version]:
            rows = self._link.scan(home.name, read.view.seeing("ordinal == 0"), _HEAD)
            return list(_newest(map(_version, read.meet(rows))).values())

        return self.at_once(home, all_of_them)

    def counts(self, home: Home) -> tuple[int, int, list[str]]:
        """Items, segments, and the metadata fields that items have."""

        def counted(read: Pass) -> tuple[int, int, list[str]]:
            wanted = [read.view.seeing(what) for what in ("ordinal == 0", "ordinal >= 0")]
            counts = [partial(self._link.count, home.name, one) for one in wanted]
            items, segments, known = self._link.together(*counts, lambda: self._log.fields(home.name))
            fields = self._held(home, read, known)
            # Numbers do not tell whose rows they count: whatever was committed since is taken for counted.
            later = self._log.view(home.name)
            read.met |= later.committed | later.hidden
            read.met -= read.view.hidden
            return items, segments, fields

        return self.at_once(home, counted)

    def segments(self, home: Home, version: Version) -> tuple[list[tuple[float, float]], Vector]:
        """Places in seconds and vectors [segments, D] of a version, in order."""
        fields, count = ("ordinal", "start_s", "end_s", "vector"), version.info["segments"]
        rows: list[Row] = []
        for start in range(0, count, _VECTORS):
            part = f"owner in [{version.owner}] and ordinal >= {start} and ordinal < {start + _VECTORS}"
            rows += self._link.find(home.name, part, fields)
        if len(rows) != count:
            raise StorageFailed("the item was replaced while it was read; ask again")
        rows.sort(key=lambda row: row["ordinal"])
        vectors = np.array([row["vector"] for row in rows], np.float32).reshape(len(rows), home.dim)
        return [(row["start_s"], row["end_s"]) for row in rows], vectors

    def _heads(self, home: Home, read: Pass, ids: Sequence[str]) -> Iterator[Version]:
        parts = [[*map(hex_id, ids[start : start + _IDS])] for start in range(0, len(ids), _IDS)]
        wanted = [read.view.seeing(f"ordinal == 0 and item in {json.dumps(part)}") for part in parts]
        for rows in self._link.together(*(partial(self._link.find, home.name, one, _HEAD) for one in wanted)):
            yield from map(_version, read.meet(rows))

    def check_fields(self, home: Home, read: Pass, where: Filter | None) -> None:
        """Raise UnknownField if the filter names a field that no item of the collection has."""
        named = [] if where is None else [*filter_fields(where)]
        held = self._held(home, read, named)
        for name in named:
            if name not in held:
                raise UnknownField(name, self._held(home, read, self._log.fields(home.name)))

    def _held(self, home: Home, read: Pass, names: Sequence[str]) -> list[str]:
        held = self._link.together(*(partial(self._has_field, home, read, name) for name in names))
        return [name for name, there in zip(names, held, strict=True) if there]

    def _has_field(self, home: Home, read: Pass, name: str) -> bool:
        sought = read.view.seeing(f"ordinal == 0 and {holds(has(name))}")
        return any(read.meet(self._link.find(home.name, sought, ("txn",), limit=1)))

    def at_once(self, home: Home, run: Callable[[Pass], T]) -> T:
        """Run a read of one moment: again, without the rows of changes that it should not have met, if it met any."""
        view = self._log.view(home.name)
        for _ in range(_TRIES):
            read = Pass(view)
            error: UnknownField | None = None
            try:
                result = run(read)
            except UnknownField as caught:
                error = caught
            except TooLateError:
                view = self._log.view(home.name)
                continue
            doubtful = {txn for txn in read.met - view.committed if self._settled.get(txn, math.inf) >= view.taken}
            unmeant = set()
            if doubtful:
                later = self._log.view(home.name)
                unmeant = doubtful & (later.committed | later.hidden)
            if time.monotonic() - view.taken > self._settings.grace_s:
                view = self._log.view(home.name)
                continue
            if not unmeant:
                self._settle(read.met)
                if error is not None:
                    raise error
                return result
            view = view.without(unmeant)
        raise StorageFailed("Milvus changes faster than it answers; ask again")

    def _settle(self, committed: set[int]) -> None:
        known = time.monotonic()
        with self._settling:
            for txn in committed - self._settled.keys():
                self._settled[txn] = known
            while len(self._settled) > _SETTLED:
                self._settled.pop(next(iter(self._settled)))


class TooLateError(Exception):
    """What was found has been removed since: the read took longer than it may."""


def _version(row: Row) -> Version:
    return Version(text_id(row["item"]), row["owner"], row["made"], json.loads(row["info"]))


def _order(version: Version) -> tuple[int, int]:
    return version.made, version.owner


def _newest(versions: Iterable[Version]) -> dict[str, Version]:
    return {one.item_id: one for one in sorted(versions, key=_order)}
