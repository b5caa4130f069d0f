"""Snapshots of built indexes: written beside and renamed, checked by checksum, bound to one catalog and identity.

A snapshot is a cache: whatever is wrong with it, it is left out and the index is built anew from the catalog.

    index/<collection>.json            what it is of, and the checksums of the file it names; renamed into place last
    index/<collection>-<number>.faiss  the inverted lists; never changed once named
"""

from __future__ import annotations

import json
import logging
import uuid
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import numpy as np

from index.ann.ivf import FrozenFacts, FrozenIndex
from index.local.catalog import CollectionRow, catalog_name, last_segment
from index.local.database import storage_errors
from index.local.segments import stored_vectors
from index.storage.durable_files import checksums, fsync_file, fsync_folder

FORMAT = 1
# Vectors whose bytes are noted, to be compared with the catalog's when the snapshot is loaded.
_SPOT_CHECKS = 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Binding:
    """What a snapshot's codes mean anything for; all of it must be the same when it is loaded."""

    catalog: str
    collection: int
    dim: int
    identity: str


def binding(connection: Connection, row: CollectionRow) -> Binding:
    return Binding(catalog_name(connection), row.pk, row.dim, row.identity)


class SnapshotFolder:
    """The `index/` folder of a data folder. Callers write and load one collection by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage_errors():
            folder.mkdir(parents=True, exist_ok=True)

    def beside(self, row: CollectionRow) -> Path:
        """A new name for a file for `publish`: in the folder, and swept away if a kill leaves it there."""
        return self._folder / f"{row.pk}-{uuid.uuid4().hex}.tmp"

    def write(self, connection: Connection, row: CollectionRow, frozen: FrozenIndex) -> int:
        """Make `frozen` the collection's snapshot; returns its bytes. A kill at any point leaves the old or the new.

        Raises:
            StorageFailed: the disk refused; the old snapshot stays.
        """
        beside = self.beside(row)
        with storage_errors():
            try:
                frozen.write(beside)
                return self.publish(connection, row, frozen, beside)
            finally:
                beside.unlink(missing_ok=True)

    def publish(self, connection: Connection, row: CollectionRow, frozen: FrozenIndex, file: Path) -> int:
        """As `write`, of the file that already holds `frozen`; it is gone afterwards, whatever happens."""
        old = self._manifest(row.pk)
        number = int(old["number"]) + 1 if old else 1
        target = self._folder / f"{row.pk}-{number}.faiss"
        with storage_errors():
            try:
                fsync_file(file)
                manifest = self._describe(connection, row, frozen, file, number)
                file.replace(target)
                self._write_manifest(row.pk, manifest)
            finally:
                file.unlink(missing_ok=True)
            self._sweep(row.pk, keep=target.name)
        return target.stat().st_size

    def update_facts(self, row: CollectionRow, facts: FrozenFacts) -> None:
        """Note a new effort in the snapshot there is, if any. Raises StorageFailed."""
        manifest = self._manifest(row.pk)
        if manifest is not None:
            with storage_errors():
                self._write_manifest(row.pk, {**manifest, "facts": asdict(facts)})

    def load(self, connection: Connection, row: CollectionRow) -> FrozenIndex | None:
        """The collection's snapshot; None if there is none that can be trusted, and the log says why."""
        manifest = self._manifest(row.pk)
        if manifest is None:
            return None
        try:
            return self._load(connection, row, manifest)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            _log.warning("index snapshot of collection %r is not used and will be rebuilt: %s", row.name, error)
            # What was refused once must not be believed later, when the catalog has grown past it.
            self.remove(row.pk)
            return None

    def facts(self, collection: int) -> FrozenFacts | None:
        """What the collection's snapshot says of its index; None if there is none."""
        manifest = self._manifest(collection)
        return FrozenFacts.from_json(manifest["facts"]) if manifest else None

    def remove(self, collection: int) -> None:
        """Forget a collection's snapshot."""
        with suppress(OSError):
            (self._folder / f"{collection}.json").unlink(missing_ok=True)
            self._sweep(collection)

    def sweep(self, collections: set[int]) -> None:
        """Remove what a kill left half-written, and snapshots of collections that are gone."""
        with suppress(OSError):
            for file in self._folder.iterdir():
                owner = file.name.partition(".")[0].partition("-")[0]
                if file.suffix == ".tmp" or not (owner.isdecimal() and int(owner) in collections):
                    file.unlink(missing_ok=True)

    def _load(self, connection: Connection, row: CollectionRow, manifest: dict[str, Any]) -> FrozenIndex:
        expected = asdict(binding(connection, row))
        if manifest["binding"] != expected:
            differing = sorted(key for key, value in expected.items() if manifest["binding"].get(key) != value)
            raise ValueError(f"it is of another {', '.join(differing)}")
        if manifest["last_key"] > last_segment(connection):
            raise ValueError("it is ahead of the catalog, which must have been put back to an older state")
        if _spots(connection, [int(key) for key in manifest["spots"]]).items() - manifest["spots"].items():
            raise ValueError("its vectors are not the catalog's")
        path = self._folder / manifest["file"]
        if path.stat().st_size != manifest["bytes"] or checksums(path) != manifest["checksums"]:
            raise ValueError(f"{path.name} is damaged")
        frozen = FrozenIndex.read(path, FrozenFacts.from_json(manifest["facts"]))
        if (frozen.dim, len(frozen)) != (row.dim, manifest["vectors"]):
            raise ValueError(f"{path.name} holds {len(frozen)} vectors of {frozen.dim} dimensions")
        return frozen

    def _describe(
        self, connection: Connection, row: CollectionRow, frozen: FrozenIndex, path: Path, number: int
    ) -> dict[str, Any]:
        keys = frozen.keys
        chosen = np.linspace(0, max(0, len(keys) - 1), min(len(keys), _SPOT_CHECKS)).astype(int)
        return {
            "format": FORMAT,
            "number": number,
            "binding": asdict(binding(connection, row)),
            "last_key": int(keys[-1]) if len(keys) else 0,
            "spots": _spots(connection, keys[chosen].tolist()),
            "vectors": len(frozen),
            "facts": asdict(frozen.facts),
            "file": f"{row.pk}-{number}.faiss",
            "bytes": path.stat().st_size,
            "checksums": checksums(path),
        }

    def _write_manifest(self, collection: int, manifest: dict[str, Any]) -> None:
        body = json.dumps(manifest, separators=(",", ":"))
        path = self._folder / f"{collection}.json"
        beside = path.with_suffix(".json.tmp")
        try:
            beside.write_text(f"{zlib.crc32(body.encode()):08x} {body}", "utf-8")
            fsync_file(beside)
            beside.replace(path)
            fsync_folder(self._folder)
        finally:
            beside.unlink(missing_ok=True)

    def _manifest(self, collection: int) -> dict[str, Any] | None:
        path = self._folder / f"{collection}.json"
        try:
            checksum, _, body = path.read_text("utf-8").partition(" ")
            if f"{zlib.crc32(body.encode()):08x}" != checksum:
                raise ValueError("its checksum is wrong")
            manifest: dict[str, Any] = json.loads(body)
            if manifest["format"] != FORMAT:
                raise ValueError(f"it has format {manifest['format']}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            _log.warning("%s is not used, and its index will be rebuilt: %s", path, error)
            return None
        return manifest

    def _sweep(self, collection: int, keep: str = "") -> None:
        for file in self._folder.glob(f"{collection}-*"):
            if file.name != keep:
                file.unlink(missing_ok=True)


def _spots(connection: Connection, keys: list[int]) -> dict[str, int]:
    """Checksum of the catalog's vector by key, of those keys that exist."""
    return {str(key): zlib.crc32(blob) for key, blob in stored_vectors(connection, keys)}
