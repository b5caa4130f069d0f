"""Shards of embeddings into a collection of any backend: resumable, and only of the collection's own identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from index import parquet
from index.backend import Store
from index.errors import IdentityMismatch, InvalidInput


@dataclass
class LoadReport:
    """What a load did, in items."""

    added: int = 0
    replaced: int = 0
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

    Items that are there with the same content are left as they are, so that a load that was cut off goes on. Before
    anything is written all files are looked at. `tick(items done, items)`.

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
            known = store.content_hashes(collection, [item.id for item in items])
            fresh = [item for item in items if known.get(item.id) != item.content_sha256]
            try:
                created = store.upsert(collection, fresh, identity=identity)
            except InvalidInput as error:
                raise InvalidInput(f"{path.name}: {error.field}", error.message, error.limit) from error
            report.added += sum(created)
            report.replaced += len(created) - sum(created)
            report.unchanged += len(items) - len(fresh)
            done += len(items)
            tick(done, rows)
    return report
