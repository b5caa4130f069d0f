"""Shards of embeddings into a collection of any backend: resumable, and only of the collection's own identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from index.backend import Store
from index.errors import IdentityMismatch, InvalidInput
from index.exchange import parquet
from index.exchange.reconcile import metadata_patch, reconcile
from index.types import Item, NewItem


@dataclass
class LoadReport:
    """What a load did, in items; `relabelled` are those whose content was there with other metadata."""

    added: int = 0
    replaced: int = 0
    relabelled: int = 0
    unchanged: int = 0


def load(
    store: Store,
    collection: str,
    files: Sequence[Path],
    *,
    batch: int = 256,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> LoadReport:
    """Upsert the items of Parquet files, `batch` at a time; the collection is made if it is not there.

    Items that are there with the same content and metadata are left as they are, so that a load that was cut off goes
    on. A row without metadata says nothing about its clip: what the collection has stays. Before anything is written
    all files are looked at. `tick(items done, items)`.

    Raises:
        IdentityMismatch, DimensionMismatch: a file is of another kind than the collection, or than another file.
        InvalidInput: no files, or one that is none of ours or holds an item that may not be stored.
    """
    if not files:
        raise InvalidInput("files", "there are none")
    found = [parquet.facts(path) for path in files]
    identity, dim = found[0].identity, found[0].dim
    for facts in found:
        if facts.identity != identity:
            raise IdentityMismatch(identity, facts.identity)
    store.create_collection(collection, dim=dim, identity=identity)
    report, done, rows = LoadReport(), 0, sum(facts.rows for facts in found)
    for path in files:
        for items in parquet.read(path, dim=dim, identity=identity, batch=batch):
            stored = store.get_items(collection, [item.id for item in items])
            try:
                _load(store, collection, items, stored, report, identity)
            except InvalidInput as error:
                raise InvalidInput(f"{path.name}: {error.field}", error.message, error.limit) from error
            done += len(items)
            tick(done, rows)
    return report


def _load(
    store: Store, collection: str, items: Sequence[NewItem], stored: dict[str, Item], report: LoadReport, identity: str
) -> None:
    fresh: list[NewItem] = []
    relabelled: list[NewItem] = []
    for item in items:
        old = stored.get(item.id)
        known = None if old is None else (old.content_sha256, old.metadata)
        decision = reconcile(known, item.content_sha256, item.metadata or None)
        labelled = replace(item, metadata=decision.metadata)
        if decision.new_content:
            fresh.append(labelled)
        elif decision.outcome == "relabelled":
            relabelled.append(labelled)
    # Written anew in one go, since a backend may take as long for one edit; but a shard holds no audio to keep.
    edited = [item for item in relabelled if stored[item.id].has_media]
    written = [*fresh, *(item for item in relabelled if not stored[item.id].has_media)]
    created = store.upsert(collection, written, identity=identity)
    for item in edited:
        store.patch_metadata(collection, item.id, metadata_patch(stored[item.id].metadata, item.metadata))
    report.added += sum(created)
    report.replaced += len(fresh) - sum(created)
    report.relabelled += len(relabelled)
    report.unchanged += len(items) - len(fresh) - len(relabelled)
